#include "perigee/admission/head_lag.h"

#include <doctest/doctest.h>

using namespace perigee;
using namespace perigee::admission;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr TimePoint kStart{seconds(1000)};

struct Worker {
  TimePoint now = kStart;
  HeadLag lag{HeadLagConfig{}, kStart};

  // A head with this lag that arrives `after` the last thing that happened.
  bool head(Duration sample, std::uint32_t in_flight, Duration after = milliseconds(10)) {
    now += after;
    return lag.on_head_sample(now, now - sample, in_flight);
  }
  void learn_base() {
    for (int i = 0; i < 5; ++i)
      head(milliseconds(10), 1);
  }
  // Starts until the pace says no; the number of them.
  int drain_bucket() {
    int n = 0;
    for (; lag.may_start(now, 0) == StartAnswer::yes; ++n)
      lag.take_start(now);
    return n;
  }
};

}  // namespace

TEST_CASE("fixed: slots as given, no pace, samples change nothing") {
  HeadLag lag = HeadLag::fixed(3);
  CHECK_FALSE(lag.steered());
  CHECK(lag.pace() == 0);
  for (int i = 0; i < 1000; ++i) {
    REQUIRE(lag.may_start(kStart, 2) == StartAnswer::yes);
    lag.take_start(kStart);
  }
  CHECK(lag.may_start(kStart, 3) == StartAnswer::slots);
  lag.note_held_back(kStart, 3);
  CHECK_FALSE(lag.on_head_sample(kStart + seconds(9), kStart, 3));
  lag.on_unanswered(kStart + seconds(60), kStart, 3);
  lag.on_silence(kStart, kStart + seconds(1), 100);
  lag.recovered(kStart);
  CHECK(lag.slots() == 3);
  CHECK(lag.next_change(kStart, 3) == kNever);
  CHECK(lag.next_change(kStart, 2) == kStart);
  lag.set_ceiling(5);
  CHECK(lag.may_start(kStart, 4) == StartAnswer::yes);
}

TEST_CASE("a pace of 0 is none: slots alone bound the starts, and are steered") {
  Worker w;
  HeadLagConfig config;
  config.start_pace = config.recovered_pace = 0;
  w.lag = HeadLag(config, kStart);
  for (int i = 0; i < 1000; ++i) {
    REQUIRE(w.lag.may_start(w.now, 47) == StartAnswer::yes);
    w.lag.take_start(w.now);
  }
  CHECK(w.lag.may_start(w.now, 48) == StartAnswer::slots);
  CHECK(w.lag.next_change(w.now, 48) == kNever);
  w.learn_base();
  for (int i = 0; i < 300; ++i) w.head(seconds(1), 48);
  CHECK(w.lag.pace() == 0);
  CHECK(w.lag.slots() < 48);
  w.lag.on_unanswered(w.now + seconds(60), w.now, 1);
  CHECK(w.lag.may_start(w.now + seconds(60), 1) == StartAnswer::yes);
  w.lag.recovered(w.now);
  CHECK(w.lag.may_start(w.now, 7) == StartAnswer::yes);
}

TEST_CASE("floors and the ceiling of the pace are the operator's") {
  Worker w;
  HeadLagConfig config;
  config.least_pace = 9;
  config.most_pace = 26;
  config.least_slots = 20;
  w.lag = HeadLag(config, kStart);
  w.learn_base();
  for (int i = 0; i < 1000; ++i) {
    w.lag.take_start(w.now);
    w.lag.note_held_back(w.now, 0);
    w.head(milliseconds(10), 1);
  }
  CHECK(w.lag.pace() == doctest::Approx(26));
  for (int i = 0; i < 3000; ++i) w.head(seconds(1), 48);
  CHECK(w.lag.pace() == doctest::Approx(9));
  CHECK(w.lag.slots() == 20);
}

TEST_CASE("the pace: three at once, then one each 40 ms, and the timer is exact") {
  Worker w;
  CHECK(w.lag.pace() == 25);
  CHECK(w.lag.slots() == 48);
  CHECK(w.drain_bucket() == 3);
  CHECK(w.lag.may_start(w.now, 0) == StartAnswer::pace);
  const TimePoint next = w.lag.next_change(w.now, 0);
  CHECK(to_seconds(next - w.now) == doctest::Approx(0.040).epsilon(0.001));
  CHECK(w.lag.may_start(next - milliseconds(1), 0) == StartAnswer::pace);
  CHECK(w.lag.may_start(next, 0) == StartAnswer::yes);
  CHECK(w.lag.next_change(next, 48) == kNever);
  w.now = next + seconds(60);
  CHECK(w.drain_bucket() == 3);
  w.lag.give_back_start(w.now);
  CHECK(w.drain_bucket() == 1);
}

