// What the admin room may look at: the running sidecar, as the app fills it in. Control loop only.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "perigee/admin/events.h"
#include "perigee/admission/head_lag.h"
#include "perigee/admission/throttle.h"
#include "perigee/config/config.h"
#include "perigee/dispatch/types.h"
#include "perigee/health/host_stats.h"
#include "perigee/health/worker_metrics.h"
#include "perigee/telemetry/exposition.h"

namespace perigee::admin {

// What the prober knows of a backend beside what the dispatcher does.
struct Probed {
  std::optional<double> probe_seconds;
  std::optional<double> healthy_ratio;
  health::WorkerLoad load;
};

struct Reloads {
  std::uint64_t succeeded = 0;
  std::uint64_t failed = 0;
  std::optional<std::int64_t> last_success_wall_ms;
  bool last_failed = false;
  std::string last_error;                   // the diagnostics of the last failed one; no secrets in them
  std::vector<std::string> waiting_restart; // keys whose new value needs a restart
};

// One rate, and who has used most of it. Keys are names of `tenants:` or hashes, never API keys or addresses.
struct RateRow {
  std::string name;
  struct Key {
    std::string shown;
    std::uint64_t requests = 0;  // of the burst, now
    std::uint64_t tokens = 0;    // the same; more than the burst is a debt
    std::uint64_t running = 0;   // at once, where that is bounded
  };
  std::vector<Key> keys;
};

// What the throttle goes by, and what it does.
struct ThrottleReport {
  struct Worker {
    int pid = 0;  // 0 = its process is not known
    std::optional<double> cpu;     // of the one core that it computes on
    std::optional<double> memory;  // of its limit
    bool cpu_hot = false;
    bool memory_hot = false;
    std::uint64_t killed_for_memory = 0;  // by the kernel, as far as we saw
  };
  admission::ThrottleMarks marks;
  admission::ThrottleState state;
  std::uint64_t changes = 0;  // of the step
  std::optional<TimePoint> since;
  std::map<std::string, Worker> workers;
};

class View {
 public:
  virtual ~View() = default;
  [[nodiscard]] virtual std::string_view version() const = 0;
  [[nodiscard]] virtual TimePoint now() const = 0;
  [[nodiscard]] virtual TimePoint started() const = 0;
  [[nodiscard]] virtual bool ready() const = 0;     // not shutting down, and one backend is eligible
  [[nodiscard]] virtual bool stopping() const = 0;  // SIGTERM came
  [[nodiscard]] virtual config::Snapshot config() const = 0;
  [[nodiscard]] virtual dispatch::Status dispatch() const = 0;
  [[nodiscard]] virtual std::vector<admission::HeadLagTrace> lag_trace(dispatch::BackendRef backend) const = 0;
  [[nodiscard]] virtual Probed probed(const std::string& backend) const = 0;
  [[nodiscard]] virtual health::HostLoad host() const = 0;
  [[nodiscard]] virtual const ThrottleReport& throttle() const = 0;
  [[nodiscard]] virtual telemetry::MetricTotals totals() const = 0;
  [[nodiscard]] virtual telemetry::RecentQuantiles recent() const = 0;
  [[nodiscard]] virtual telemetry::ProcessGauges process() const = 0;
  [[nodiscard]] virtual telemetry::LogSink::Counters access_log() const = 0;
  [[nodiscard]] virtual telemetry::TlsCounts tls() const = 0;
  [[nodiscard]] virtual const Reloads& reloads() const = 0;
  [[nodiscard]] virtual telemetry::RateCounts rates() const = 0;
  // Of each entry of `rate_limits`, in its order.
  [[nodiscard]] virtual std::vector<RateRow> rate_usage() const = 0;
  [[nodiscard]] virtual telemetry::RedisCounts redis() const = 0;
  [[nodiscard]] virtual telemetry::SessionCounts sessions() const { return {}; }
  // Why there is no Redis at the moment; empty = there is. Never what a server said.
  [[nodiscard]] virtual std::string_view redis_trouble() const = 0;
  [[nodiscard]] virtual const Events& events() const = 0;
};

}  // namespace perigee::admin
