#include "perigee/balancing/backend_load.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "perigee/base/random.h"

using namespace perigee;
using namespace perigee::balancing;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr auto kChat = RequestClass::chat;
constexpr auto kSearch = RequestClass::search;
TimePoint at(double s) { return TimePoint(from_seconds(s)); }

}  // namespace

TEST_CASE("after any schedule of events every count is back at zero") {
  Rng rng(7);
  BackendLoad load;
  const CostModel costs = orbit_costs();
  std::vector<LoadShare> shares;
  std::uint32_t streams = 0;
  for (int step = 0; step < 100000; ++step) {
    const std::uint32_t what = rng.below(5);
    if (what <= 1 || shares.empty()) {
      const auto c = static_cast<RequestClass>(rng.below(kClassCount));
      shares.push_back(load.begin(c, costs.of(c, rng.below(1 << 20))));
      continue;
    }
    LoadShare& share = shares[rng.below(static_cast<std::uint32_t>(shares.size()))];
    if (what == 2) {
      load.head(share, rng.uniform());
    } else if (what == 3) {
      if (share.phase != LoadShare::Phase::streaming && share.phase != LoadShare::Phase::none) ++streams;
      load.first_event(share);
    } else {
      if (share.phase == LoadShare::Phase::streaming) --streams;
      load.end(share);
      load.end(share);
      load.first_event(share);
      share = shares.back();
      shares.pop_back();
    }
    std::uint32_t pending = 0;
    for (std::size_t c = 0; c < kClassCount; ++c) pending += load.pending(static_cast<RequestClass>(c));
    REQUIRE(load.pending() == pending);
    REQUIRE(load.streams() == streams);
    REQUIRE(load.in_flight() == shares.size());
    REQUIRE(load.work(0.0) >= 0.0);
  }
  for (LoadShare& share : shares) load.end(share);
  CHECK(load.in_flight() == 0);
  CHECK(load.work(1.0) == 0.0);
  for (std::size_t c = 0; c < kClassCount; ++c) CHECK(load.pending(static_cast<RequestClass>(c)) == 0);
}

TEST_CASE("a chat weighs by its bytes, then by what is left after its head, then as a stream") {
  const CostModel costs = orbit_costs();
  CHECK(costs.of(kChat, 0) == doctest::Approx(1.0));
  CHECK(costs.of(kChat, 32768) == doctest::Approx(3.0));
  CHECK(costs.of(kChat, 8u << 20) == doctest::Approx(kMaxCost));
  CHECK(costs.of(kSearch, 8u << 20) == doctest::Approx(1.0));

  BackendLoad load;
  LoadShare share = load.begin(kChat, costs.of(kChat, 32768));
  CHECK(load.work(costs.stream) == doctest::Approx(3.0));
  load.head(share, costs.after_head);
  load.head(share, costs.after_head);
  CHECK(load.work(costs.stream) == doctest::Approx(0.6).epsilon(0.002));
  CHECK(load.pending(kChat) == 1);
  load.first_event(share);
  CHECK(load.work(costs.stream) == doctest::Approx(0.05));
  load.head(share, 0.5);
  CHECK(load.work(costs.stream) == doctest::Approx(0.05));
  load.end(share);
  CHECK(load.work(costs.stream) == 0.0);
}

TEST_CASE("a sample moves the estimate by the time since the last one") {
  SpeedModel speeds;
  BackendLoad a;
  BackendLoad b;
  speeds.sample(a, kChat, seconds(1), at(100));
  CHECK(speeds.mean(kChat) == seconds(1));
  speeds.sample(b, kChat, seconds(3), at(100));
  CHECK(to_seconds(speeds.mean(kChat)) == doctest::Approx(2.0));
  // 10 s (one τ) later a sample has weight 1 − 1/e.
  speeds.sample(a, kChat, seconds(2), at(110));
  const double mean = 2.0;
  const double k = std::exp(-1.0);
  const SpeedModel::Member members[] = {{&a, true}, {&b, true}};
  speeds.refresh(members, at(110));
  CHECK(a.slowness() == doctest::Approx(k * 1.0 + (1 - k) * 2.0 / mean));
  // b's only sample was 3 s when the mean was 2; it is one τ old, and decays towards the (lower) median.
  CHECK(b.slowness() == doctest::Approx(1.0 + 0.5 * k));
}

TEST_CASE("classes are measured by their own means") {
  SpeedModel speeds;
  BackendLoad chats;
  BackendLoad searches;
  for (int i = 0; i < 200; ++i) {
    speeds.sample(chats, kChat, seconds(2), at(i * 0.1));
    speeds.sample(searches, kSearch, milliseconds(50), at(i * 0.1));
  }
  const SpeedModel::Member members[] = {{&chats, true}, {&searches, true}};
  speeds.refresh(members, at(20));
  CHECK(chats.slowness() == doctest::Approx(1.0));
  CHECK(searches.slowness() == doctest::Approx(1.0));
}

