#include "perigee/balancing/breaker.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

using namespace perigee;
using namespace perigee::balancing;
using std::chrono::milliseconds;
using std::chrono::seconds;
using State = Breaker::State;
constexpr auto kFailure = BreakerEffect::failure;
constexpr auto kSuccess = BreakerEffect::success;
constexpr auto kNone = BreakerEffect::none;
constexpr auto kWindowOnly = BreakerEffect::window_only;

namespace {

BreakerOptions exact() {
  BreakerOptions options;
  options.jitter = 0.0;
  return options;
}

// A breaker with a hand-moved clock, that may always open.
struct Bench {
  explicit Bench(BreakerOptions options = exact()) : breaker(options) {}
  Breaker breaker;
  Rng rng{1};
  TimePoint now{seconds(1000)};

  Breaker::Pass begin() { return breaker.begin(now); }
  bool settle(Breaker::Pass pass, BreakerEffect effect) {
    return breaker.settle(pass, effect, true, now, rng);
  }
  bool one(BreakerEffect effect) { return settle(begin(), effect); }
  void trip() {
    while (breaker.state() == State::closed) one(kFailure);
  }
  bool wait(Duration d) {
    now += d;
    return breaker.advance(true, now, rng);
  }
  Duration open_for() const { return breaker.open_until() - now; }
};

}  // namespace

TEST_CASE("five failures in a row open it, and nothing less") {
  Bench b;
  for (int i = 0; i < 4; ++i) CHECK_FALSE(b.one(kFailure));
  CHECK_FALSE(b.one(kSuccess));
  for (int i = 0; i < 4; ++i) CHECK_FALSE(b.one(kFailure));
  // These neither end nor extend the run.
  CHECK_FALSE(b.one(kNone));
  CHECK_FALSE(b.one(kWindowOnly));
  CHECK(b.breaker.failures_in_a_row() == 4);
  CHECK(b.breaker.next_change() == kNever);
  CHECK(b.one(kFailure));
  CHECK(b.breaker.state() == State::open);
  CHECK_FALSE(b.breaker.admits());
  CHECK(b.open_for() == seconds(5));
  CHECK(b.breaker.next_change() == b.now + seconds(5));
  CHECK(b.breaker.opened_total() == 1);
}

TEST_CASE("trips in a row double the time: 5, 10, 20, 40, 60, 60") {
  Bench b;
  b.trip();
  for (const int expected : {5, 10, 20, 40, 60, 60, 60}) {
    CHECK(b.open_for() == seconds(expected));
    CHECK_FALSE(b.wait(seconds(expected) - milliseconds(1)));
    CHECK(b.breaker.state() == State::open);
    CHECK(b.wait(milliseconds(1)));
    CHECK(b.breaker.state() == State::half_open);
    CHECK(b.one(kFailure));
    CHECK(b.breaker.state() == State::open);
  }
}

TEST_CASE("jitter spreads the time by a fifth either way") {
  BreakerOptions options;
  double least = 1e9;
  double most = 0;
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    Bench b(options);
    b.rng = Rng(seed);
    b.trip();
    const double s = to_seconds(b.open_for());
    least = std::min(least, s);
    most = std::max(most, s);
  }
  CHECK(least >= 4.0);
  CHECK(least < 4.05);
  CHECK(most <= 6.0);
  CHECK(most > 5.95);
}

TEST_CASE("half-open: three at once, the first three successes close it") {
  Bench b;
  b.trip();
  b.wait(seconds(5));
  const auto one = b.begin();
  const auto two = b.begin();
  const auto three = b.begin();
  CHECK_FALSE(b.breaker.admits());
  CHECK(b.settle(one, kSuccess));
  CHECK(b.breaker.admits());
  CHECK(b.breaker.state() == State::half_open);
  CHECK(b.settle(two, kSuccess));
  const auto four = b.begin();
  CHECK(b.settle(three, kSuccess));
  CHECK(b.breaker.state() == State::closed);
  CHECK(b.breaker.next_change() == kNever);
  // The one that was still out when it closed says nothing any more.
  for (int i = 0; i < 10; ++i) CHECK_FALSE(b.settle(four, kFailure));
  CHECK(b.breaker.failures_in_a_row() == 0);
}

TEST_CASE("half-open: any failure opens it again, also after two successes") {
  Bench b;
  b.trip();
  b.wait(seconds(5));
  b.one(kSuccess);
  b.one(kSuccess);
  CHECK(b.one(kFailure));
  CHECK(b.breaker.state() == State::open);
  CHECK(b.open_for() == seconds(10));
}

