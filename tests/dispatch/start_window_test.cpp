#include "start_window.h"

#include <doctest/doctest.h>

#include "perigee/base/random.h"

#include <vector>

namespace perigee::dispatch {

using namespace std::chrono_literals;

TEST_CASE("a start counts for one second at most, or until it is done") {
  StartWindow w;
  const TimePoint t0{1000s};
  CHECK(w.next_change() == kNever);
  w.start(t0);
  w.start(t0 + 500ms);
  CHECK(w.count(t0 + 900ms) == 2);
  CHECK(w.next_change() <= t0 + 1s);
  CHECK(w.count(t0 + 1s) == 1);
  w.done(t0, t0 + 1100ms);  // has aged out already
  CHECK(w.count(t0 + 1100ms) == 1);
  w.done(t0 + 500ms, t0 + 1100ms);
  CHECK(w.count(t0 + 1100ms) == 0);
  CHECK(w.count(t0 + 1h) == 0);
}

TEST_CASE("it counts as a list of times would") {
  Rng rng(5);
  StartWindow w;
  std::vector<TimePoint> open;
  TimePoint now{1000s};
  for (int i = 0; i < 30'000; ++i) {
    now += Duration(rng.below(rng.below(100) == 0 ? 2'000'000'000U : 30'000'000U));
    if (rng.below(2) == 0) {
      w.start(now);
      open.push_back(now);
    } else if (!open.empty()) {
      const std::size_t at = rng.below(static_cast<std::uint32_t>(open.size()));
      w.done(open[at], now);
      open.erase(open.begin() + static_cast<std::ptrdiff_t>(at));
    }
    std::uint32_t surely = 0;
    std::uint32_t perhaps = 0;
    for (const TimePoint t : open) {
      surely += now - t < 937ms ? 1 : 0;
      perhaps += now - t < 1s ? 1 : 0;
    }
    const std::uint32_t counted = w.count(now);
    REQUIRE(counted >= surely);
    REQUIRE(counted <= perhaps);
    if (counted > 0) REQUIRE(w.next_change() > now);
  }
}

}  // namespace perigee::dispatch