TEST_CASE("the mean of a class is plain for its first hundred samples, then moves by a hundredth") {
  SpeedModel speeds;
  BackendLoad load;
  speeds.sample(load, kChat, seconds(5), at(0));  // a cold start
  for (int i = 1; i < 50; ++i) speeds.sample(load, kChat, seconds(1), at(i));
  CHECK(to_seconds(speeds.mean(kChat)) == doctest::Approx((5.0 + 49.0) / 50));
  for (int i = 50; i < 1000; ++i) speeds.sample(load, kChat, seconds(1), at(i));
  const double before = to_seconds(speeds.mean(kChat));
  speeds.sample(load, kChat, seconds(2), at(1000));
  CHECK(to_seconds(speeds.mean(kChat)) == doctest::Approx(before + 0.01 * (2.0 - before)));
}

TEST_CASE("without samples all are alike, and a newcomer has the median") {
  SpeedModel speeds;
  BackendLoad a;
  BackendLoad b;
  BackendLoad fresh;
  const SpeedModel::Member members[] = {{&a, true}, {&b, true}, {&fresh, true}};
  speeds.refresh(members, at(1));
  CHECK(a.slowness() == 1.0);
  CHECK(fresh.slowness() == 1.0);
  CHECK(fresh.last_sample() == TimePoint(Duration::min()));
  speeds.sample(a, kChat, seconds(1), at(1));
  speeds.sample(b, kChat, seconds(5), at(1));
  speeds.refresh(members, at(1));
  CHECK(fresh.slowness() == doctest::Approx(1.0));
  CHECK(b.slowness() > 1.5);
}

TEST_CASE("a failure is a slow sample, and never makes a backend look faster") {
  SpeedModel speeds;
  BackendLoad good;
  BackendLoad bad;
  for (int i = 0; i < 100; ++i) {
    speeds.sample(good, kSearch, milliseconds(100), at(i));
    speeds.sample(bad, kSearch, milliseconds(100), at(i));
  }
  const SpeedModel::Member members[] = {{&good, true}, {&bad, true}};
  speeds.failure(bad, kSearch, Duration::zero(), at(100));
  speeds.refresh(members, at(100));
  const double k = std::exp(-0.1);
  CHECK(bad.slowness() == doctest::Approx(k * 1.0 + (1 - k) * 50.0));

  SUBCASE("the worker's Retry-After counts if it is longer, up to a bound") {
    const double before = bad.slowness();
    speeds.failure(bad, kSearch, seconds(3600), at(110));
    speeds.refresh(members, at(110));
    const double one = std::exp(-1.0);
    CHECK(bad.slowness() == doctest::Approx(one * before + (1 - one) * 3000.0));
    speeds.failure(bad, kSearch, Duration::zero(), at(120));  // 50 × now, less than what is known
    speeds.refresh(members, at(120));
    CHECK(bad.slowness() == doctest::Approx(one * before + (1 - one) * 3000.0));
  }
}

TEST_CASE("a bad spell is forgotten, however many backends had it") {
  SpeedModel speeds;
  constexpr std::size_t kBackends = 3;
  for (std::size_t sick = 1; sick < kBackends; ++sick) {
    CAPTURE(sick);
    BackendLoad loads[kBackends];
    SpeedModel::Member members[kBackends];
    for (std::size_t i = 0; i < kBackends; ++i) {
      members[i] = {&loads[i], true};
      speeds.sample(loads[i], kChat, seconds(1), at(0));
      if (i < sick) speeds.failure(loads[i], kChat, seconds(50), at(20));
    }
    // Only the last one gets traffic from here on.
    for (int s = 20; s < 100; ++s) speeds.sample(loads[kBackends - 1], kChat, seconds(1), at(s));
    speeds.refresh(members, at(21));
    CHECK(loads[0].slowness() > 10 * loads[kBackends - 1].slowness());
    speeds.refresh(members, at(100));
    CHECK(loads[0].slowness() < 1.05 * loads[kBackends - 1].slowness());
  }
}

TEST_CASE("the median is taken over eligible backends only") {
  SpeedModel speeds;
  BackendLoad a;
  BackendLoad b;
  BackendLoad newcomer;
  speeds.sample(a, kChat, seconds(1), at(0));
  speeds.sample(b, kChat, seconds(9), at(0));
  const SpeedModel::Member members[] = {{&a, false}, {&b, true}, {&newcomer, true}};
  speeds.refresh(members, at(0));
  CHECK(newcomer.slowness() == doctest::Approx(b.slowness()));
}
