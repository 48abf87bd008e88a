#include "perigee/balancing/ejection.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <vector>

using namespace perigee;
using namespace perigee::balancing;
using State = Breaker::State;

namespace {

constexpr EjectionMember kUp{true, false, State::closed};
constexpr EjectionMember kOpen{true, false, State::open};
constexpr EjectionMember kHalf{true, false, State::half_open};
constexpr EjectionMember kDown{false, false, State::closed};
constexpr EjectionMember kDownOpen{false, false, State::open};
constexpr EjectionMember kDraining{true, true, State::closed};

PoolStanding look(std::vector<EjectionMember> pool) { return standing(pool); }

}  // namespace

TEST_CASE("half of the pool at most, and never the last one") {
  CHECK_FALSE(look({}).may_open);
  CHECK_FALSE(look({kUp}).may_open);
  CHECK(look({kUp, kUp}).may_open);
  CHECK_FALSE(look({kUp, kOpen}).may_open);
  CHECK_FALSE(look({kUp, kUp, kOpen}).may_open);
  CHECK(look({kUp, kUp, kUp, kOpen}).may_open);
  CHECK_FALSE(look({kUp, kUp, kOpen, kOpen}).may_open);
  CHECK_FALSE(look({kUp, kUp, kOpen, kHalf}).may_open);
  CHECK_FALSE(look({kUp, kDown}).may_open);
}

TEST_CASE("backends that refuse or fail their probes are no statistics") {
  const PoolStanding s = look({kUp, kUp, kUp, kDownOpen, kDown});
  CHECK(s.members == 5);
  CHECK(s.eligible == 3);
  CHECK(s.opened == 0);
  CHECK(s.may_open);
  CHECK_FALSE(s.panic);
}

TEST_CASE("panic below half: then nothing more opens, and trials may fail in peace") {
  CHECK_FALSE(look({kUp, kDown}).panic);
  CHECK(look({kUp, kDown, kOpen}).panic);
  CHECK(look({kUp, kDown, kDown}).panic);
  CHECK(look({kOpen}).panic);
  const PoolStanding s = look({kUp, kHalf, kDown, kDown});
  CHECK(s.panic);
  CHECK_FALSE(s.allows_opening(State::closed));
  CHECK_FALSE(s.allows_opening(State::half_open));
}

TEST_CASE("a half-open one may open again within the cap, also where no closed one may") {
  const PoolStanding s = look({kUp, kHalf});
  CHECK_FALSE(s.allows_opening(State::closed));
  CHECK(s.allows_opening(State::half_open));
  CHECK_FALSE(look({kUp, kUp, kOpen, kHalf, kUp}).may_open);
  CHECK(look({kUp, kUp, kOpen, kHalf, kUp}).may_reopen);
  CHECK_FALSE(look({kUp, kUp, kUp, kOpen, kOpen, kHalf}).panic);
  CHECK(look({kUp, kUp, kUp, kOpen, kOpen, kHalf}).may_reopen);
  CHECK_FALSE(look({kUp, kUp, kUp, kOpen, kOpen, kOpen}).may_reopen);
}

TEST_CASE("what the operator drains is no part of the pool") {
  CHECK(look({kUp, kDraining}).members == 1);
  CHECK_FALSE(look({kUp, kDraining}).panic);
  CHECK_FALSE(look({kUp, kDraining}).may_open);
  CHECK_FALSE(look({kDraining}).panic);
}

TEST_CASE("a pool of failing backends keeps serving: random events on six of them") {
  Rng rng(42);
  constexpr std::size_t kBackends = 6;
  std::array<Breaker, kBackends> breakers;
  std::array<EjectionMember, kBackends> members;
  std::array<Breaker::Pass, kBackends> out{};
  TimePoint now(std::chrono::seconds(10));
  std::size_t most_open = 0;
  std::size_t panics = 0;
  const auto settle_panic = [&] {
    for (std::size_t i = 0; i < kBackends; ++i) members[i].breaker = breakers[i].state();
    const PoolStanding s = standing(members);
    if (!s.panic) return;
    ++panics;
    for (std::size_t i = 0; i < kBackends; ++i) {
      if (members[i].reachable && members[i].breaker == State::open) breakers[i].half_open_early();
      members[i].breaker = breakers[i].state();
    }
  };
  for (int step = 0; step < 100000; ++step) {
    const std::size_t i = rng.below(kBackends);
    const PoolStanding s = standing(members);
    const std::uint32_t what = rng.below(100);
    if (what < 80) {
      if (breakers[i].admits()) out[i] = breakers[i].begin(now);
      const auto effect = rng.below(10) < 8 ? BreakerEffect::failure : BreakerEffect::success;
      breakers[i].settle(out[i], effect, s.allows_opening(breakers[i].state()), now, rng);
    } else if (what < 97) {
      now += std::chrono::milliseconds(rng.below(2000));
      for (std::size_t k = 0; k < kBackends; ++k) {
        members[k].breaker = breakers[k].state();
        breakers[k].advance(standing(members).allows_opening(breakers[k].state()), now, rng);
      }
    } else {
      members[i].reachable = rng.below(4) != 0;
      if (members[i].reachable) breakers[i].half_open_early();
    }
    settle_panic();
    std::size_t open = 0;
    std::size_t reachable = 0;
    bool serving = false;
    for (std::size_t k = 0; k < kBackends; ++k) {
      if (!members[k].reachable) continue;
      ++reachable;
      if (breakers[k].state() == State::open) ++open;
      else serving = true;
    }
    REQUIRE(open <= kBackends / 2);
    if (reachable > 0) REQUIRE(serving);
    most_open = std::max(most_open, open);
  }
  CHECK(most_open == kBackends / 2);
  CHECK(panics > 100);
}
