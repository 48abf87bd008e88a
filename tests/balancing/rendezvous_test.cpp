#include "perigee/balancing/rendezvous.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <queue>
#include <string>
#include <vector>

#include "allocation_count.h"
#include "perigee/base/random.h"

namespace perigee::balancing {
namespace {

constexpr double kNoBound = 1e9;

std::vector<Rendezvous> workers(std::size_t n) {
  std::vector<Rendezvous> all(n);
  for (std::size_t i = 0; i < n; ++i) all[i].id = rendezvous_id("http://127.0.0.1:" + std::to_string(3001 + i));
  return all;
}

RendezvousTotal total(const std::vector<Rendezvous>& all) {
  RendezvousTotal t;
  for (const Rendezvous& one : all) t.add(one);
  return t;
}

std::size_t pick(std::uint64_t key, const std::vector<Rendezvous>& all, double bound) {
  return pick_rendezvous(key, all, total(all), bound);
}

// Keys arrive at random, as many as keep `mean` in flight on each of eight workers, and stay for an exponential time.
struct Run {
  double home = 0;      // share that went to the key's first choice
  double max_mean = 0;  // the busiest beside the mean, over arrivals
  double most_over = 0; // load beyond the capacity while somebody was below his
};

Run run(double bound, bool zipf, std::uint64_t seed) {
  constexpr std::size_t kWorkers = 8;
  constexpr std::size_t kKeys = 500;
  constexpr double kMean = 10;
  constexpr int kArrivals = 15'000;
  Rng rng(seed);
  std::vector<Rendezvous> all = workers(kWorkers);
  std::array<std::uint64_t, kKeys> key{};
  std::array<double, kKeys> up_to{};
  double sum = 0;
  for (std::size_t i = 0; i < kKeys; ++i) {
    key[i] = rng.next();
    sum += zipf ? std::pow(static_cast<double>(i + 1), -1.2) : 1.0;
    up_to[i] = sum;
  }
  using End = std::pair<double, std::size_t>;
  std::priority_queue<End, std::vector<End>, std::greater<>> ends;
  double now = 0;
  Run r;
  int seen = 0;
  for (int i = 0; i < kArrivals; ++i) {
    now += rng.exponential(1.0 / (kMean * kWorkers));
    for (; !ends.empty() && ends.top().first <= now; ends.pop()) all[ends.top().second].load -= 1;
    const auto k = static_cast<std::size_t>(std::ranges::upper_bound(up_to, rng.uniform() * sum) - up_to.begin());
    const RendezvousTotal t = total(all);
    const double capacity = rendezvous_capacity(t, 1, bound);
    const bool room = std::ranges::any_of(all, [&](const Rendezvous& w) { return w.load < capacity; });
    const std::size_t chosen = pick(key[k], all, bound);
    const std::size_t first = pick(key[k], all, kNoBound);
    all[chosen].load += 1;
    ends.emplace(now + rng.exponential(1.0), chosen);
    if (room) r.most_over = std::max(r.most_over, all[chosen].load - capacity);
    if (i < kArrivals / 10) continue;
    ++seen;
    r.home += chosen == first ? 1 : 0;
    double most = 0;
    for (const Rendezvous& w : all) most = std::max(most, w.load);
    r.max_mean += most / ((t.load + 1) / kWorkers);
  }
  r.home /= seen;
  r.max_mean /= seen;
  return r;
}

Run mean_run(double bound, bool zipf) {
  Run all;
  constexpr std::uint64_t kSeeds = 8;  // where the few popular keys live differs much between them
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    const Run one = run(bound, zipf, seed);
    all.home += one.home / kSeeds;
    all.max_mean += one.max_mean / kSeeds;
    all.most_over = std::max(all.most_over, one.most_over);
  }
  return all;
}

}  // namespace

