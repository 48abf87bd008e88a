#include "perigee/admission/usual_time.h"

#include <doctest/doctest.h>

using namespace perigee;
using namespace perigee::admission;
using namespace std::chrono_literals;

TEST_CASE("the usual time: unknown before twenty samples and after five silent seconds, then the median") {
  UsualTime usual;
  TimePoint now{1000s};
  for (int i = 0; i < 19; ++i) usual.sample(100ms, now);
  CHECK_FALSE(usual.median(now));
  usual.sample(100ms, now);
  REQUIRE(usual.median(now));
  CHECK(to_seconds(*usual.median(now)) == doctest::Approx(0.1));
  CHECK(usual.median(now + 5s));
  CHECK_FALSE(usual.median(now + 5001ms));
  CHECK(to_seconds(*usual.nine_of_ten(now)) == doctest::Approx(0.1));
  // A few slow ones do not move it, many do; the oldest are forgotten.
  for (int i = 0; i < 10; ++i) usual.sample(9s, now);
  CHECK(to_seconds(*usual.median(now)) == doctest::Approx(0.1));
  CHECK(to_seconds(*usual.nine_of_ten(now)) == doctest::Approx(9.0));
  for (int i = 0; i < 64; ++i) usual.sample(300ms, now);
  CHECK(to_seconds(*usual.median(now)) == doctest::Approx(0.3));
}
