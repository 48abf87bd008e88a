#include "perigee/admission/gcra.h"

#include <algorithm>
#include <vector>

#include <doctest/doctest.h>

#include "perigee/base/random.h"

using namespace perigee;
using namespace perigee::admission;
using namespace std::chrono_literals;

namespace {

const TimePoint kStart{1000s};

// One key.
struct Bucket {
  RateSpec spec;
  TimePoint tat{};
  RateAnswer ask(Duration at, std::uint64_t n = 1) {
    const RateAnswer answer = gcra(spec, tat, kStart + at, n);
    if (answer.allowed) tat = new_tat(spec, tat, kStart + at, n);
    return answer;
  }
};

}  // namespace

TEST_CASE("ten a second, burst of five: the example") {
  Bucket b{RateSpec::of(10, 1s, 5)};
  CHECK(b.spec.each == 100ms);
  for (std::uint64_t left = 5; left-- > 0;) {
    const RateAnswer answer = b.ask(0ms);
    CHECK(answer.allowed);
    CHECK(answer.remaining == left);
  }
  const RateAnswer sixth = b.ask(0ms);
  CHECK_FALSE(sixth.allowed);
  CHECK(sixth.remaining == 0);
  CHECK(sixth.retry_after == 100ms);
  CHECK(sixth.reset == 500ms);
  CHECK(sixth.grows == 100ms);
  const RateAnswer at_100 = b.ask(100ms);
  CHECK(at_100.allowed);
  CHECK(at_100.remaining == 0);
  const RateAnswer at_150 = b.ask(150ms);
  CHECK_FALSE(at_150.allowed);
  CHECK(at_150.retry_after == 50ms);
  CHECK(b.ask(200ms).allowed);
  const RateAnswer at_1s = b.ask(1000ms);
  CHECK(at_1s.allowed);
  CHECK(at_1s.remaining == 4);
  CHECK(at_1s.grows == 100ms);
  CHECK(gcra(b.spec, TimePoint{}, kStart, 6).grows == 0ms);
}

TEST_CASE("more than the burst never passes and costs nothing") {
  Bucket b{RateSpec::of(10, 1s, 5)};
  const RateAnswer answer = b.ask(0ms, 6);
  CHECK_FALSE(answer.allowed);
  CHECK(answer.never);
  CHECK(answer.remaining == 5);
  CHECK(b.ask(0ms, 5).allowed);
}

TEST_CASE("a rate that does not divide is rounded against the asker; a part of a rate is a part") {
  const RateSpec spec = RateSpec::of(7, 1s, 7);
  CHECK(spec.each.count() == 142857143);
  CHECK(spec.part(1).each == spec.each);
  CHECK(spec.part(2).each == 2 * spec.each);
  CHECK(spec.part(2).burst == 3);
  CHECK(spec.part(100).burst == 1);
}

TEST_CASE("accepted in any window: at most the burst and what the window brings") {
  for (const std::uint64_t seed : {42U, 1U, 2U}) {
    Rng rng(seed);
    const std::uint64_t burst = 1 + rng.below(20);
    Bucket b{RateSpec::of(1 + rng.below(200), 1s, burst)};
    std::vector<std::pair<Duration, std::uint64_t>> taken;
    Duration at{};
    for (int i = 0; i < 1500; ++i) {
      if (rng.uniform() < 0.02) at += 2s;  // rests
      at += from_seconds(rng.exponential(0.002));
      const std::uint64_t n = 1 + rng.below(static_cast<std::uint32_t>(std::min<std::uint64_t>(burst, 3)));
      if (b.ask(at, n).allowed) taken.emplace_back(at, n);
    }
    REQUIRE(taken.size() > 50);
    bool held = true;
    for (std::size_t from = 0; from < taken.size(); from += 7) {
      std::uint64_t sum = 0;
      for (std::size_t to = from; to < taken.size(); ++to) {
        sum += taken[to].second;
        const auto brought = static_cast<std::uint64_t>((taken[to].first - taken[from].first) / b.spec.each);
        held = held && sum <= burst + brought;
      }
    }
    CHECK(held);
    // And no less: somebody who always asks gets the rate.
    Bucket busy{RateSpec::of(100, 1s, 1)};
    int served = 0;
    for (Duration t{}; t < 10s; t += 1ms) served += busy.ask(t).allowed ? 1 : 0;
    CHECK(served == 1000);
  }
}

TEST_CASE("a clock that stands still or steps back gives nothing away") {
  Bucket b{RateSpec::of(10, 1s, 2)};
  CHECK(b.ask(500ms).allowed);
  CHECK(b.ask(500ms).allowed);
  CHECK_FALSE(b.ask(0ms).allowed);
  CHECK_FALSE(b.ask(500ms).allowed);
}

TEST_CASE("settling: debts up to ten bursts, refunds never into the past") {
  const RateSpec spec = RateSpec::of(100, 1s, 100);
  const TimePoint charged = new_tat(spec, TimePoint{}, kStart, 50);
  CHECK(settled_tat(spec, charged, kStart, -20) - kStart == 300ms);
  CHECK(settled_tat(spec, charged, kStart, 0) == charged);
  CHECK(settled_tat(spec, charged, kStart, 200) - kStart == 2500ms);
  CHECK_FALSE(gcra(spec, settled_tat(spec, charged, kStart, 200), kStart + 1s, 1).allowed);
  CHECK(settled_tat(spec, charged, kStart, 1'000'000'000'000) - kStart == 10s);
  CHECK(settled_tat(spec, charged, kStart, -1'000'000) == kStart);
  CHECK(settled_tat(spec, charged, kStart + 10s, 5) - (kStart + 10s) == 50ms);
}

TEST_CASE("the table: keys keep apart, free slots are used again, a full one forgets who used least") {
  GcraTable table(1024);
  CHECK(table.find(7) == nullptr);
  CHECK(table.slots() == 0);
  for (std::uint64_t key = 1; key <= 200; ++key) table.slot(key, kStart).tat = kStart + std::chrono::milliseconds(key);
  CHECK(table.evicted() == 0);
  bool all = true;
  for (std::uint64_t key = 1; key <= 200; ++key) {
    auto* slot = table.find(key);
    all = all && slot != nullptr && slot->tat == kStart + std::chrono::milliseconds(key);
  }
  CHECK(all);
  // All have run out: thousands of others find room without growing.
  const TimePoint later = kStart + 10s;
  const std::size_t slots = table.slots();
  for (std::uint64_t key = 1000; key < 9000; ++key) (void)table.slot(key, later);
  CHECK(table.slots() == slots);
  CHECK(table.evicted() == 0);
  // A rate that is halved: what was used stays, and takes twice as long to come back.
  table.slot(77, later).tat = later + 3s;
  table.rescale(1s, 2s, later);
  CHECK(table.find(77)->tat == later + 6s);
  // None runs out: the bound holds.
  for (std::uint64_t key = 10'000; key < 20'000; ++key) table.slot(key, later).tat = later + std::chrono::seconds(key);
  CHECK(table.slots() == 1024);
  CHECK(table.evicted() > 5000);
  CHECK(table.find(19'999) != nullptr);
}
