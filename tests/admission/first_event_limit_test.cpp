// The rule by itself, and a worker with a queue inside it in virtual time: four servers, 40 answers a second.
#include "perigee/admission/first_event_limit.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <queue>
#include <vector>

#include "perigee/base/random.h"
#include "perigee/base/sanitizer.h"

namespace perigee::admission {
namespace {

using namespace std::chrono_literals;

enum class Service { exponential, even, heavy };

struct Run {
  double served = 0;    // a second
  double refused = 0;   // share
  double p50 = 0, p99 = 0;  // ms
  std::uint32_t least = 0, most = 0;  // slots after the settling time
};

// FIFO inside the worker, which takes what the limit lets in; the rest is refused.
Run simulate(Service service, double load, Duration objective, double start, std::uint64_t seed) {
  Rng rng(seed);
  const double length = kFastBuild ? 2400 : 300;
  FirstEventLimitConfig config;
  config.most = 200;
  config.start = start;
  config.objective = objective;
  TimePoint now{1000s};
  const TimePoint begin = now;
  FirstEventLimit limit(config, now);
  std::priority_queue<std::pair<TimePoint, TimePoint>, std::vector<std::pair<TimePoint, TimePoint>>, std::greater<>>
      running;  // end, arrival
  std::deque<TimePoint> queue;
  TimePoint next = now;
  Run run;
  run.least = 1000;
  std::vector<double> times;
  std::uint64_t offered = 0, refused = 0;
  const auto take = [&](TimePoint arrived) {
    double s = rng.exponential(.1);
    if (service == Service::even) s = rng.uniform(.08, .12);
    if (service == Service::heavy) s = rng.exponential(rng.uniform() < .9 ? .05 : .55);
    running.emplace(now + from_seconds(s), arrived);
  };
  const auto in_flight = [&] { return static_cast<std::uint32_t>(running.size() + queue.size()); };
  while (to_seconds(now - begin) < length) {
    const bool settled = to_seconds(now - begin) > 100;
    if (!running.empty() && running.top().first <= next) {
      now = running.top().first;
      const TimePoint arrived = running.top().second;
      running.pop();
      if (!queue.empty()) {
        take(queue.front());
        queue.pop_front();
      }
      limit.on_sample(now, now - arrived, in_flight());
      if (settled) times.push_back(1e3 * to_seconds(now - arrived));
    } else {
      now = next;
      next += from_seconds(rng.exponential(1 / (load * 40)));
      if (settled) ++offered;
      if (in_flight() >= limit.slots()) {
        if (settled) ++refused;
      } else {
        if (running.size() < 4) take(now);
        else queue.push_back(now);
        limit.on_start(in_flight());
      }
    }
    if (settled) {
      run.least = std::min(run.least, limit.slots());
      run.most = std::max(run.most, limit.slots());
    }
  }
  run.served = static_cast<double>(times.size()) / (length - 100);
  run.refused = static_cast<double>(refused) / static_cast<double>(offered);
  const auto quantile = [&](double q) {
    const auto at = times.begin() + static_cast<std::ptrdiff_t>(q * static_cast<double>(times.size() - 1));
    std::nth_element(times.begin(), at, times.end());
    return *at;
  };
  run.p50 = quantile(.5);
  run.p99 = quantile(.99);
  MESSAGE("service " << static_cast<int>(service) << " load " << load << ": " << run.served << "/s, p50 " << run.p50
                     << " p99 " << run.p99 << " ms, slots " << run.least << ".." << run.most << ", refused "
                     << run.refused << ", base " << limit.base().count() / 1000000);
  return run;
}

struct Steps {
  explicit Steps(FirstEventLimitConfig c = {}) : limit(c, now) {}
  // One window: `n` answers that took so long, with so many running.
  void window(Duration took, std::uint32_t running, int n = 40) {
    for (int i = 0; i < n; ++i) {
      limit.on_start(running);
      now += 1100ms / n;
      limit.on_sample(now, took, running);
    }
  }
  TimePoint now{1000s};
  FirstEventLimit limit;
};

}  // namespace

TEST_CASE("four servers, offered too much: full use, a short queue inside, slots that stay put") {
  for (const double load : {1.5, 3.0}) {
    for (const Service service : {Service::exponential, Service::even, Service::heavy}) {
      const Run r = simulate(service, load, 150ms, 20, 42);
      CHECK(r.served >= (service == Service::heavy ? .95 : .96) * 40);
      CHECK(r.least >= 5);
      CHECK(r.most <= (service == Service::heavy ? 20 : 16));
    }
  }
  if (!kFastBuild) return;
  const Run r = simulate(Service::exponential, 1.5, 150ms, 20, 1);
  CHECK(r.served == doctest::Approx(39.2).epsilon(.03));
  CHECK(r.p50 == doctest::Approx(176).epsilon(.10));
  CHECK(r.p99 == doctest::Approx(588).epsilon(.10));
}

TEST_CASE("offered less than it serves: next to nothing is refused") {
  CHECK(simulate(Service::exponential, .8, 150ms, 20, 42).refused <= .01);
  CHECK(simulate(Service::even, .8, 150ms, 20, 42).refused <= .01);
  CHECK(simulate(Service::heavy, .8, 150ms, 20, 42).refused <= .08);
}

TEST_CASE("nothing is known of it, and it is flooded from the first moment") {
  for (const Service service : {Service::exponential, Service::even}) {
    const Run r = simulate(service, 3.0, 0ms, 8, 42);
    CHECK(r.served >= .95 * 40);
    CHECK(r.most <= 20);
  }
}

TEST_CASE("too few answers, or nobody who needs them: nothing changes") {
  Steps s;
  s.window(50ms, 1, 9);
  CHECK(s.limit.slots() == 8);
  CHECK(s.limit.base() == 0ms);
  for (int i = 0; i < 30; ++i) s.window(50ms, 1);
  CHECK(s.limit.slots() == 8);
  CHECK(s.limit.base() == 50ms);
}

TEST_CASE("slots double while the times stay, then grow by one, and are cut by a tenth") {
  Steps s;
  s.window(50ms, 2);
  REQUIRE(s.limit.base() == 50ms);
  s.window(50ms, 8);
  CHECK(s.limit.slots() == 16);
  s.window(50ms, 16);
  CHECK(s.limit.slots() == 32);
  s.window(200ms, 32);
  CHECK(s.limit.slots() == 28);
  CHECK(s.limit.cuts() == 1);
  s.window(50ms, 28);
  CHECK(s.limit.slots() == 29);
  SUBCASE("the worker says itself that it is too much") {
    s.limit.on_overload(s.now, 29);
    s.window(50ms, 29);
    CHECK(s.limit.slots() == 26);
  }
  SUBCASE("what the operator wrote is the ceiling") {
    s.limit.configure(10, 0ms);
    CHECK(s.limit.slots() == 10);
    for (int i = 0; i < 10; ++i) s.window(50ms, 10);
    CHECK(s.limit.slots() == 10);
  }
  SUBCASE("on a machine that is short of something they do not grow, and are cut all the same") {
    s.limit.hold_growth(true);
    for (int i = 0; i < 5; ++i) s.window(50ms, 29);
    CHECK(s.limit.slots() == 29);
    for (int i = 0; i < 2; ++i) s.window(200ms, 29);
    const std::uint32_t cut = s.limit.slots();
    CHECK(cut < 29);
    s.limit.hold_growth(false);
    for (int i = 0; i < 10; ++i) s.window(50ms, cut);
    CHECK(s.limit.slots() > cut);
  }
  SUBCASE("slower for good: measured anew") {
    for (int i = 0; i < 100; ++i) s.window(500ms, s.limit.slots());
    CHECK(s.limit.base() == 500ms);
    CHECK(s.limit.slots() > 10);
  }
  SUBCASE("one slow window in between is no new base") {
    s.window(500ms, 2);
    CHECK(s.limit.base() == 50ms);
    CHECK(s.limit.slots() >= 26);
  }
}

}  // namespace perigee::admission
