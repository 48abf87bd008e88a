#include <doctest/doctest.h>

#include <array>
#include <vector>

#include "allocation_count.h"
#include "perigee/balancing/picker.h"

using namespace perigee;
using namespace perigee::balancing;

namespace {

constexpr std::uint32_t kBackends = 8;
constexpr double kBeta = 0.05;

struct Pool {
  std::array<BackendLoad, kBackends> loads;
  struct Held {
    std::size_t backend;
    LoadShare share;
  };
  std::vector<Held> held;
  SpeedModel speeds;

  std::array<Candidate, kBackends> candidates() {
    std::array<Candidate, kBackends> all;
    for (std::uint32_t i = 0; i < kBackends; ++i) all[i] = {i, 1.0, &loads[i]};
    return all;
  }
  void occupy(std::size_t backend, int count, RequestClass c = RequestClass::search, double cost = 1.0) {
    for (int i = 0; i < count; ++i) held.push_back({backend, loads[backend].begin(c, cost)});
  }
  void learn(std::size_t backend, Duration first_event) {
    speeds.sample(loads[backend], RequestClass::search, first_event, TimePoint{});
  }
  void refresh() {
    std::array<SpeedModel::Member, kBackends> members;
    for (std::size_t i = 0; i < kBackends; ++i) members[i] = {&loads[i], true};
    speeds.refresh(members, TimePoint{});
  }
};

}  // namespace

TEST_CASE("the least expected cost wins: counts, speed and weight together") {
  Pool pool;
  Rng rng(1);
  const auto picker = make_picker("least_loaded", {.stream_cost = kBeta});
  for (std::size_t i = 0; i < kBackends; ++i) {
    pool.learn(i, std::chrono::milliseconds(100));
    pool.occupy(i, 4);
  }
  auto all = pool.candidates();

  SUBCASE("fewer pending") {
    pool.loads[5].end(pool.held[5 * 4].share);
    CHECK(picker->pick(all, rng) == 5);
  }
  SUBCASE("a stream is a twentieth of a request") {
    for (Pool::Held& h : pool.held) {
      if (h.backend == 3) pool.loads[3].first_event(h.share);
    }
    CHECK(picker->pick(all, rng) == 3);
  }
  SUBCASE("a heavier weight") {
    all[2].weight = 1.5;
    CHECK(picker->pick(all, rng) == 2);
  }
  SUBCASE("a faster backend, once the tick has seen it") {
    // Long after the others' samples, so that this one counts fully.
    pool.speeds.sample(pool.loads[6], RequestClass::search, std::chrono::milliseconds(50),
                       TimePoint(std::chrono::seconds(5)));
    pool.refresh();
    CHECK(picker->pick(all, rng) == 6);
  }
  SUBCASE("only among those that are offered") {
    pool.loads[5].end(pool.held[5 * 4].share);
    const std::array<Candidate, 2> some = {all[1], all[7]};
    CHECK(picker->pick(some, rng) < 2);
  }
}

TEST_CASE("one more pending request never makes a backend more attractive") {
  Rng rng(3);
  for (int round = 0; round < 1000; ++round) {
    Pool pool;
    for (std::size_t i = 0; i < kBackends; ++i) {
      pool.occupy(i, static_cast<int>(rng.below(20)), RequestClass::chat, rng.uniform(0.1, 5));
      pool.learn(i, from_seconds(rng.uniform(0.01, 4)));
    }
    pool.refresh();
    const std::size_t i = rng.below(kBackends);
    const Candidate candidate{static_cast<std::uint32_t>(i), rng.uniform(0.1, 3), &pool.loads[i]};
    const double before = expected_cost(candidate, kBeta);
    pool.occupy(i, 1, RequestClass::embeddings, rng.uniform(0.01, 2));
    REQUIRE(expected_cost(candidate, kBeta) > before);
  }
}

TEST_CASE("with equal speeds and costs it is weighted least outstanding") {
  Rng rng(9);
  const auto loaded = make_picker("least_loaded", {.stream_cost = 1.0});
  const auto outstanding = make_picker("least_outstanding");
  for (int round = 0; round < 2000; ++round) {
    Pool pool;
    auto all = pool.candidates();
    for (std::size_t i = 0; i < kBackends; ++i) {
      pool.occupy(i, static_cast<int>(rng.below(6)));
      all[i].weight = 1 + rng.below(3);
    }
    for (Pool::Held& h : pool.held) {
      if (rng.below(2) == 0) pool.loads[h.backend].first_event(h.share);
    }
    Rng one(static_cast<std::uint64_t>(round));
    Rng two(static_cast<std::uint64_t>(round));
    REQUIRE(loaded->pick(all, one) == outstanding->pick(all, two));
  }
}

TEST_CASE("exact ties are drawn evenly") {
  Pool pool;
  pool.occupy(4, 1);
  const auto all = pool.candidates();
  Rng rng(42);
  const auto picker = make_picker("least_loaded", {.stream_cost = kBeta});
  std::array<int, kBackends> hits{};
  for (int i = 0; i < 70000; ++i) ++hits[picker->pick(all, rng)];
  CHECK(hits[4] == 0);
  for (std::size_t i = 0; i < kBackends; ++i) {
    if (i != 4) CHECK(hits[i] == doctest::Approx(10000).epsilon(0.04));
  }
}

TEST_CASE("a hundred thousand decisions, ticks and samples allocate nothing") {
  for (const std::string_view name : picker_names()) {
    CAPTURE(name);
    Pool pool;
    auto all = pool.candidates();
    std::array<SpeedModel::Member, kBackends> members;
    for (std::size_t i = 0; i < kBackends; ++i) members[i] = {&pool.loads[i], true};
    const auto picker = make_picker(name);
    Rng rng(5);
    std::array<LoadShare, 64> shares{};
    std::array<std::size_t, 64> where{};
    const std::uint64_t before = test::allocations();
    for (std::size_t i = 0; i < 100000; ++i) {
      const TimePoint now{std::chrono::milliseconds(i)};
      const std::size_t slot = i % shares.size();
      pool.loads[where[slot]].end(shares[slot]);
      where[slot] = picker->pick(all, rng);
      shares[slot] = pool.loads[where[slot]].begin(RequestClass::chat, 1.0);
      pool.speeds.sample(pool.loads[where[slot]], RequestClass::chat, std::chrono::milliseconds(20), now);
      if (i % 50 == 0) pool.speeds.refresh(members, now);
    }
    CHECK(test::allocations() == before);
  }
  const std::uint64_t before = test::allocations();
  const auto counted = make_picker("least_loaded");
  CHECK(test::allocations() == before + 1);  // the count does count
}