TEST_CASE("a trial whose client leaves is given back: neither success nor failure") {
  Bench b;
  b.trip();
  b.wait(seconds(5));
  const auto one = b.begin();
  const auto two = b.begin();
  const auto three = b.begin();
  CHECK(b.breaker.give_back(one));
  CHECK_FALSE(b.breaker.give_back(one));
  CHECK(b.breaker.admits());
  CHECK(b.settle(two, kNone));
  CHECK(b.breaker.trials_in_flight() == 1);
  CHECK(b.settle(three, kSuccess));
  CHECK(b.breaker.state() == State::half_open);
  b.one(kSuccess);
  b.one(kSuccess);
  CHECK(b.breaker.state() == State::closed);
}

TEST_CASE("a trial that only a window would count has succeeded") {
  Bench b;
  b.trip();
  b.wait(seconds(5));
  for (int i = 0; i < 3; ++i) b.one(kWindowOnly);
  CHECK(b.breaker.state() == State::closed);
}

TEST_CASE("a trial has one verdict") {
  Bench b;
  b.trip();
  b.wait(seconds(5));
  const auto one = b.begin();
  CHECK(b.settle(one, kSuccess));
  CHECK_FALSE(b.settle(one, kSuccess));
  CHECK_FALSE(b.settle(one, kSuccess));
  CHECK_FALSE(b.settle(one, kFailure));  // its stream broke later
  CHECK(b.breaker.state() == State::half_open);
}

TEST_CASE("a trial that never ends is a failure when its time is over") {
  Bench b;
  b.trip();
  b.wait(seconds(5));
  const auto early = b.begin();
  b.now += seconds(10);
  const auto late = b.begin();
  CHECK(b.breaker.next_change() == b.now + seconds(55));
  CHECK(b.settle(early, kSuccess));
  CHECK(b.breaker.next_change() == b.now + seconds(65));
  CHECK_FALSE(b.wait(seconds(65) - milliseconds(1)));
  CHECK(b.wait(milliseconds(1)));
  CHECK(b.breaker.state() == State::open);
  CHECK(b.open_for() == seconds(10));
  CHECK_FALSE(b.settle(late, kSuccess));
  CHECK(b.breaker.state() == State::open);
}

TEST_CASE("results of requests from before the trip change nothing") {
  Bench b;
  std::vector<Breaker::Pass> old;
  for (int i = 0; i < 20; ++i) old.push_back(b.begin());
  for (int i = 0; i < 5; ++i) b.settle(old[static_cast<std::size_t>(i)], kFailure);
  CHECK(b.breaker.state() == State::open);
  CHECK_FALSE(b.settle(old[5], kSuccess));
  CHECK_FALSE(b.settle(old[6], kFailure));
  CHECK(b.open_for() == seconds(5));
  b.wait(seconds(5));
  CHECK_FALSE(b.settle(old[7], kFailure));
  for (int i = 8; i < 12; ++i) CHECK_FALSE(b.settle(old[static_cast<std::size_t>(i)], kSuccess));
  CHECK(b.breaker.state() == State::half_open);
  for (int i = 0; i < 3; ++i) b.one(kSuccess);
  CHECK(b.breaker.state() == State::closed);
  for (std::size_t i = 12; i < old.size(); ++i) CHECK_FALSE(b.settle(old[i], kFailure));
  CHECK(b.breaker.state() == State::closed);
  CHECK(b.breaker.failures_in_a_row() == 0);
}

TEST_CASE("each healthy minute takes one trip back") {
  Bench b;
  b.trip();
  for (const int s : {5, 10, 20}) {
    b.wait(seconds(s));
    b.one(kFailure);
  }
  CHECK(b.open_for() == seconds(40));
  CHECK(b.breaker.trips_in_a_row() == 4);
  b.wait(seconds(40));
  for (int i = 0; i < 3; ++i) b.one(kSuccess);
  SUBCASE("59 s are none") {
    b.now += seconds(59);
    b.trip();
    CHECK(b.open_for() == seconds(60));
  }
  SUBCASE("two minutes are two") {
    b.now += seconds(121);
    b.trip();
    CHECK(b.open_for() == seconds(20));
  }
  SUBCASE("an hour is all of them") {
    b.now += std::chrono::hours(1);
    b.trip();
    CHECK(b.open_for() == seconds(5));
  }
}

