#include "perigee/balancing/failure_window.h"

#include <doctest/doctest.h>

#include <deque>

#include "perigee/base/random.h"

using namespace perigee;
using namespace perigee::balancing;
using std::chrono::milliseconds;
using std::chrono::seconds;
using Counts = FailureWindow::Counts;

TEST_CASE("ten buckets of a second on the clock's edges: what is older counts no more") {
  FailureWindow w;
  const TimePoint start{seconds(1000)};
  CHECK(w.sum(start) == Counts{});
  w.add(FailureWindow::kFailure, start + milliseconds(999));
  w.add(FailureWindow::kSuccess, start + milliseconds(1000));
  CHECK(w.sum(start + milliseconds(1000)) == Counts{4, 2, 0});
  // Only who looked: nothing was added since.
  CHECK(w.sum(start + milliseconds(9999)) == Counts{4, 2, 0});
  CHECK(w.sum(start + milliseconds(10000)) == Counts{2, 0, 0});
  CHECK(w.sum(start + milliseconds(11000)) == Counts{});
  w.add(FailureWindow::kDoubtful, start + milliseconds(10500));
  CHECK(w.sum(start + milliseconds(10500)) == Counts{4, 0, 2});
  w.add(FailureWindow::kSuccess, start + seconds(500));
  CHECK(w.sum(start + seconds(500)) == Counts{2, 0, 0});
  w.clear();
  CHECK(w.sum(start + seconds(500)) == Counts{});
}

TEST_CASE("whatever the order of quiet and busy times, the sum is that of the last ten seconds' buckets") {
  FailureWindow w;
  Rng rng(42);
  std::deque<std::pair<std::int64_t, Counts>> all;
  std::int64_t ms = 5'000'000;
  for (int i = 0; i < 5000; ++i) {
    ms += static_cast<std::int64_t>(rng.uniform(0.0, i % 50 == 0 ? 15'000.0 : 400.0));
    const Counts one = rng.uniform(0.0, 1.0) < .3 ? FailureWindow::kFailure : FailureWindow::kSuccess;
    w.add(one, TimePoint(milliseconds(ms)));
    all.emplace_back(ms / 1000, one);
    Counts expected;
    while (all.front().first <= ms / 1000 - 10) all.pop_front();
    for (const auto& [second, counts] : all) expected += counts;
    REQUIRE(w.sum(TimePoint(milliseconds(ms))) == expected);
  }
}

TEST_CASE("another length begins anew") {
  FailureWindow w;
  const TimePoint now{seconds(100)};
  w.add(FailureWindow::kFailure, now);
  w.set_length(seconds(10));
  CHECK(w.sum(now) == Counts{2, 2, 0});
  w.set_length(seconds(1));
  CHECK(w.sum(now) == Counts{});
  w.add(FailureWindow::kFailure, now);
  CHECK(w.sum(now + milliseconds(999)) == Counts{2, 2, 0});
  CHECK(w.sum(now + seconds(1)) == Counts{});
}
