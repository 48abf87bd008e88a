// What happened, as numbers: one LoopMetrics per event loop, summed when somebody reads.
//
// A loop counts into its own table with plain loads and stores (relaxed atomics, one writer, no lock
// prefix); the control loop reads all tables into a MetricTotals. Everything is a counter that only
// grows, so a reader needs no agreement with the writers; what is open now is begun minus ended.
// Recording never allocates. A table takes about 260 KiB, most of it the quantile buckets.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "perigee/base/time.h"
#include "perigee/base/vocabulary.h"
#include "perigee/telemetry/quantiles.h"
#include "perigee/telemetry/reason.h"

namespace perigee::telemetry {

// Counts without a label of their own.
enum class Count : std::uint8_t {
  connections_accepted,
  connections_closed,
  connections_refused,  // closed at once: over max_connections, or no descriptor left
  streams_begun,        // streamed answers, from their head
  streams_ended,
  tunnels_begun,        // WebSocket and endless GET /mcp, from the 101 or the head
  tunnels_ended,
  retries,
  upstream_connects,
  upstream_connect_failures,
  upstream_reuses,
  client_disconnects,   // clients that left before their answer was whole
  detached,             // exchanges left to finish without their client
  token_events,         // body events of streams relayed to clients
  client_bytes_received,
  client_bytes_sent,
  upstream_bytes_received,
  upstream_bytes_sent,
  proxy_headers_refused,  // connections closed for a PROXY header that was missing or broken
  shed_for_memory,        // connections ended because buffers took more than memory.buffers
  turn_waits,             // chats that waited until an earlier turn of their session had ended
  turn_refusals,          // … and were refused: too many waited, or it took too long
  sessions_supplied,      // chats that came without X-Session-ID and got one
  sessions_moved,         // requests of a session that another worker answered than the last of that session
  calls_rerouted,         // job, MCP and A2A calls whose worker has gone
  streams_stopped,        // streams that were ended because a client asked ORBIT to stop them
};
inline constexpr std::size_t kCountCount = 26;

// Times that are kept as histograms, per class.
enum class Latency : std::uint8_t {
  queue_wait,   // asked for a ticket -> got it
  first_event,  // dispatch -> first event
  head_lag,     // request sent -> head of a streamed answer
  duration,     // first byte of the request -> last byte of the answer
};
inline constexpr std::size_t kLatencyCount = 4;

// Upper bounds of the exported buckets, in seconds; one more bucket takes what lies above.
inline constexpr std::array<double, 15> kLatencyBounds = {.005, .01, .025, .05, .1, .25, .5, 1,
                                                          2,    4,   8,    15,  30, 60,  120};
inline constexpr std::size_t kLatencyBuckets = kLatencyBounds.size() + 1;

// Statuses by their hundreds; 0 = nothing was sent to the client.
inline constexpr std::size_t kStatusClasses = 6;

namespace detail {

// Where each table lies in one flat row of cells.
inline constexpr std::size_t kOutcomesAt = kCountCount;
inline constexpr std::size_t kResponsesAt = kOutcomesAt + kClassCount * kReasonCount;
inline constexpr std::size_t kVerdictsAt = kResponsesAt + kClassCount * kStatusClasses;
inline constexpr std::size_t kLatenciesAt = kVerdictsAt + kClassCount * kVerdictCount;
inline constexpr std::size_t kLatencyCells = kLatencyBuckets + 1;  // the last one: the sum, in nanoseconds
inline constexpr std::size_t kCells = kLatenciesAt + kClassCount * kLatencyCount * kLatencyCells;

constexpr std::size_t outcome_at(RequestClass c, Reason r) {
  return kOutcomesAt + static_cast<std::size_t>(c) * kReasonCount + static_cast<std::size_t>(r);
}
constexpr std::size_t response_at(RequestClass c, std::size_t hundreds) {
  return kResponsesAt + static_cast<std::size_t>(c) * kStatusClasses + hundreds;
}
constexpr std::size_t verdict_at(RequestClass c, StreamVerdict v) {
  return kVerdictsAt + static_cast<std::size_t>(c) * kVerdictCount + static_cast<std::size_t>(v);
}
constexpr std::size_t latency_row(Latency l, RequestClass c) {
  return static_cast<std::size_t>(l) * kClassCount + static_cast<std::size_t>(c);
}
constexpr std::size_t latency_at(Latency l, RequestClass c) { return kLatenciesAt + latency_row(l, c) * kLatencyCells; }

// In nanoseconds; the last one catches everything.
inline constexpr auto kLatencyLimits = [] {
  std::array<std::int64_t, kLatencyBuckets> limits{};
  for (std::size_t i = 0; i < kLatencyBounds.size(); ++i) limits[i] = static_cast<std::int64_t>(kLatencyBounds[i] * 1e9 + .5);
  limits.back() = std::numeric_limits<std::int64_t>::max();
  return limits;
}();

// For each bit width of a time in nanoseconds: the first bucket that it can be in. One or two compares are
// left from there, as bounds are about a factor of two apart.
inline constexpr auto kFirstBucket = [] {
  std::array<std::uint8_t, 64> first{};
  for (std::size_t width = 1; width < first.size(); ++width) {
    const std::int64_t least = std::int64_t{1} << (width - 1);
    std::uint8_t bucket = 0;
    while (kLatencyLimits[bucket] < least) ++bucket;
    first[width] = bucket;
  }
  return first;
}();

constexpr std::size_t latency_bucket(std::int64_t nanoseconds) {
  std::size_t bucket = kFirstBucket[static_cast<std::size_t>(std::bit_width(static_cast<std::uint64_t>(nanoseconds)))];
  while (kLatencyLimits[bucket] < nanoseconds) ++bucket;
  return bucket;
}

// A number with one writer and any readers.
template <typename Int>
class Cell {
 public:
  void add(Int n) { value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed); }
  [[nodiscard]] Int value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<Int> value_{0};
};

}  // namespace detail

