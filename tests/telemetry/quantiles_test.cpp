// Quantiles against the sorted truth, exact merging, and forgetting.
#include "perigee/telemetry/quantiles.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "perigee/base/random.h"

using namespace perigee;
using namespace perigee::telemetry;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

const TimePoint kStart{seconds(1000)};

// Log-normal around 200 ms by Box and Muller.
double sample(Rng& rng) {
  const double u = 1.0 - rng.uniform();
  const double v = rng.uniform();
  return .2 * std::exp(std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586 * v));
}

}  // namespace

TEST_CASE("too few samples are unknown") {
  Histogram h;
  CHECK_FALSE(h.quantile(.5));
  for (int i = 0; i < 19; ++i)
    h.record(.1);
  CHECK_FALSE(h.quantile(.5));
  h.record(.1);
  REQUIRE(h.quantile(.5));
  CHECK(*h.quantile(.5) == doctest::Approx(.1).epsilon(.008));
}

TEST_CASE("values outside the range fall into the outermost buckets") {
  CHECK(quantile_bucket(0) == 0);
  CHECK(quantile_bucket(-3) == 0);
  CHECK(quantile_bucket(1e-9) == 0);
  CHECK(quantile_bucket(std::ldexp(1, -14)) == 0);
  CHECK(quantile_bucket(std::nextafter(1024.0, 0)) == kQuantileBuckets - 1);
  CHECK(quantile_bucket(1e300) == kQuantileBuckets - 1);
  CHECK(quantile_bucket(std::numeric_limits<double>::infinity()) == kQuantileBuckets - 1);
  CHECK(quantile_bucket(std::numeric_limits<double>::quiet_NaN()) == kQuantileBuckets - 1);
}

TEST_CASE("the middle of a bucket lies in it and its neighbours do not overlap") {
  for (std::size_t b = 0; b < kQuantileBuckets; ++b) {
    REQUIRE(quantile_bucket(quantile_value(b)) == b);
    if (b > 0) REQUIRE(quantile_value(b) > quantile_value(b - 1));
  }
}

TEST_CASE("every quantile of a million log-normal samples is within 0.8 % of the truth") {
  for (const std::uint64_t seed : {42U, 1U, 2U}) {
    Rng rng(seed);
    Histogram h;
    std::vector<double> truth;
    for (int i = 0; i < 1'000'000; ++i) {
      truth.push_back(sample(rng));
      h.record(truth.back());
    }
    std::sort(truth.begin(), truth.end());
    for (const double q : {.001, .01, .1, .25, .5, .75, .9, .95, .99, .999, 1.0}) {
      const auto rank = static_cast<std::size_t>(std::ceil(q * 1e6));
      CAPTURE(q);
      CHECK(std::abs(*h.quantile(q) / truth[rank - 1] - 1) < .008);
    }
  }
}

TEST_CASE("merging is exact, and subtracting undoes it") {
  Rng rng(42);
  Histogram a, b, both;
  for (int i = 0; i < 5000; ++i) {
    const double x = sample(rng);
    (i % 3 == 0 ? a : b).record(x);
    both.record(x);
  }
  Histogram merged = a;
  merged.merge(b);
  CHECK(merged == both);
  merged.subtract(a);
  CHECK(merged == b);
}

TEST_CASE("the ring forgets ten seconds at a time and is empty after six steps") {
  SlidingHistogram ring(kStart);
  for (int part = 0; part < 6; ++part) {
    for (int i = 0; i < 100; ++i)
      ring.record(.1 * (part + 1), kStart + seconds(10 * part));
  }
  CHECK(ring.count(kStart + seconds(59)) == 600);
  CHECK(ring.count(kStart + seconds(60)) == 500);
  CHECK(*ring.quantile(.01, kStart + seconds(60)) == doctest::Approx(.2).epsilon(.008));
  CHECK(ring.count(kStart + seconds(70)) == 400);
  CHECK(ring.count(kStart + seconds(109)) == 100);
  CHECK(ring.count(kStart + seconds(110)) == 0);
  CHECK_FALSE(ring.quantile(.01, kStart + seconds(111)));
}

TEST_CASE("a ring that slept for an hour is empty and works on") {
  SlidingHistogram ring(kStart);
  for (int i = 0; i < 100; ++i)
    ring.record(5, kStart);
  const TimePoint later = kStart + seconds(3605);
  CHECK(ring.count(later) == 0);
  for (int i = 0; i < 30; ++i)
    ring.record(1, later);
  CHECK(ring.count(later + seconds(49)) == 30);
  CHECK(*ring.quantile(.5, later) == doctest::Approx(1).epsilon(.008));
}

TEST_CASE("an answer is kept for a second") {
  SlidingHistogram ring(kStart);
  for (int i = 0; i < 100; ++i)
    ring.record(1, kStart);
  const auto before = ring.quantile(.99, kStart);
  for (int i = 0; i < 100; ++i)
    ring.record(10, kStart);
  CHECK(ring.quantile(.99, kStart + milliseconds(999)) == before);
  CHECK(*ring.quantile(.99, kStart + seconds(1)) == doctest::Approx(10).epsilon(.008));
}
