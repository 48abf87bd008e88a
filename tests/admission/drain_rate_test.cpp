#include "perigee/admission/drain_rate.h"

#include <doctest/doctest.h>

#include <deque>
#include <vector>

#include "perigee/base/random.h"

using namespace perigee;
using namespace perigee::admission;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {
constexpr TimePoint kStart{seconds(500)};
}

TEST_CASE("unknown never refuses; before twenty grants the paces stand in") {
  DrainRate rate;
  CHECK_FALSE(rate.per_second(kStart, 0).has_value());
  CHECK(rate.per_second(kStart, 50).value() == 50);
  CHECK_FALSE(estimate_wait(1000, std::nullopt).has_value());
  CHECK(may_wait(std::nullopt, kStart, {.deadline = kStart, .queue_wait = Duration::zero()}));
  rate.set_waiting(true, kStart);
  TimePoint now = kStart;
  for (int i = 0; i < 19; ++i)
    rate.on_grant(now += milliseconds(100));
  CHECK(rate.per_second(now, 50).value() == 50);
  rate.on_grant(now += milliseconds(100));
  CHECK(rate.per_second(now, 50).value() == doctest::Approx(10).epsilon(0.1));
}

TEST_CASE("twenty grants in one instant are no rate yet") {
  DrainRate rate;
  rate.set_waiting(true, kStart);
  for (int i = 0; i < 30; ++i)
    rate.on_grant(kStart);
  CHECK(rate.per_second(kStart, 25).value() == 25);
}

TEST_CASE("only time in which somebody waits counts") {
  DrainRate rate;
  TimePoint now = kStart;
  for (int i = 0; i < 100; ++i) {
    rate.set_waiting(true, now);
    rate.set_waiting(true, now);
    now += milliseconds(50);
    rate.on_grant(now);
    rate.set_waiting(false, now);
    now += seconds(10);
    rate.on_grant(now);  // the fast path: nobody waited
  }
  CHECK(rate.per_second(now, 0).value() == doctest::Approx(20).epsilon(0.02));
}

TEST_CASE("the rate follows a change within a few time constants, and decays while nothing is granted") {
  DrainRate rate;
  rate.set_waiting(true, kStart);
  TimePoint now = kStart;
  for (int i = 0; i < 1000; ++i)
    rate.on_grant(now += milliseconds(20));
  CHECK(rate.per_second(now, 0).value() == doctest::Approx(50).epsilon(0.02));
  for (int i = 0; i < 100; ++i)
    rate.on_grant(now += milliseconds(100));  // 10 s = two time constants
  CHECK(rate.per_second(now, 0).value() == doctest::Approx(10 + 40 * 0.1353).epsilon(0.05));
  const auto later = rate.per_second(now + seconds(60), 0);
  REQUIRE(later.has_value());
  CHECK(*later < 0.001);
  CHECK(to_seconds(estimate_wait(1, later).value()) > 1000);
  CHECK(estimate_wait(0, 0.0).value() == Duration::zero());
  CHECK(estimate_wait(~std::uint64_t{0}, 0.0).value() <= std::chrono::hours(24));
}

TEST_CASE("the law at the door and at dequeue") {
  const WaitLimits limits{.deadline = kStart + seconds(5), .queue_wait = seconds(10)};
  CHECK(may_wait(seconds(5), kStart, limits));
  CHECK_FALSE(may_wait(seconds(5) + Duration(1), kStart, limits));
  CHECK_FALSE(may_wait(seconds(4), kStart, limits, milliseconds(1500)));
  const WaitLimits no_deadline{.deadline = kNever, .queue_wait = seconds(10)};
  CHECK(may_wait(seconds(10), kStart, no_deadline));
  CHECK_FALSE(may_wait(seconds(11), kStart, no_deadline));
  CHECK(may_wait(seconds(1000), kStart, {}));
  CHECK_FALSE(
      may_wait(Duration::zero(), kStart, {.deadline = kStart - seconds(1), .queue_wait = seconds(1)}));

  CHECK(worth_granting(kStart, kNever, kNever));
  CHECK_FALSE(worth_granting(kStart, kNever, kStart));
  CHECK_FALSE(worth_granting(kStart, kStart, kNever));
  CHECK(worth_granting(kStart, kStart + seconds(1), kNever, milliseconds(999)));
  CHECK_FALSE(worth_granting(kStart, kStart + seconds(1), kNever, seconds(1)));
}

