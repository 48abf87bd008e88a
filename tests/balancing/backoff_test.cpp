#include "perigee/balancing/backoff.h"

#include <doctest/doctest.h>

#include <algorithm>

using namespace perigee;
using namespace perigee::balancing;
using std::chrono::milliseconds;
using std::chrono::seconds;

TEST_CASE("full jitter under 25, 50, 100, 200, 250, 250 ms") {
  Rng rng(42);
  const int tops[] = {25, 50, 100, 200, 250, 250};
  for (std::uint32_t retries = 0; retries < 6; ++retries) {
    CAPTURE(retries);
    double most = 0;
    double sum = 0;
    for (int i = 0; i < 10000; ++i) {
      const Duration d = backoff(retries, {}, rng);
      REQUIRE(d >= Duration::zero());
      most = std::max(most, to_seconds(d) * 1000);
      sum += to_seconds(d) * 1000;
    }
    CHECK(most < tops[retries]);
    CHECK(most > 0.99 * tops[retries]);
    CHECK(sum / 10000 == doctest::Approx(tops[retries] / 2.0).epsilon(0.03));
  }
  CHECK(backoff(4'000'000'000U, {}, rng) < milliseconds(250));
}

TEST_CASE("after a failed connect another backend is tried at once") {
  Rng rng(1);
  const TimePoint now(seconds(100));
  CHECK(retry_delay(Outcome::connect_refused, true, 0, now, kNever, {}, rng) == Duration::zero());
  CHECK(retry_delay(Outcome::connect_timeout, true, 3, now, kNever, {}, rng) == Duration::zero());
  CHECK(retry_delay(Outcome::connect_refused, false, 0, now, kNever, {}, rng) > Duration::zero());
  CHECK(retry_delay(Outcome::reset_before_head_fresh, true, 0, now, kNever, {}, rng) > Duration::zero());
}

TEST_CASE("nobody sleeps past the deadline") {
  Rng rng(1);
  const TimePoint now(seconds(100));
  CHECK_FALSE(retry_delay(Outcome::connect_refused, true, 0, now, now, {}, rng));
  CHECK_FALSE(retry_delay(Outcome::connect_refused, true, 0, now, now - seconds(1), {}, rng));
  int refused = 0;
  for (int i = 0; i < 1000; ++i) {
    const auto d = retry_delay(Outcome::status_502, true, 4, now, now + milliseconds(125), {}, rng);
    if (d) REQUIRE(*d < milliseconds(125));
    else ++refused;
  }
  CHECK(refused == doctest::Approx(500).epsilon(0.1));
}