// Written by its loop's thread only, read from any.
class alignas(64) LoopMetrics {
 public:
  LoopMetrics() = default;
  LoopMetrics(const LoopMetrics&) = delete;
  LoopMetrics& operator=(const LoopMetrics&) = delete;

  void add(Count count, std::uint64_t n = 1) { cells_[static_cast<std::size_t>(count)].add(n); }
  // One request is over: exactly once for each, whatever became of it.
  void finished(RequestClass c, Reason reason) { cells_[detail::outcome_at(c, reason)].add(1); }
  // An answer's head went to the client; `status` 0 when none ever did.
  void responded(RequestClass c, int status) {
    const auto hundreds = static_cast<std::size_t>(std::clamp(status, 0, 599)) / 100;
    cells_[detail::response_at(c, hundreds)].add(1);
  }
  void stream_ended(RequestClass c, StreamVerdict verdict) { cells_[detail::verdict_at(c, verdict)].add(1); }
  void observe(Latency latency, RequestClass c, Duration took) {
    const std::int64_t ns = std::max<std::int64_t>(took.count(), 0);
    const std::size_t at = detail::latency_at(latency, c);
    cells_[at + detail::latency_bucket(ns)].add(1);
    cells_[at + kLatencyBuckets].add(static_cast<std::uint64_t>(ns));
    fine_[detail::latency_row(latency, c)][quantile_bucket(static_cast<double>(ns) * 1e-9)].add(1);
  }

 private:
  friend class MetricTotals;
  friend class RecentLatencies;

  std::array<detail::Cell<std::uint64_t>, detail::kCells> cells_;
  // Wraps at 2^32, which its reader expects: it takes differences.
  std::array<std::array<detail::Cell<std::uint32_t>, kQuantileBuckets>, kLatencyCount * kClassCount> fine_;
};

// The sum over loops at one moment (each number exact, the moment not the same for all).
class MetricTotals {
 public:
  void add(const LoopMetrics& loop);

  [[nodiscard]] std::uint64_t count(Count c) const { return cells_[static_cast<std::size_t>(c)]; }
  [[nodiscard]] std::uint64_t outcomes(RequestClass c, Reason r) const { return cells_[detail::outcome_at(c, r)]; }
  [[nodiscard]] std::uint64_t responses(RequestClass c, std::size_t hundreds) const {
    return cells_[detail::response_at(c, hundreds)];
  }
  [[nodiscard]] std::uint64_t verdicts(RequestClass c, StreamVerdict v) const {
    return cells_[detail::verdict_at(c, v)];
  }
  // Samples in one bucket alone, not cumulative; bucket < kLatencyBuckets.
  [[nodiscard]] std::uint64_t samples(Latency l, RequestClass c, std::size_t bucket) const {
    return cells_[detail::latency_at(l, c) + bucket];
  }
  [[nodiscard]] double sum_seconds(Latency l, RequestClass c) const {
    return static_cast<double>(cells_[detail::latency_at(l, c) + kLatencyBuckets]) * 1e-9;
  }

  [[nodiscard]] std::uint64_t connections_open() const {
    return open(Count::connections_accepted, Count::connections_closed);
  }
  [[nodiscard]] std::uint64_t streams_open() const { return open(Count::streams_begun, Count::streams_ended); }
  [[nodiscard]] std::uint64_t tunnels_open() const { return open(Count::tunnels_begun, Count::tunnels_ended); }

 private:
  // The two were not read at the same moment: never below zero.
  [[nodiscard]] std::uint64_t open(Count begun, Count ended) const {
    const std::uint64_t b = count(begun);
    return b - std::min(b, count(ended));
  }

  std::array<std::uint64_t, detail::kCells> cells_{};
};

// Quantiles of the last minute over all loops. On the control loop: tick() at least every few seconds
// takes what the loops recorded since the last tick. Memory comes (48 KiB) with the first sample of a
// latency and class.
class RecentLatencies {
 public:
  RecentLatencies() = default;

  void tick(const std::vector<const LoopMetrics*>& loops, TimePoint now);
  // In seconds; unknown below kFewestSamples in the last minute.
  [[nodiscard]] std::optional<double> quantile(Latency l, RequestClass c, double q, TimePoint now) const;

 private:
  struct Row {
    explicit Row(TimePoint now) : recent(now) {}
    SlidingHistogram recent;
    std::array<std::uint32_t, kQuantileBuckets> seen{};
  };

  std::array<std::unique_ptr<Row>, kLatencyCount * kClassCount> rows_;
};

}  // namespace perigee::telemetry