TEST_CASE("nothing grows that nobody needed") {
  Worker w;
  for (int i = 0; i < 500; ++i)
    w.head(milliseconds(10), 10);
  CHECK(w.lag.pace() == 25);
  CHECK(w.lag.slots() == 48);
}

TEST_CASE("held back by the pace: it rises by what is left of the target") {
  Worker w;
  w.learn_base();
  w.drain_bucket();
  w.lag.note_held_back(w.now, 0);
  CHECK(w.head(milliseconds(40), 1));  // half of 10 + 70
  CHECK(w.lag.pace() == doctest::Approx(25.5));
  CHECK_FALSE(w.head(milliseconds(40), 1));  // nobody since
  CHECK(w.lag.pace() == doctest::Approx(25.5));
}

TEST_CASE("late heads cut the pace, at most once in the time that they were late") {
  Worker w;
  w.learn_base();
  w.head(milliseconds(160), 10);  // twice the target
  CHECK(w.lag.pace() == doctest::Approx(25 * 0.7));
  w.head(milliseconds(160), 10, milliseconds(100));
  CHECK(w.lag.pace_cuts() == 1);
  w.head(milliseconds(160), 10, milliseconds(61));
  CHECK(w.lag.pace_cuts() == 2);
  for (int i = 0; i < 200; ++i)
    w.head(seconds(2), 10, milliseconds(2100));
  CHECK(w.lag.pace() == HeadLag::kLeastPace);
}

TEST_CASE("held back by slots: they grow 1 % each 250 ms up to the ceiling") {
  Worker w;
  w.learn_base();
  for (int i = 0; i < 100; ++i) {
    w.lag.note_held_back(w.now, w.lag.slots());
    w.head(milliseconds(20), w.lag.slots(), milliseconds(25));
  }
  CHECK(w.lag.slots() == 53);  // 2.5 s: ten steps
  for (int i = 0; i < 1000; ++i) {
    w.lag.note_held_back(w.now, w.lag.slots());
    w.head(milliseconds(20), w.lag.slots(), milliseconds(250));
  }
  CHECK(w.lag.slots() == 100);
  w.lag.set_ceiling(5);
  CHECK(w.lag.slots() == 5);
}

TEST_CASE("growth that is held stops at the start values, and nothing is lost by holding it") {
  Worker w;
  w.learn_base();
  const auto run = [&w] {
    for (int i = 0; i < 400; ++i) {
      w.drain_bucket();
      w.lag.note_held_back(w.now, w.lag.slots());
      w.lag.note_held_back(w.now, 0);
      w.head(milliseconds(10), w.lag.slots(), milliseconds(100));
    }
  };
  w.lag.hold_growth(true);
  run();
  CHECK(w.lag.slots() == 48);
  CHECK(w.lag.pace() == 25);
  w.lag.hold_growth(false);
  run();
  const std::uint32_t slots = w.lag.slots();
  CHECK(slots > 48);
  CHECK(w.lag.pace() > 25);
  w.lag.hold_growth(true);
  run();
  CHECK(w.lag.slots() == slots);
  w.lag.recovered(w.now);  // back up to the start, no further
  run();
  CHECK(w.lag.slots() == 48);
}

TEST_CASE("slots are cut by a standing delay only") {
  Worker w;
  w.learn_base();
  w.now += seconds(5);
  // One prompt head in every second is no standing delay.
  for (int i = 0; i < 60; ++i)
    w.head(i % 8 == 0 ? milliseconds(20) : milliseconds(300), 40, milliseconds(100));
  CHECK(w.lag.slot_cuts() == 0);
  CHECK(w.lag.slots() == 48);
  w.now += seconds(2);
  w.head(milliseconds(300), 40, milliseconds(100));
  CHECK(w.lag.slots() == 36);  // 0.9 of what was in flight
  for (int i = 0; i < 9; ++i)
    w.head(milliseconds(300), 40, milliseconds(100));
  CHECK(w.lag.slot_cuts() == 1);
  w.head(milliseconds(300), 40, milliseconds(101));
  CHECK(w.lag.slot_cuts() == 2);
  for (int i = 0; i < 100; ++i)
    w.head(milliseconds(300), 40, milliseconds(1001));
  CHECK(w.lag.slots() == 4);
}

TEST_CASE("a ceiling below the least number of slots holds through cuts") {
  HeadLag lag({.ceiling = 2}, kStart);
  lag.on_head_sample(kStart, kStart - milliseconds(10), 2);
  for (int i = 1; i < 10; ++i) {
    const TimePoint now = kStart + i * seconds(3);
    lag.on_head_sample(now, now - seconds(1), 2);
  }
  CHECK(lag.slots() == 2);
}

