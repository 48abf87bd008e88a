#include "perigee/coro/timer_wheel.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "perigee/base/random.h"

namespace perigee::coro {
namespace {

using namespace std::chrono_literals;

constexpr TimePoint kStart{1000s};

struct Log;
struct Probe : Timer {
  explicit Probe(Log& l) : Timer([](Timer& t) { static_cast<Probe&>(t).fired(); }), log(l) {}
  void fired();
  Log& log;
  TimePoint due = kNever;
  int fires = 0;
};
struct Log {
  std::vector<Probe*> fired;
  TimePoint now = kStart;
  bool ok = true;
};
void Probe::fired() {
  ++fires;
  log.fired.push_back(this);
  // In [due, due + tick]; what was late already when armed, in the next tick.
  if (log.now < due) log.ok = false;
}

TEST_CASE("timer wheel: fires in [due, due + tick], each once") {
  Rng rng(42);
  Log log;
  TimerWheel wheel(kStart);
  std::vector<std::unique_ptr<Probe>> timers;
  for (int i = 0; i < 100'000; ++i) {
    timers.push_back(std::make_unique<Probe>(log));
    // From a microsecond to 40 days, evenly in the logarithm.
    const double seconds = 1e-6 * std::pow(10.0, rng.uniform() * 12.5);
    timers.back()->due = kStart + from_seconds(seconds);
    wheel.arm(*timers.back(), timers.back()->due);
  }
  std::vector<Probe*> expected;
  for (auto& t : timers)
    expected.push_back(t.get());
  std::sort(expected.begin(), expected.end(), [](const Probe* a, const Probe* b) { return a->due < b->due; });
  std::size_t checked = 0;
  while (checked < expected.size()) {
    const TimePoint next = wheel.next_due();
    // It says when it must be driven next, never later than its first timer.
    bool good = next != kNever && next <= expected[checked]->due + TimerWheel::kTick;
    log.now = next;
    wheel.advance(next);
    // Everything that is due has fired, and nothing of it later than a tick.
    for (; checked < log.fired.size(); ++checked)
      good &= next <= log.fired[checked]->due + TimerWheel::kTick;
    good &= log.ok && (checked == expected.size() || expected[checked]->due > next);
    REQUIRE(good);
  }
  CHECK(log.fired.size() == timers.size());
  CHECK(
      std::all_of(timers.begin(), timers.end(), [](const auto& t) { return t->fires == 1 && !t->armed(); }));
  CHECK(wheel.next_due() == kNever);
}

TEST_CASE("timer wheel: driven in random steps up to an hour, with arming and disarming between them") {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    Rng rng(seed);
    Log log;
    TimerWheel wheel(kStart);
    std::vector<std::unique_ptr<Probe>> timers;
    for (int i = 0; i < 2000; ++i)
      timers.push_back(std::make_unique<Probe>(log));
    for (int step = 0; step < 5000; ++step) {
      for (int k = 0; k < 3; ++k) {
        Probe& t = *timers[rng.below(2000)];
        if (rng.below(4) == 0) {
          t.disarm();
          t.due = kNever;
        } else {
          t.due = log.now + from_seconds(1e-3 * std::pow(10.0, rng.uniform() * 8));
          wheel.arm(t, t.due);
        }
      }
      log.now += rng.below(100) == 0 ? Duration(1h) : from_seconds(rng.uniform() * 0.2);
      log.fired.clear();
      wheel.advance(log.now);
      REQUIRE(log.ok);
      for (Probe* t : log.fired) {
        REQUIRE_FALSE(t->armed());
        t->due = kNever;
      }
      const bool whole = step % 50 != 0 || std::all_of(timers.begin(), timers.end(), [&](const auto& t) {
                           return t->armed() == (t->due != kNever) &&
                                  (t->due == kNever || t->due + TimerWheel::kTick > log.now);
                         });
      REQUIRE(whole);
      REQUIRE((wheel.next_due() == kNever || wheel.next_due() > log.now - TimerWheel::kTick));
    }
  }
}

TEST_CASE("timer wheel: equal ticks fire in order of arming") {
  Log log;
  TimerWheel wheel(kStart);
  std::vector<std::unique_ptr<Probe>> timers;
  for (int i = 0; i < 100; ++i) {
    timers.push_back(std::make_unique<Probe>(log));
    timers.back()->due = kStart + 5s;
    wheel.arm(*timers.back(), kStart + 5s);
  }
  log.now = kStart + 5s;
  wheel.advance(log.now);
  REQUIRE(log.fired.size() == 100);
  for (std::size_t i = 0; i < 100; ++i)
    CHECK(log.fired[i] == timers[i].get());
}

// What a firing timer may do to others and to itself.
struct Actor : Timer {
  using Act = void (*)(Actor&);
  Actor(TimerWheel& w, Act a) : Timer([](Timer& t) { static_cast<Actor&>(t).run(); }), wheel(w), act(a) {}
  void run() {
    ++fires;
    act(*this);
  }
  TimerWheel& wheel;
  Act act;
  Actor* other = nullptr;
  std::unique_ptr<Actor> owned;
  int fires = 0;
};

TEST_CASE("timer wheel: a firing timer disarms another of its tick") {
  TimerWheel wheel(kStart);
  Actor second(wheel, [](Actor&) {});
  Actor first(wheel, [](Actor& a) { a.other->disarm(); });
  first.other = &second;
  wheel.arm(first, kStart + 10ms);
  wheel.arm(second, kStart + 10ms);
  wheel.advance(kStart + 1h);
  CHECK(first.fires == 1);
  CHECK(second.fires == 0);
  CHECK(wheel.next_due() == kNever);
}

TEST_CASE("timer wheel: a firing timer destroys another of its tick, and one arms itself again") {
  TimerWheel wheel(kStart);
  Actor again(wheel, [](Actor& a) {
    if (a.fires < 1000) a.wheel.arm(a, kStart);  // in the past: the next tick
  });
  Actor killer(wheel, [](Actor& a) { a.owned.reset(); });
  killer.owned = std::make_unique<Actor>(wheel, [](Actor&) { FAIL("destroyed timers do not fire"); });
  wheel.arm(killer, kStart + 3ms);
  wheel.arm(*killer.owned, kStart + 3ms);
  wheel.arm(again, kStart + 3ms);
  wheel.advance(kStart + 500ms);
  CHECK(killer.fires == 1);
  CHECK(again.fires == 498);  // once a tick, and advance() came to an end
  wheel.advance(kStart + 1h);
  CHECK(again.fires == 1000);
}

TEST_CASE("timer wheel: a timer armed a whole turn ahead by a firing one waits for its turn") {
  for (const Duration ahead : {Duration(64ms), Duration(4096ms), Duration(262144ms)}) {
    TimerWheel wheel(kStart);
    Actor other(wheel, [](Actor&) {});
    Actor a(wheel, [](Actor&) {});
    a.other = &other;
    wheel.arm(a, kStart + 7ms);
    wheel.advance(kStart + 7ms);
    wheel.arm(other, kStart + 7ms + ahead);
    wheel.advance(kStart + 7ms + ahead - 1ms);
    CHECK(other.fires == 0);
    wheel.advance(kStart + 7ms + ahead);
    CHECK(other.fires == 1);
  }
}

TEST_CASE("timer wheel: time that stands still or goes back fires nothing") {
  TimerWheel wheel(kStart);
  Actor a(wheel, [](Actor&) {});
  wheel.arm(a, kStart);
  wheel.advance(kStart);
  wheel.advance(kStart - 1h);
  CHECK(a.fires == 0);
  wheel.advance(kStart + 1ms);
  CHECK(a.fires == 1);
}

}  // namespace
}  // namespace perigee::coro
