// Counting in a loop, summing outside of it, and that neither allocates nor races.
#include "perigee/telemetry/loop_metrics.h"

#include <doctest/doctest.h>

#include <thread>

#include "allocations.h"
#include "perigee/base/random.h"

using namespace perigee;
using namespace perigee::telemetry;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {
const TimePoint kStart{seconds(1000)};
}

TEST_CASE("a fresh table is all zero") {
  const auto loop = std::make_unique<LoopMetrics>();
  MetricTotals totals;
  totals.add(*loop);
  CHECK(totals.count(Count::retries) == 0);
  CHECK(totals.connections_open() == 0);
  CHECK(totals.outcomes(RequestClass::other, Reason::internal_error) == 0);
  CHECK(totals.sum_seconds(Latency::duration, RequestClass::other) == 0);
}

TEST_CASE("every cell is a cell of its own") {
  const auto loop = std::make_unique<LoopMetrics>();
  std::uint64_t n = 0;
  for (std::size_t i = 0; i < kCountCount; ++i)
    loop->add(static_cast<Count>(i), ++n);
  for (std::size_t c = 0; c < kClassCount; ++c) {
    const auto cls = static_cast<RequestClass>(c);
    for (std::size_t r = 0; r < kReasonCount; ++r)
      loop->finished(cls, static_cast<Reason>(r));
    for (int status : {0, 101, 200, 302, 404, 503})
      loop->responded(cls, status);
    for (std::size_t v = 0; v < kVerdictCount; ++v)
      loop->stream_ended(cls, static_cast<StreamVerdict>(v));
    for (std::size_t l = 0; l < kLatencyCount; ++l) {
      for (double bound : kLatencyBounds)
        loop->observe(static_cast<Latency>(l), cls, from_seconds(bound));
      loop->observe(static_cast<Latency>(l), cls, seconds(121));
    }
  }
  MetricTotals totals;
  totals.add(*loop);
  for (std::size_t i = 0; i < kCountCount; ++i)
    CHECK(totals.count(static_cast<Count>(i)) == i + 1);
  for (std::size_t c = 0; c < kClassCount; ++c) {
    const auto cls = static_cast<RequestClass>(c);
    for (std::size_t r = 0; r < kReasonCount; ++r)
      CHECK(totals.outcomes(cls, static_cast<Reason>(r)) == 1);
    for (std::size_t h = 0; h < kStatusClasses; ++h)
      CHECK(totals.responses(cls, h) == 1);
    for (std::size_t v = 0; v < kVerdictCount; ++v)
      CHECK(totals.verdicts(cls, static_cast<StreamVerdict>(v)) == 1);
    for (std::size_t l = 0; l < kLatencyCount; ++l) {
      // A bound belongs to its own bucket (le), what lies above all to the last one.
      for (std::size_t b = 0; b < kLatencyBuckets; ++b)
        CHECK(totals.samples(static_cast<Latency>(l), cls, b) == 1);
      CHECK(totals.sum_seconds(static_cast<Latency>(l), cls) == doctest::Approx(240.94 + 121).epsilon(1e-6));
    }
  }
}

TEST_CASE("values that make no sense stay within the table") {
  const auto loop = std::make_unique<LoopMetrics>();
  loop->responded(RequestClass::other, 999);
  loop->responded(RequestClass::other, -7);
  loop->observe(Latency::duration, RequestClass::other, Duration(-5));
  MetricTotals totals;
  totals.add(*loop);
  CHECK(totals.responses(RequestClass::other, 5) == 1);
  CHECK(totals.responses(RequestClass::other, 0) == 1);
  CHECK(totals.samples(Latency::duration, RequestClass::other, 0) == 1);
  CHECK(totals.sum_seconds(Latency::duration, RequestClass::other) == 0);
}

TEST_CASE("what is open is begun minus ended over all loops, never negative") {
  const auto a = std::make_unique<LoopMetrics>();
  const auto b = std::make_unique<LoopMetrics>();
  a->add(Count::streams_begun, 5);
  b->add(Count::streams_ended, 3);  // a connection is handed from loop to loop
  b->add(Count::tunnels_ended);
  MetricTotals totals;
  totals.add(*a);
  totals.add(*b);
  CHECK(totals.streams_open() == 2);
  CHECK(totals.tunnels_open() == 0);
}

TEST_CASE("recording allocates nothing") {
  const auto loop = std::make_unique<LoopMetrics>();
  const std::size_t before = allocations();
  for (int i = 0; i < 1000; ++i) {
    loop->add(Count::token_events);
    loop->finished(RequestClass::chat, Reason::served);
    loop->responded(RequestClass::chat, 200);
    loop->stream_ended(RequestClass::chat, StreamVerdict::completed);
    loop->observe(Latency::first_event, RequestClass::chat, milliseconds(i));
  }
  CHECK(allocations() == before);
}

TEST_CASE("a reader beside two writers sees numbers that only grow, and all of them at the end") {
  const auto a = std::make_unique<LoopMetrics>();
  const auto b = std::make_unique<LoopMetrics>();
  constexpr std::uint64_t kRounds = 50'000;
  const auto write = [](LoopMetrics& loop) {
    for (std::uint64_t i = 0; i < kRounds; ++i) {
      loop.add(Count::token_events);
      loop.observe(Latency::duration, RequestClass::chat, milliseconds(i % 1000));
    }
  };
  std::thread first(write, std::ref(*a));
  std::thread second(write, std::ref(*b));
  std::uint64_t seen = 0;
  bool shrank = false;
  while (seen < 2 * kRounds) {
    MetricTotals totals;
    totals.add(*a);
    totals.add(*b);
    shrank = shrank || totals.count(Count::token_events) < seen;
    seen = totals.count(Count::token_events);
  }
  first.join();
  second.join();
  CHECK_FALSE(shrank);
  CHECK(seen == 2 * kRounds);
}

TEST_CASE("recent quantiles merge the loops and forget after a minute") {
  const auto a = std::make_unique<LoopMetrics>();
  const auto b = std::make_unique<LoopMetrics>();
  const std::vector<const LoopMetrics*> loops{a.get(), b.get()};
  RecentLatencies recent;
  CHECK_FALSE(recent.quantile(Latency::duration, RequestClass::chat, .5, kStart));
  for (int i = 1; i <= 100; ++i)
    (i % 2 == 0 ? a : b)->observe(Latency::duration, RequestClass::chat, milliseconds(10 * i));
  recent.tick(loops, kStart);
  recent.tick(loops, kStart + seconds(1));  // the same samples are not taken twice
  CHECK(*recent.quantile(Latency::duration, RequestClass::chat, .5, kStart + seconds(1)) ==
        doctest::Approx(.5).epsilon(.008));
  CHECK(*recent.quantile(Latency::duration, RequestClass::chat, .99, kStart + seconds(1)) ==
        doctest::Approx(.99).epsilon(.008));
  CHECK_FALSE(recent.quantile(Latency::duration, RequestClass::search, .5, kStart + seconds(1)));
  for (int i = 0; i < 50; ++i)
    a->observe(Latency::duration, RequestClass::chat, seconds(4));
  recent.tick(loops, kStart + seconds(30));
  recent.tick(loops, kStart + seconds(65));
  CHECK(*recent.quantile(Latency::duration, RequestClass::chat, .01, kStart + seconds(65)) ==
        doctest::Approx(4).epsilon(.008));
  CHECK_FALSE(recent.quantile(Latency::duration, RequestClass::chat, .5, kStart + seconds(100)));
}
