#include "fleet_view.h"

#include "version.h"

namespace perigee::app {

FleetView::FleetView(const Clock& clock, const dispatch::Dispatcher& dispatcher,
                     const std::vector<std::unique_ptr<IoThread>>& threads, const telemetry::LogSink* log)
    : clock_(clock), dispatcher_(dispatcher), threads_(threads), log_(log), started_(clock.now()) {}

void FleetView::tick() {
  std::vector<const telemetry::LoopMetrics*> loops;
  for (const auto& thread : threads_) loops.push_back(&thread->metrics());
  recent_.tick(loops, clock_.now());
}

std::string_view FleetView::version() const { return kVersion; }

admin::Probed FleetView::probed(const std::string& backend) const {
  const auto found = probes.find(backend);
  return found == probes.end() ? admin::Probed{} : found->second;
}

telemetry::MetricTotals FleetView::totals() const {
  telemetry::MetricTotals sum;
  for (const auto& thread : threads_) sum.add(thread->metrics());
  return sum;
}

telemetry::RecentQuantiles FleetView::recent() const {
  return telemetry::RecentQuantiles::of(recent_, clock_.now());
}

telemetry::ProcessGauges FleetView::process() const {
  telemetry::ProcessGauges gauges;
  const auto self = health::ProcessReader().read_self();
  if (!self) return gauges;
  gauges.cpu_seconds_total = self->cpu_seconds;
  gauges.resident_bytes = static_cast<double>(self->resident_bytes);
  if (self->open_descriptors) gauges.open_descriptors = static_cast<double>(*self->open_descriptors);
  if (self->descriptors_max) gauges.descriptors_max = static_cast<double>(*self->descriptors_max);
  gauges.start_time_seconds = self->start_time_seconds;
  return gauges;
}

telemetry::TlsCounts FleetView::tls() const {
  telemetry::TlsCounts counts = tls_metrics == nullptr ? telemetry::TlsCounts{} : tls_metrics->read();
  counts.earliest_expiry = certificate_expiry;
  return counts;
}

telemetry::SessionCounts FleetView::sessions() const {
  if (session_table == nullptr) return {};
  const proxy::Sessions::Status status = session_table->status();
  return {status.turns, status.waiting, status.known_ids, status.homes};
}

telemetry::RateCounts FleetView::rates() const {
  return rate_book ? rate_book->counts() : telemetry::RateCounts{};
}

std::vector<admin::RateRow> FleetView::rate_usage() const {
  constexpr std::size_t kKeysShown = 20;
  std::vector<admin::RateRow> rows;
  if (!rate_policies || !tenants) return rows;
  for (const admission::RatePolicy& policy : rate_policies->all) {
    admin::RateRow row{policy.written.name, {}};
    for (const admission::RateUsage& usage : rate_book->usage(policy, kKeysShown, clock_.now())) {
      const bool all = policy.written.by == config::RateBy::all;
      row.keys.push_back({all ? std::string("all") : tenants->shown(usage.key), usage.requests_used, usage.tokens_used, usage.running});
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

telemetry::RedisCounts FleetView::redis() const {
  telemetry::RedisCounts counts;
  counts.configured = current->redis.enabled();
  if (!counts.configured || redis_counters == nullptr) return counts;
  counts.connected = redis_counters->connected.load(std::memory_order_relaxed) > 0;
  counts.calls = redis_counters->calls.load(std::memory_order_relaxed);
  counts.answers = redis_counters->answers.load(std::memory_order_relaxed);
  counts.timeouts = redis_counters->timeouts.load(std::memory_order_relaxed);
  counts.failures = redis_counters->failures.load(std::memory_order_relaxed);
  counts.fallbacks = redis_counters->fallbacks.load(std::memory_order_relaxed);
  counts.connects = redis_counters->connects.load(std::memory_order_relaxed);
  counts.latency_ns = redis_counters->latency_ns.load(std::memory_order_relaxed);
  return counts;
}

std::string_view FleetView::redis_trouble() const {
  return redis_counters == nullptr ? "" : redis_counters->trouble.load(std::memory_order_relaxed);
}

telemetry::LogSink::Counters FleetView::access_log() const {
  return log_ == nullptr ? telemetry::LogSink::Counters{} : log_->counters();
}

}  // namespace perigee::app