TEST_CASE("one of eight that goes takes its own keys along and no other") {
  std::vector<Rendezvous> all = workers(8);
  const std::vector<Rendezvous> seven(all.begin(), all.end() - 1);
  Rng rng(42);
  int moved = 0;
  constexpr int kKeys = 20'000;
  std::array<int, 8> of{};
  for (int i = 0; i < kKeys; ++i) {
    const std::uint64_t key = rng.next();
    const std::size_t before = pick(key, all, kNoBound);
    const std::size_t after = pick(key, seven, kNoBound);
    ++of[before];
    if (before == 7) ++moved;
    else if (after != before) FAIL("a key moved");
  }
  CHECK(moved / double{kKeys} == doctest::Approx(0.125).epsilon(0.05));
  for (const int n : of) CHECK(n / double{kKeys} == doctest::Approx(0.125).epsilon(0.05));
}

TEST_CASE("what an overfull first choice cannot take spreads over all others") {
  std::vector<Rendezvous> all = workers(8);
  Rng rng(1);
  std::array<int, 8> next{};
  all[3].load = 10;  // all others idle: capacity is ceil(1.5 * 11 / 8) = 3
  for (int i = 0; i < 16'000; ++i) {
    const std::uint64_t key = rng.next();
    if (pick(key, all, kNoBound) == 3) ++next[pick(key, all, 1.5)];
  }
  CHECK(next[3] == 0);
  for (std::size_t i = 0; i < 8; ++i) {
    if (i != 3) CHECK(next[i] == doctest::Approx(2000.0 / 7).epsilon(0.25));
  }
}

TEST_CASE("weights: keys by share, and a heavier one takes keys from others without moving any between them") {
  std::vector<Rendezvous> all = workers(4);
  std::vector<Rendezvous> heavier = all;
  heavier[0].weight = 3;
  Rng rng(2);
  int of_heavy = 0;
  constexpr int kKeys = 20'000;
  for (int i = 0; i < kKeys; ++i) {
    const std::uint64_t key = rng.next();
    const std::size_t before = pick(key, all, kNoBound);
    const std::size_t after = pick(key, heavier, kNoBound);
    if (after == 0) ++of_heavy;
    else if (after != before) FAIL("a key moved");
  }
  CHECK(of_heavy / double{kKeys} == doctest::Approx(0.5).epsilon(0.03));
}

TEST_CASE("all over their capacity: the one that is least over; none idle, one always has room for one") {
  std::vector<Rendezvous> all = workers(3);
  for (Rendezvous& w : all) w.load = 100;
  all[1].load = 99;
  RendezvousTotal small;  // of a pool that has become larger meanwhile: no capacity fits
  small.load = 10;
  small.weight = 3;
  CHECK(pick_rendezvous(7, all, small, 1.5) == 1);
  std::vector<Rendezvous> idle = workers(64);
  CHECK(rendezvous_capacity(total(idle), 1, 1.5) == 1.0);
}

TEST_CASE("the table: share of keys at home and the busiest beside the mean, by bound") {
  struct Row {
    double bound;
    double home;
    double max_mean;
    double zipf_home;
    double zipf_max_mean;
  };
  constexpr std::array<Row, 4> kTable = {{{2.0, 0.999, 1.50, 0.919, 1.93},
                                          {1.5, 0.970, 1.41, 0.806, 1.53},
                                          {1.25, 0.885, 1.28, 0.700, 1.30},
                                          {1.1, 0.730, 1.16, 0.585, 1.16}}};
  for (const Row& row : kTable) {
    CAPTURE(row.bound);
    const Run uniform = mean_run(row.bound, false);
    CHECK(std::abs(uniform.home - row.home) <= 0.02);
    CHECK(std::abs(uniform.max_mean - row.max_mean) <= 0.02);
    CHECK(uniform.most_over <= 1.0);
    const Run zipf = mean_run(row.bound, true);
    CHECK(std::abs(zipf.home - row.zipf_home) <= 0.04);
    CHECK(std::abs(zipf.max_mean - row.zipf_max_mean) <= 0.02);
    CHECK(zipf.most_over <= 1.0);
  }
}

TEST_CASE("a choice allocates nothing") {
  const std::vector<Rendezvous> all = workers(64);
  const RendezvousTotal t = total(all);
  const auto before = test::allocations();
  std::size_t sum = 0;
  for (std::uint64_t key = 0; key < 1000; ++key) sum += pick_rendezvous(key, all, t, 1.5);
  CHECK(test::allocations() == before);
  CHECK(sum > 0);
}

}  // namespace perigee::balancing
