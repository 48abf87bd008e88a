#include "perigee/balancing/slow_start.h"

#include <doctest/doctest.h>

#include <array>

#include "perigee/balancing/picker.h"

using namespace perigee;
using namespace perigee::balancing;
using std::chrono::milliseconds;
using std::chrono::seconds;

TEST_CASE("the ramp: a tenth at first, all of it after 30 s") {
  const SlowStartOptions options;
  CHECK(ramp(Duration::zero(), options) == doctest::Approx(0.10));
  CHECK(ramp(seconds(-5), options) == doctest::Approx(0.10));
  CHECK(ramp(seconds(1), options) == doctest::Approx(0.10));
  CHECK(ramp(seconds(10), options) == doctest::Approx(1.0 / 3));
  CHECK(ramp(seconds(15), options) == doctest::Approx(0.5));
  CHECK(ramp(seconds(30), options) == 1.0);
  CHECK(ramp(std::chrono::hours(1), options) == 1.0);
  SlowStartOptions eager;
  eager.aggression = 2.0;
  CHECK(ramp(milliseconds(7500), eager) == doctest::Approx(0.5));
}

TEST_CASE("probation holds one exchange until one succeeded, then slots grow step by step") {
  SlowStart slow;
  TimePoint now(seconds(100));
  CHECK(slow.limit(48, now) == 48);
  CHECK(slow.factor(now) == 1.0);
  CHECK_FALSE(slow.on_success(now));

  slow.begin();
  CHECK(slow.limit(48, now + std::chrono::hours(1)) == 1);
  CHECK(slow.factor(now) == doctest::Approx(0.10));
  CHECK(slow.next_step(48, now) == kNever);
  CHECK(slow.on_success(now));
  CHECK_FALSE(slow.on_success(now + seconds(10)));

  std::uint32_t held = slow.limit(48, now);
  CHECK(held == 4);
  int steps = 0;
  while (slow.next_step(48, now) != kNever) {
    const TimePoint next = slow.next_step(48, now);
    REQUIRE(next > now);
    REQUIRE(slow.limit(48, next - milliseconds(1)) == held);
    now = next;
    REQUIRE(slow.limit(48, now) == held + 1);
    ++held;
    ++steps;
  }
  CHECK(steps == 44);
  CHECK(held == 48);
  CHECK(now <= TimePoint(seconds(130)) + milliseconds(1));
  CHECK(slow.factor(now) == doctest::Approx(1.0));
  CHECK(slow.limit(1, now) == 1);
}

TEST_CASE("least_loaded gives a newcomer no more than its share, and more as it ramps up") {
  // Four backends that each hold up to eight; work of a fixed length, so that only the choice differs.
  std::array<BackendLoad, 4> loads;
  std::array<Candidate, 4> all;
  for (std::uint32_t i = 0; i < 4; ++i) all[i] = {i, 1.0, &loads[i]};
  const auto picker = make_picker("least_loaded");
  Rng rng(42);
  SlowStart slow;
  slow.begin();
  TimePoint now(seconds(100));
  slow.on_success(now);
  std::array<LoadShare, 20> shares{};
  std::array<std::size_t, 20> where{};
  double before = 0;
  for (int second = 0; second < 30; second += 6) {
    int newcomer = 0;
    for (std::size_t i = 0; i < 6000; ++i, now += milliseconds(1)) {
      const std::size_t slot = i % shares.size();
      loads[where[slot]].end(shares[slot]);
      all[3].weight = slow.factor(now);
      where[slot] = picker->pick(all, rng);
      shares[slot] = loads[where[slot]].begin(RequestClass::search, 1.0);
      if (where[slot] == 3) ++newcomer;
    }
    const double share = newcomer / 6000.0;
    CHECK(share <= 0.25);
    CHECK(share >= before);
    before = share;
  }
  CHECK(before > 0.2);
}