TEST_CASE("Retry-After is whole seconds of at least one, jittered by tenant and second") {
  CHECK(retry_after(std::nullopt, 0) == 1);
  CHECK(retry_after(milliseconds(10), 0.999) == 2);
  CHECK(retry_after(seconds(10), 0) == 8);
  CHECK(retry_after(seconds(10), 0.9999) == 15);
  CHECK(retry_after(seconds(3600), 0) == 48);
  CHECK(retry_after(seconds(3600), 0.9999) == 90);
  CHECK(retry_jitter(7, kStart) == retry_jitter(7, kStart + milliseconds(999)));
  CHECK(retry_jitter(7, kStart) != retry_jitter(8, kStart));
  CHECK(retry_jitter(7, kStart) != retry_jitter(7, kStart + seconds(1)));
  double sum = 0;
  for (std::uint64_t t = 0; t < 1000; ++t)
    sum += retry_jitter(t, kStart);
  CHECK(sum / 1000 == doctest::Approx(0.5).epsilon(0.1));
}

// 16 servers of 100 ms, Poisson at twice their capacity, 2 s until an answer is of no use.
TEST_CASE("the law at both ends serves at overload what dropping the late alone cannot") {
  struct Result {
    double good_per_second;
  };
  const auto run = [](bool at_both_ends) {
    Rng rng(42);
    DrainRate rate;
    constexpr Duration kDeadline = seconds(2);
    constexpr Duration kService = milliseconds(100);
    std::deque<TimePoint> queue;
    std::vector<TimePoint> busy_until(16, kStart);
    std::vector<bool> is_busy(16, false);
    TimePoint next_arrival = kStart;
    double good = 0;
    for (TimePoint now = kStart; now < kStart + seconds(300); now += milliseconds(1)) {
      while (next_arrival <= now) {
        next_arrival += from_seconds(rng.exponential(1.0 / 320));
        const auto estimate = estimate_wait(queue.size(), rate.per_second(now, 0));
        const WaitLimits limits{.deadline = now + kDeadline, .queue_wait = Duration::max()};
        if (queue.size() >= 1000 || (at_both_ends && !may_wait(estimate, now, limits, kService))) continue;
        queue.push_back(now);
        rate.set_waiting(true, now);
      }
      for (std::size_t i = 0; i < busy_until.size(); ++i) {
        if (busy_until[i] > now) continue;
        while (!queue.empty()) {
          const TimePoint arrived = queue.front();
          queue.pop_front();
          if (!worth_granting(now, arrived + kDeadline, kNever, at_both_ends ? kService : Duration::zero()))
            continue;
          rate.on_grant(now);
          busy_until[i] = now + from_seconds(rng.exponential(to_seconds(kService)));
          if (busy_until[i] <= arrived + kDeadline && now > kStart + seconds(60)) good += 1;
          break;
        }
        if (queue.empty()) rate.set_waiting(false, now);
      }
    }
    return Result{good / 240};
  };
  const Result late_only = run(false);
  const Result both = run(true);
  MESSAGE("good answers a second of 160: dropped when late ", late_only.good_per_second, ", the law ",
          both.good_per_second);
  CHECK(late_only.good_per_second < 40);
  CHECK(both.good_per_second > 125);
}

TEST_CASE("a priority's own rate: of the last five seconds in which some of it waited") {
  OwnRate rate;
  TimePoint now = kStart;
  CHECK_FALSE(rate.per_second(now));
  rate.on_grant(now);  // nobody waits: says nothing
  rate.set_waiting(true, now);
  for (int i = 0; i < 19; ++i) rate.on_grant(now += milliseconds(100));
  CHECK_FALSE(rate.per_second(now));  // too early
  rate.on_grant(now += milliseconds(100));
  CHECK(rate.per_second(now).value() == doctest::Approx(10));
  for (int i = 0; i < 100; ++i) {
    rate.set_waiting(true, now);  // a repeat
    rate.on_grant(now += milliseconds(50));
  }
  CHECK(rate.per_second(now).value() == doctest::Approx(20).epsilon(0.05));
  CHECK(rate.per_second(now + seconds(6)).value() == 0);  // others overtake it all the time
  rate.set_waiting(false, now);
  CHECK_FALSE(rate.per_second(now));
  rate.set_waiting(true, now);
  CHECK_FALSE(rate.per_second(now + seconds(1)));
  CHECK(rate.per_second(now + seconds(3)).value() == 0);
}