TEST_CASE("a returned backend is tried early, never closed at once") {
  Bench b;
  b.one(kFailure);
  b.one(kFailure);
  CHECK_FALSE(b.breaker.half_open_early());
  CHECK(b.breaker.failures_in_a_row() == 0);
  b.trip();
  b.wait(seconds(1));
  CHECK(b.breaker.half_open_early());
  CHECK(b.breaker.state() == State::half_open);
  const auto trial = b.begin();
  CHECK_FALSE(b.breaker.half_open_early());
  CHECK(b.settle(trial, kFailure));
  CHECK(b.open_for() == seconds(10));
}

TEST_CASE("where the pool forbids it, a trip is put off") {
  Bench b;
  for (int i = 0; i < 20; ++i) CHECK_FALSE(b.breaker.settle(b.begin(), kFailure, false, b.now, b.rng));
  CHECK(b.breaker.state() == State::closed);
  CHECK(b.one(kFailure));  // allowed again: at once
  CHECK(b.breaker.state() == State::open);
  b.wait(seconds(5));
  b.one(kSuccess);
  b.one(kSuccess);
  CHECK(b.breaker.settle(b.begin(), kFailure, false, b.now, b.rng));
  CHECK(b.breaker.state() == State::half_open);
  CHECK(b.breaker.trips_in_a_row() == 1);
  b.one(kSuccess);
  b.one(kSuccess);
  CHECK(b.breaker.state() == State::half_open);  // its trials began anew
  b.one(kSuccess);
  CHECK(b.breaker.state() == State::closed);
}

TEST_CASE("a reload changes the rules, not the state") {
  Bench b;
  for (int i = 0; i < 3; ++i) b.one(kFailure);
  BreakerOptions strict = exact();
  strict.consecutive = 4;
  strict.open_base = seconds(1);
  strict.trials = 100;  // more than there is room for
  b.breaker.configure(strict);
  CHECK(b.one(kFailure));
  CHECK(b.open_for() == seconds(1));
  b.wait(seconds(1));
  while (b.breaker.admits()) b.begin();
  CHECK(b.breaker.trials_in_flight() == Breaker::kMaxTrials);
}

TEST_CASE("never more trials than allowed, under a hundred thousand random events") {
  for (const std::uint64_t seed : {42U, 1U, 2U}) {
    Bench b{BreakerOptions{}};
    Rng rng(seed);
    std::vector<Breaker::Pass> out;
    std::uint64_t opened = 0;
    std::size_t trials_out = 0;
    std::size_t closed_again = 0;
    for (int i = 0; i < 100000; ++i) {
      const State before = b.breaker.state();
      const std::uint32_t what = rng.below(100);
      if (what < 45) {
        if (b.breaker.admits() && out.size() < 200) out.push_back(b.begin());
      } else if (what < 90 && !out.empty()) {
        const std::size_t which = rng.below(static_cast<std::uint32_t>(out.size()));
        const std::uint32_t verdict = rng.below(10);
        const BreakerEffect effect = verdict < 4   ? kFailure
                                     : verdict < 8 ? kSuccess
                                     : verdict < 9 ? kWindowOnly
                                                   : kNone;
        b.breaker.settle(out[which], effect, rng.below(10) != 0, b.now, b.rng);
        if (rng.below(4) != 0) {
          out[which] = out.back();
          out.pop_back();
        }
      } else if (what < 93 && !out.empty()) {
        b.breaker.give_back(out[rng.below(static_cast<std::uint32_t>(out.size()))]);
      } else if (what < 94) {
        b.breaker.half_open_early();
      } else {
        b.now += from_seconds(rng.exponential(1.0));
        b.breaker.advance(true, b.now, b.rng);
        REQUIRE(b.breaker.next_change() > b.now);
      }
      REQUIRE(b.breaker.trials_in_flight() <= 3);
      trials_out = std::max<std::size_t>(trials_out, b.breaker.trials_in_flight());
      if (b.breaker.state() != State::half_open) REQUIRE(b.breaker.trials_in_flight() == 0);
      if (b.breaker.state() == State::open) REQUIRE_FALSE(b.breaker.admits());
      if (b.breaker.state() == State::closed) REQUIRE(b.breaker.admits());
      if (before == State::open) REQUIRE(b.breaker.state() != State::closed);
      if (before != State::open && b.breaker.state() == State::open) ++opened;
      if (before == State::half_open && b.breaker.state() == State::closed) ++closed_again;
    }
    CHECK(opened == b.breaker.opened_total());
    CHECK(opened > 100);
    CHECK(closed_again > 20);
    CHECK(trials_out == 3);
  }
}

// --- the window ------------------------------------------------------------------------------------------------