TEST_CASE("half of a long lifetime is the least time between two cuts of slots") {
  Worker w;
  w.learn_base();
  for (int i = 0; i < 200; ++i)
    w.lag.on_end(seconds(10));
  CHECK(to_seconds(w.lag.lifetime()) == doctest::Approx(10));
  w.now += seconds(2);
  for (int i = 0; i < 60; ++i)
    w.head(milliseconds(300), 48, milliseconds(100));
  CHECK(w.lag.slot_cuts() == 2);
}

TEST_CASE("the base is the least of ten minutes, and a cold worker's first head is none") {
  Worker w;
  w.head(seconds(5), 1);  // loads its models
  w.head(milliseconds(200), 1, seconds(6));
  CHECK(w.lag.pace_cuts() == 2);  // the target is 170 ms at most
  w.head(milliseconds(10), 1);
  w.head(milliseconds(90), 1, seconds(1));
  CHECK(w.lag.pace_cuts() == 3);
  w.now += seconds(660);
  w.head(milliseconds(90), 1);  // the worker has become slower: 90 ms is its base now
  w.head(milliseconds(150), 1);
  CHECK(w.lag.pace_cuts() == 3);
}

TEST_CASE("a stall is no queue: late samples of it are discarded and starts held down until it has drained") {
  Worker w;
  w.learn_base();
  w.lag.on_byte(w.now, 40);
  w.lag.on_probe_sent(w.now + milliseconds(100));
  w.lag.note_held_back(w.now, 48);
  const TimePoint sent = w.now + milliseconds(50);
  w.now += milliseconds(400);
  w.lag.on_byte(w.now, 40);
  CHECK(w.lag.stalls() == 1);
  CHECK(w.lag.may_start(w.now, 10) == StartAnswer::pace);
  // At a tenth of the pace, a start after 0.4 s.
  CHECK(to_seconds(w.lag.next_change(w.now, 10) - w.now) == doctest::Approx(0.4).epsilon(0.001));
  w.lag.on_head_sample(w.now, sent, 40);
  w.lag.on_probe_sample(w.now, kStart + milliseconds(150), 40);
  CHECK(w.lag.pace_cuts() == 0);
  CHECK(w.lag.stalls() == 1);
  // Sent after it, still late: the backlog. No cut either.
  w.now += milliseconds(200);
  w.lag.on_head_sample(w.now, w.now - milliseconds(190), 40);
  CHECK(w.lag.pace_cuts() == 0);
  // Drained.
  w.now += milliseconds(50);
  CHECK(w.lag.on_head_sample(w.now, w.now - milliseconds(20), 40));
  CHECK(w.lag.pace() >= 25);
  CHECK(to_seconds(w.lag.next_change(w.now, 10) - w.now) < 0.040);
}

TEST_CASE("the hold after a stall ends by itself") {
  Worker w;
  w.learn_base();
  w.lag.on_probe_sent(w.now);
  w.lag.note_held_back(w.now, 48);
  w.lag.on_silence(w.now, w.now + milliseconds(400), 40);
  w.now += milliseconds(400);
  w.drain_bucket();
  const TimePoint end = w.now + seconds(2);
  CHECK(w.lag.may_start(end + milliseconds(200), 0) == StartAnswer::yes);
  // A timer set shortly before the end accounts for both rates.
  w.now = end - milliseconds(40);
  w.drain_bucket();
  const TimePoint next = w.lag.next_change(w.now, 0);
  CHECK(next > end);
  CHECK(next < end + milliseconds(41));
  CHECK(w.lag.may_start(next, 0) == StartAnswer::yes);
}

TEST_CASE("a silence is a stall only if a probe or a head waited through it, and with chats running") {
  Worker w;
  w.learn_base();
  SUBCASE("the probe was answered before it") {
    w.lag.on_probe_sent(w.now);
    w.lag.on_probe_sample(w.now + milliseconds(2), w.now, 40);
    w.lag.on_silence(w.now, w.now + milliseconds(600), 40);
    CHECK(w.lag.stalls() == 0);
    // A prompt head that was sent before its end is a sample like any other.
    w.lag.note_held_back(w.now, 48);
    w.now += milliseconds(600);
    CHECK(w.lag.on_head_sample(w.now + milliseconds(10), w.now - milliseconds(10), 40) == false);
    CHECK(w.lag.stalls() == 0);
  }
  SUBCASE("a late head tells it afterwards") {
    w.lag.on_silence(w.now, w.now + milliseconds(400), 40);
    CHECK(w.lag.stalls() == 0);
    w.lag.on_head_sample(w.now + milliseconds(420), w.now + milliseconds(20), 40);
    CHECK(w.lag.stalls() == 1);
    CHECK(w.lag.pace_cuts() == 0);
  }
  SUBCASE("too few chats run") {
    w.lag.on_probe_sent(w.now);
    w.lag.on_silence(w.now, w.now + milliseconds(400), HeadLag::kStallRunning - 1);
    CHECK(w.lag.stalls() == 0);
  }
  SUBCASE("too short") {
    w.lag.on_probe_sent(w.now);
    w.lag.on_silence(w.now, w.now + HeadLag::kStallSilence - Duration(1), 40);
    CHECK(w.lag.stalls() == 0);
  }
  SUBCASE("nobody was waiting: starts are not held down") {
    w.lag.on_probe_sent(w.now);
    w.lag.on_silence(w.now, w.now + milliseconds(400), 40);
    CHECK(w.lag.stalls() == 1);
    CHECK(w.lag.may_start(w.now + milliseconds(400), 40) == StartAnswer::yes);
  }
}

