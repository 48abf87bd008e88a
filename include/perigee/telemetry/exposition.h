// The page `/metrics`: everything that Perigee counts, in Prometheus' text format.
//
// Pure: numbers in, text out; the admin room gathers the numbers on the control loop. Names begin with
// `perigee_`, units are base units, every label has a closed set of values but `backend`, which is bounded:
// the first 64 backends are shown one by one, all are counted in `perigee_backends`.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "perigee/base/time.h"
#include "perigee/base/vocabulary.h"
#include "perigee/telemetry/access_log.h"
#include "perigee/telemetry/loop_metrics.h"
#include "perigee/telemetry/rate_counts.h"
#include "perigee/telemetry/tls_counts.h"

namespace perigee::telemetry {

inline constexpr std::size_t kBackendsShown = 64;
inline constexpr std::string_view kMetricsContentType = "text/plain; version=0.0.4; charset=utf-8";

enum class BreakerGauge : std::uint8_t { closed, open, half_open };

// One backend now. What is not known is absent, and its series is left out: never 0 for "unknown".
struct BackendGauges {
  std::string name;
  WorkerKind kind = WorkerKind::unknown;
  bool up = false;        // by its probes
  bool eligible = false;  // may be given tickets now
  bool draining = false;
  bool hot = false;       // its process is short of CPU or memory
  BreakerGauge breaker = BreakerGauge::closed;
  std::uint32_t slots = 0;                   // bound of tickets
  std::uint32_t starting = 0;                // tickets before their first event
  std::uint32_t running = 0;                 // tickets after it
  std::uint32_t critical = 0;                // of critical's own
  std::uint32_t tunnels = 0;
  std::uint32_t speed = 1;                   // so many times slower than the fastest
  std::optional<double> pace;                // starts a second; absent: not paced
  std::optional<double> first_event_seconds; // EWMA
  std::optional<double> head_lag_seconds;    // newest sample
  std::optional<double> probe_seconds;       // answer time of the newest probe
  std::optional<double> cpu_ratio;           // of one core; ORBIT is one process under one lock
  std::optional<double> memory_bytes;
  std::uint64_t tickets_total = 0;
  std::uint64_t failures_total = 0;          // outcomes that counted against the breaker
  std::uint64_t breaker_opens_total = 0;
  std::uint64_t stalls_total = 0;            // silences taken for the collector's pauses
};

// One lane of the queue; lanes without entries may be left out.
struct LaneGauges {
  RequestClass request_class = RequestClass::other;
  Priority priority = Priority::normal;
  std::uint32_t waiting = 0;
  Duration oldest{0};
};

struct FleetGauges {
  std::vector<BackendGauges> backends;
  std::vector<LaneGauges> lanes;
  std::uint64_t queue_entries_max = 0;
  std::uint64_t queue_body_bytes = 0;  // bodies held by waiting requests
  std::uint64_t queue_body_bytes_max = 0;
  std::optional<double> drain_rate;    // grants a second; absent: nobody waits, or not known yet
  std::uint64_t grants_total = 0;
  bool draining = false;
  bool ready = false;                  // what /readyz says
  std::optional<double> host_cpu_ratio;      // of the cores that we may use
  std::optional<double> host_memory_ratio;   // working set / limit
  struct Pressure {
    std::string_view resource;
    std::optional<double> share;  // of the last half second in which somebody (`memory_full`: everybody) stalled
  };
  std::array<Pressure, 4> pressure{};
  double throttle_level = 0;                 // 0 = soft mark not reached, 1 = saturated
  std::uint32_t throttle_step = 0;           // 0 = calm … 5 = normal priority is refused
  std::uint64_t throttle_changes_total = 0;
};

// This process.
struct ProcessGauges {
  std::optional<double> cpu_seconds_total;
  std::optional<double> resident_bytes;
  std::optional<double> open_descriptors;
  std::optional<double> descriptors_max;
  std::optional<double> start_time_seconds;  // since 1970
};

struct ReloadGauges {
  std::uint64_t succeeded = 0;
  std::uint64_t failed = 0;
  std::optional<double> last_success_seconds;  // since 1970
  bool last_failed = false;
};

// p50, p95 and p99 of the last minute, for the classes where they are known.
struct RecentQuantiles {
  struct Row {
    Latency latency;
    RequestClass request_class;
    std::array<double, 3> seconds;
  };
  std::vector<Row> rows;

  static RecentQuantiles of(const RecentLatencies& recent, TimePoint now);
};

// Chats and what else belongs to a session or a worker, now.
struct SessionCounts {
  std::uint32_t running = 0;  // chats that have their session's turn
  std::uint32_t waiting = 0;  // … that wait for it
  std::uint64_t known_ids = 0;  // of jobs, MCP sessions and A2A tasks
  std::uint64_t homes = 0;      // sessions whose last worker is known
};

struct Exposition {
  std::string_view version;
  const MetricTotals& totals;
  const FleetGauges& fleet;
  const ProcessGauges& process;
  const ReloadGauges& reloads;
  const RecentQuantiles& recent;
  LogSink::Counters access_log;
  TlsCounts tls = {};
  RateCounts rates = {};
  RedisCounts redis = {};
  SessionCounts sessions = {};
};

// The whole page. Allocates freely: control loop only.
std::string render_metrics(const Exposition& what);

}  // namespace perigee::telemetry
