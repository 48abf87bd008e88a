// The admin room's view of the running process, and what the prober told about each backend.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io_thread.h"
#include "perigee/admin/view.h"
#include "perigee/admission/rates.h"
#include "perigee/dispatch/dispatcher.h"
#include "perigee/health/process_stats.h"
#include "perigee/state/redis_client.h"

namespace perigee::app {

// Control thread only.
class FleetView final : public admin::View {
 public:
  FleetView(const Clock& clock, const dispatch::Dispatcher& dispatcher,
            const std::vector<std::unique_ptr<IoThread>>& threads, const telemetry::LogSink* log);

  // --- the app's side.
  config::Snapshot current;
  admin::Reloads reload_state;
  bool shutting_down = false;
  const telemetry::TlsMetrics* tls_metrics = nullptr;  // outlives the view
  std::optional<std::int64_t> certificate_expiry;
  std::map<std::string, admin::Probed> probes;  // by backend name; pruned at each reload
  // Rates; null where none were ever written.
  std::shared_ptr<admission::Rates> rate_book;
  admission::RatePoliciesPtr rate_policies;
  std::shared_ptr<const admission::TenantTable> tenants;
  const state::RedisCounters* redis_counters = nullptr;  // outlives the view
  const proxy::Sessions* session_table = nullptr;        // outlives the view
  admin::Events happened;                              // what /api/v1/events shows
  admin::ThrottleReport throttle_report;               // filled in by Throttling
  // Every second: quantiles of the last minute.
  void tick();
  void set_host(const health::HostLoad& load) { host_ = load; }

  // --- admin::View.
  [[nodiscard]] std::string_view version() const override;
  [[nodiscard]] TimePoint now() const override { return clock_.now(); }
  [[nodiscard]] TimePoint started() const override { return started_; }
  [[nodiscard]] bool ready() const override { return !shutting_down && dispatcher_.any_eligible(); }
  [[nodiscard]] bool stopping() const override { return shutting_down; }
  [[nodiscard]] config::Snapshot config() const override { return current; }
  [[nodiscard]] dispatch::Status dispatch() const override { return dispatcher_.snapshot(); }
  [[nodiscard]] std::vector<admission::HeadLagTrace> lag_trace(dispatch::BackendRef backend) const override {
    return dispatcher_.lag_trace(backend);
  }
  [[nodiscard]] admin::Probed probed(const std::string& backend) const override;
  [[nodiscard]] health::HostLoad host() const override { return host_; }
  [[nodiscard]] const admin::ThrottleReport& throttle() const override { return throttle_report; }
  [[nodiscard]] telemetry::MetricTotals totals() const override;
  [[nodiscard]] telemetry::RecentQuantiles recent() const override;
  [[nodiscard]] telemetry::ProcessGauges process() const override;
  [[nodiscard]] telemetry::LogSink::Counters access_log() const override;
  [[nodiscard]] telemetry::TlsCounts tls() const override;
  [[nodiscard]] const admin::Reloads& reloads() const override { return reload_state; }
  [[nodiscard]] telemetry::RateCounts rates() const override;
  [[nodiscard]] std::vector<admin::RateRow> rate_usage() const override;
  [[nodiscard]] telemetry::RedisCounts redis() const override;
  [[nodiscard]] telemetry::SessionCounts sessions() const override;
  [[nodiscard]] std::string_view redis_trouble() const override;
  [[nodiscard]] const admin::Events& events() const override { return happened; }
  // Writes an event with the time of now.
  void note(std::string_view kind, std::initializer_list<admin::Events::Field> fields) {
    happened.add(clock_.wall_ms(), kind, fields);
  }

 private:
  const Clock& clock_;
  const dispatch::Dispatcher& dispatcher_;
  const std::vector<std::unique_ptr<IoThread>>& threads_;
  const telemetry::LogSink* log_;
  TimePoint started_;
  telemetry::RecentLatencies recent_;
  health::HostLoad host_;
};

}  // namespace perigee::app