TEST_CASE("slots are not cut for twice the length of a stall") {
  Worker w;
  w.learn_base();
  w.now += seconds(2);
  w.lag.on_probe_sent(w.now);
  w.lag.on_silence(w.now, w.now + milliseconds(400), 40);
  w.now += milliseconds(400);
  for (int i = 0; i < 7; ++i)
    w.head(milliseconds(90), 40, milliseconds(100));
  CHECK(w.lag.slot_cuts() == 0);
  w.head(milliseconds(90), 40, milliseconds(101));
  CHECK(w.lag.slot_cuts() == 1);
}

TEST_CASE("a loop that hangs gets one start in two seconds until it answers, then goes on as before") {
  Worker w;
  w.learn_base();
  w.lag.on_probe_sent(w.now);
  const TimePoint sent = w.now;
  w.now += milliseconds(900);
  w.lag.on_unanswered(w.now, sent, 20);
  CHECK(w.lag.pace() == 25);
  w.now += seconds(2);
  w.lag.on_unanswered(w.now, sent, 20);
  CHECK(w.lag.pace() == HeadLag::kLeastPace);
  CHECK(w.drain_bucket() == 1);
  CHECK(to_seconds(w.lag.next_change(w.now, 0) - w.now) == doctest::Approx(2).epsilon(0.001));
  w.now += seconds(1);
  CHECK(w.lag.on_probe_sample(w.now, sent, 20));
  CHECK(w.lag.pace() == doctest::Approx(25 * 0.7));  // and the answer was late
}

TEST_CASE("a worker that came back starts small and forgets") {
  Worker w;
  w.learn_base();
  for (int i = 0; i < 3; ++i)
    w.lag.on_end(seconds(4));
  HeadLagTrace t;
  w.head(seconds(1), 1);
  const std::uint64_t cuts = w.lag.pace_cuts();
  REQUIRE(cuts == 1);
  w.lag.recovered(w.now);
  CHECK(w.lag.pace_cuts() == cuts);
  CHECK(w.lag.trace(0, t));
  CHECK(w.lag.pace() == 5);
  CHECK(w.lag.slots() == 8);
  CHECK(w.drain_bucket() == 1);
  CHECK(w.lag.lifetime() == Duration::zero());
  CHECK(to_seconds(w.lag.next_change(w.now, 0) - w.now) == doctest::Approx(0.2).epsilon(0.001));
}

TEST_CASE("the trace keeps two minutes, gaps included") {
  Worker w;
  HeadLagTrace t;
  CHECK_FALSE(w.lag.trace(0, t));
  w.head(milliseconds(10), 3);
  w.head(milliseconds(30), 4, seconds(3));
  REQUIRE(w.lag.trace(0, t));
  CHECK(t.lag_seconds == doctest::Approx(0.030));
  CHECK(t.in_flight == 4);
  REQUIRE(w.lag.trace(1, t));
  CHECK(t.lag_seconds == 0);
  CHECK(t.pace == 25);
  REQUIRE(w.lag.trace(3, t));
  CHECK(t.lag_seconds == doctest::Approx(0.010));
  CHECK_FALSE(w.lag.trace(4, t));
  w.head(milliseconds(50), 4, std::chrono::hours(5));
  REQUIRE(w.lag.trace(HeadLag::kTraceSeconds - 1, t));
  CHECK(t.lag_seconds == 0);
  CHECK_FALSE(w.lag.trace(HeadLag::kTraceSeconds, t));
}

TEST_CASE("times that go back a little, as they do between loops, do no harm") {
  Worker w;
  w.learn_base();
  w.drain_bucket();
  const TimePoint earlier = w.now - milliseconds(5);
  CHECK(w.lag.may_start(earlier, 0) == StartAnswer::pace);
  CHECK(w.lag.next_change(earlier, 0) > w.now);
  w.lag.on_head_sample(earlier, earlier + milliseconds(1), 1);
  w.lag.give_back_start(earlier);
  CHECK(w.lag.may_start(earlier, 0) == StartAnswer::yes);
}
