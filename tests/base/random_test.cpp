#include "perigee/base/random.h"

#include <doctest/doctest.h>

using perigee::Rng;

TEST_CASE("splitmix64 gives the reference sequence") {
  Rng rng(1234567);
  CHECK(rng.next() == 6457827717110365317ULL);
  CHECK(rng.next() == 3203168211198807973ULL);
  CHECK(rng.next() == 9817491932198370423ULL);
}

TEST_CASE("uniform stays in [0, 1) and below() under its bound") {
  Rng rng(42);
  double sum = 0;
  for (int i = 0; i < 100000; ++i) {
    const double u = rng.uniform();
    CHECK_UNARY(u >= 0.0 && u < 1.0);
    CHECK_UNARY(rng.below(7) < 7);
    sum += u;
  }
  CHECK(sum / 100000 == doctest::Approx(0.5).epsilon(0.01));
}