TEST_CASE("every second one fails: never five in a row, and open at the twentieth") {
  Bench b;
  for (int i = 1; i < 20; ++i) {
    CHECK_FALSE(b.one(i % 2 == 0 ? kSuccess : kFailure));
    b.now += milliseconds(100);
  }
  // Ten of nineteen would be more than half; the twentieth makes it ten of twenty, or eleven.
  CHECK_FALSE(b.one(kSuccess));
  CHECK(b.one(kFailure));
  CHECK(b.breaker.state() == State::open);
  CHECK(b.open_for() == seconds(5));
}

TEST_CASE("less than half, too few, or too long ago: it stays closed") {
  Bench b;
  for (int i = 0; i < 300; ++i) {
    CHECK_FALSE(b.one(i % 5 < 2 ? kFailure : kSuccess));
    b.now += milliseconds(50);
  }
  Bench few;
  for (int i = 0; i < 200; ++i) {  // eleven in ten seconds at most
    CHECK_FALSE(few.one(i % 4 != 0 ? kWindowOnly : kSuccess));
    few.now += milliseconds(950);
  }
  BreakerOptions off = exact();
  off.ratio = 0;
  Bench never(off);
  for (int i = 0; i < 500; ++i) CHECK_FALSE(never.one(kWindowOnly));
}

TEST_CASE("the share forgets at each change of state") {
  Bench b;
  for (int i = 0; i < 19; ++i) CHECK_FALSE(b.one(kWindowOnly));
  b.breaker.half_open_early();  // the probe saw it come back
  for (int i = 0; i < 19; ++i) CHECK_FALSE(b.one(kWindowOnly));
  CHECK(b.one(kWindowOnly));
  b.wait(seconds(5));
  for (int i = 0; i < 3; ++i) CHECK(b.one(kSuccess));
  CHECK(b.breaker.state() == State::closed);
  CHECK(b.breaker.recent(b.now).total == 0);
}

TEST_CASE("a trip of the window that the pool forbids comes with the next failure, once it may") {
  Bench b;
  for (int i = 0; i < 30; ++i) CHECK_FALSE(b.breaker.settle(b.begin(), kWindowOnly, false, b.now, b.rng));
  CHECK(b.breaker.state() == State::closed);
  CHECK(b.one(kWindowOnly));
  CHECK(b.breaker.state() == State::open);
}

TEST_CASE("what may be everybody's fault counts only beside the others") {
  constexpr auto kDoubt = BreakerEffect::beside_fleet;
  const auto bad_after = [&](const FailureWindow::Counts& others) {
    Bench b;
    for (int i = 0; i < 40; ++i) {
      if (b.breaker.settle(b.begin(), i % 4 == 0 ? kSuccess : kDoubt, true, b.now, b.rng, others)) return true;
    }
    return false;
  };
  CHECK(bad_after({200, 0, 0}));
  CHECK(bad_after({200, 0, 60}));            // 75 % beside 30 %
  CHECK_FALSE(bad_after({200, 0, 80}));      // beside 40 %: not twice as bad
  CHECK_FALSE(bad_after({200, 0, 150}));     // the provider is down for all
  CHECK_FALSE(bad_after({38, 0, 0}));        // nineteen requests tell nothing
  CHECK_FALSE(bad_after({}));                // alone
}

TEST_CASE("a stream that breaks after its first event counts half, an early end beside the others") {
  constexpr auto kDoubt = BreakerEffect::beside_fleet;
  const auto after = [](int broken_of_ten, BreakerEffect late) {
    Bench b;
    for (int i = 0; i < 100; ++i) {
      const auto pass = b.begin();
      b.settle(pass, kSuccess);
      if (i % 10 >= 10 - broken_of_ten && b.breaker.settle_late(pass, late, true, b.now, b.rng, {1000, 0, 0})) return true;
    }
    return false;
  };
  CHECK(after(10, kWindowOnly));       // all: half a failure each is half of all
  CHECK_FALSE(after(9, kWindowOnly));
  CHECK(after(6, kDoubt));
  CHECK_FALSE(after(4, kDoubt));
  CHECK_FALSE(after(10, kNone));
  Bench old;
  const auto before = old.begin();
  old.trip();
  old.wait(seconds(5));
  for (int i = 0; i < 3; ++i) old.one(kSuccess);
  for (int i = 0; i < 100; ++i) CHECK_FALSE(old.breaker.settle_late(before, kWindowOnly, true, old.now, old.rng));
  CHECK(old.breaker.recent(old.now).failed == 0);
}
