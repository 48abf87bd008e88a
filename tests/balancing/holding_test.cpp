#include "perigee/balancing/holding.h"

#include <doctest/doctest.h>

#include <array>
#include <cmath>

#include "perigee/base/random.h"
#include "perigee/base/sanitizer.h"

namespace perigee::balancing {
namespace {

using namespace std::chrono_literals;

// Backends whose work is log-normal, mean 40 ms, with a factor each.
struct Bench {
  explicit Bench(std::uint64_t seed, double sigma = 0.8) : rng(seed), sigma_(sigma) {}
  void work(std::size_t i, double factor, RequestClass c = RequestClass::other) {
    constexpr double kTwoPi = 6.283185307179586;
    const double normal = std::sqrt(-2 * std::log(1 - rng.uniform())) * std::cos(kTwoPi * rng.uniform());
    of[i].started(now);
    of[i].ended();
    classes.sample(of[i], c, from_seconds(factor * 0.040 * std::exp(sigma_ * normal - sigma_ * sigma_ / 2)), now);
  }
  bool review() {
    now += 50ms;
    return classes.review(members, now);
  }
  Rng rng;
  double sigma_;
  TimePoint now{1000s};
  std::array<ServiceSpeed, 3> of;
  SpeedClasses classes;
  std::array<SpeedClasses::Member, 3> members{{{of.data(), true}, {&of[1], true}, {&of[2], true}}};
};

}  // namespace

TEST_CASE("equal backends stay in class 1, under work of any scatter") {
  for (const double sigma : {0.1, 0.8, 1.5}) {
    CAPTURE(sigma);
    Bench b(11, sigma);
    const int rounds = kFastBuild ? 100'000 : 5'000;
    int slow = 0;
    for (int i = 0; i < rounds; ++i) {
      for (std::size_t k = 0; k < 3; ++k) b.work(k, 1.0);
      if (b.review()) ++slow;
    }
    CHECK(slow == 0);
  }
}

TEST_CASE("a factor of ten is seen within a dozen answers, one of two within two hundred") {
  for (const std::uint64_t seed : {1U, 2U, 3U, 4U}) {
    CAPTURE(seed);
    Bench b(seed);
    for (int i = 0; i < 200; ++i) {
      for (std::size_t k = 0; k < 3; ++k) b.work(k, 1.0);
      b.review();
    }
    int needed = 0;
    while (b.of[2].speed() == 1 && needed < 100) {
      ++needed;
      for (int n = 0; n < 4; ++n) b.work(0, 1.0), b.work(1, 1.0);
      b.work(2, 10.0);
      b.review();
    }
    CHECK(needed <= 12);
    // And it is over as fast.
    needed = 0;
    while (b.of[2].speed() != 1 && needed < 100) {
      ++needed;
      for (std::size_t k = 0; k < 3; ++k) b.work(k, 1.0);
      b.review();
    }
    CHECK(needed <= 60);
    needed = 0;
    while (b.of[2].speed() == 1 && needed < 1000) {
      ++needed;
      b.work(0, 1.0), b.work(1, 1.0), b.work(2, 2.0);
      b.review();
    }
    CHECK(needed <= 200);
  }
}

TEST_CASE("classes are powers of two, and the mix of request classes is none of them") {
  Bench b(7);
  for (int i = 0; i < 2000; ++i) {
    b.work(0, 1.0);
    b.work(1, 1.0);
    // The third serves only what takes twenty times as long, four times as slowly as the others do.
    b.work(0, 20.0, RequestClass::chat);
    b.work(2, 80.0, RequestClass::chat);
    b.review();
  }
  CHECK(b.of[0].speed() == 1);
  CHECK(b.of[1].speed() == 1);
  CHECK(b.of[2].speed() >= 2);
  CHECK(b.of[2].speed() <= 8);
}

TEST_CASE("speeds are relative to who is up") {
  Bench b(3);
  for (int i = 0; i < 300; ++i) {
    b.work(0, 1.0), b.work(1, 8.0), b.work(2, 8.0);
    b.review();
  }
  CHECK(b.of[1].speed() >= 4);
  b.members[0].up = false;
  CHECK_FALSE(b.review());
  CHECK(b.of[1].speed() == 1);
  CHECK(b.of[2].speed() == 1);
}

TEST_CASE("the rule: how many must wait, whom it concerns, when it lapses") {
  Bench b(5);
  for (int i = 0; i < 400; ++i) {
    for (int n = 0; n < 10; ++n) b.work(0, 1.0);
    b.work(1, 1.0), b.work(2, 4.0);
    b.review();
  }
  const ServiceSpeed& slow = b.of[2];
  REQUIRE(slow.speed() >= 2);
  const auto need = 2 * slow.speed();
  CHECK_FALSE(b.of[0].held({1, 0}, false));
  CHECK(slow.held({need - 1, 0}, false));
  CHECK_FALSE(slow.held({need, 0}, false));
  CHECK(slow.held({500, 2}, true));          // others wait: leave it to them
  CHECK_FALSE(slow.held({500, 500}, true));  // nobody else is left
  CHECK_FALSE(slow.held({500, 499}, true));  // the fast ones would take longer than the slow one
  SUBCASE("without an exchange for five seconds it is tried") {
    for (int i = 0; i < 101; ++i) {
      for (int n = 0; n < 10; ++n) b.work(0, 1.0);
      b.review();
    }
    CHECK_FALSE(slow.held({1, 0}, false));
    b.of[2].started(b.now);
    CHECK(slow.held({1, 0}, false));
  }
  SUBCASE("no place falls free on the fast ones: nobody waits for them") {
    for (int i = 0; i < 80; ++i) b.review();
    CHECK_FALSE(slow.held({1, 0}, false));
  }
  SUBCASE("what it was is forgotten in half a minute without answers") {
    for (int i = 0; i < 800; ++i) {
      b.work(0, 1.0), b.work(1, 1.0);
      b.review();
    }
    CHECK(slow.speed() == 1);
  }
  SUBCASE("switched off") {
    HoldOptions off;
    off.hold = 0;
    b.classes.configure(off);
    CHECK_FALSE(b.review());
    CHECK_FALSE(slow.held({1, 0}, false));
  }
}

}  // namespace perigee::balancing
