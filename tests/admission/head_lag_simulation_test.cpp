// What head-lag control achieves in front of the worker model, against fixed numbers of slots.
//
// The figures that stand in src/admission/README.md are printed by this test.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <span>
#include <string>

#include "lag_simulation.h"
#include "perigee/base/sanitizer.h"

using namespace perigee;
using namespace perigee::model;

namespace {

// One seed scatters more.
constexpr std::array<std::uint64_t, 3> kAllSeeds = {42, 1, 2};
constexpr std::span<const std::uint64_t> kSeeds(kAllSeeds.data(), kFastBuild ? kAllSeeds.size() : 1);
constexpr double kDelayTolerance = kFastBuild ? 0.16 : 0.3;  // seconds

Outcome mean_of(const Load& load, const Policy& policy) {
  Outcome mean;
  const double n = static_cast<double>(kSeeds.size());
  for (const std::uint64_t seed : kSeeds) {
    const Outcome o = simulate(load, policy, seed);
    mean.served += o.served / n;
    mean.token_p95 += o.token_p95 / n;
    mean.token_p99 += o.token_p99 / n;
    mean.whole_mean += o.whole_mean / n;
    mean.health_worst = std::max(mean.health_worst, o.health_worst);
    mean.ended += o.ended;
  }
  return mean;
}

std::string line(const std::string& what, const Outcome& o) {
  std::array<char, 160> text;
  std::snprintf(text.data(), text.size(),
                "%-22s served %5.2f/s  token delay p95 %.2f p99 %.2f s  health %.2f s  whole %.2f s",
                what.c_str(), o.served, o.token_p95, o.token_p99, o.health_worst, o.whole_mean);
  return text.data();
}

}  // namespace

TEST_CASE("the model serves under fixed slots what a worker does") {
  struct Row {
    std::array<double, 3> served;
    std::array<double, 3> token_p95;
  };
  constexpr std::array<std::uint32_t, 3> slots = {48, 64, 96};
  constexpr std::array<Row, 5> expected = {{
      {{12.7, 16.0, 16.2}, {.13, .22, .43}},
      {{2.4, 3.2, 4.8}, {.01, .01, .01}},
      {{4.0, 5.4, 6.8}, {.02, .09, .55}},
      {{4.4, 4.3, 4.3}, {.21, .30, .47}},
      {{4.8, 6.4, 8.9}, {.02, .03, .17}},
  }};
  for (std::size_t l = 0; l < five_loads().size(); ++l) {
    for (std::size_t s = 0; s < slots.size(); ++s) {
      const Load& load = five_loads()[l];
      const Outcome o = mean_of(load, Policy::fixed(slots[s]));
      INFO(load.name << ", " << slots[s] << " slots: " << line("", o));
      CHECK(o.served == doctest::Approx(expected[l].served[s]).epsilon(0.08));
      CHECK(std::abs(o.token_p95 - expected[l].token_p95[s]) < kDelayTolerance);
    }
  }
}

TEST_CASE("without a limit the model collapses, as a worker does") {
  const Outcome direct = mean_of(five_loads()[0], Policy::direct());
  MESSAGE(line("A, direct", direct));
  CHECK(direct.token_p95 > 1.0);
}

TEST_CASE("head-lag control serves what the best fixed number serves in each load, with tokens in time") {
  for (const Load& load : five_loads()) {
    Outcome best;
    for (const std::uint32_t slots : {32U, 48U, 64U, 96U, 128U}) {
      const Outcome o = mean_of(load, Policy::fixed(slots));
      if (o.served > best.served) best = o;
    }
    const Outcome rule = mean_of(load, Policy::head_lag());
    MESSAGE(line(load.name, rule), "  = ", rule.served / best.served, " of the best fixed number's");
    CHECK(rule.served >= 0.92 * best.served);
    CHECK(rule.token_p95 <= 0.30);
  }
}

TEST_CASE("a burst of chats on three workers: running tokens and health are protected, and the mean gains") {
  for (const std::uint32_t chats : {200U, 400U}) {
    for (const bool pauses : {false, true}) {
      Load load;
      load.burst = chats;
      load.workers = 3;
      load.pauses = pauses;
      load.shape.provider = Duration::zero();
      const Outcome direct = mean_of(load, Policy::direct());
      const Outcome rule = mean_of(load, Policy::head_lag());
      const std::string name = std::to_string(chats) + (pauses ? ", pauses" : "");
      MESSAGE(line(name + ", direct", direct));
      MESSAGE(line(name + ", rule", rule));
      const double most = pauses ? 0.5 : 0.15;
      CHECK(rule.token_p99 <= most);
      CHECK(rule.health_worst <= most);
      CHECK(rule.whole_mean < direct.whole_mean);
      CHECK(rule.ended == direct.ended);
    }
  }
}

TEST_CASE("a recovered worker finds its capacity again within half a minute") {
  // From pace 5 and 8 slots, under load A: the second half of the first minute is measured.
  Load load = five_loads()[0];
  load.seconds = 60;
  load.recovered = true;
  const Outcome o = mean_of(load, Policy::head_lag());
  MESSAGE(line("A, recovered", o));
  CHECK(o.served > 0.85 * 17);
  CHECK(o.token_p95 <= 0.30);
}
