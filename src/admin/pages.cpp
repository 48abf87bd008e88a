#include "pages.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "perigee/config/export.h"

namespace perigee::admin {

namespace {

using Json = nlohmann::ordered_json;

template <typename T>
Json maybe(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

double seconds(Duration d) { return to_seconds(d); }

Json breaker_of(const dispatch::BackendStatus& b) {
  return {{"state", b.breaker}, {"trials", b.trials}, {"opened", b.breaker_opened}, {"failures", b.failures}};
}

Json lag_of(const View& view, const dispatch::BackendStatus& b) {
  Json trace = Json::array();
  for (const auto& t : view.lag_trace(b.ref)) {
    trace.push_back({{"age_s", seconds(view.now() - t.at)},
                     {"pace", t.pace},
                     {"slots", t.slots},
                     {"lag_s", t.lag_seconds},
                     {"in_flight", t.in_flight},
                     {"stalls", t.stalls}});
  }
  return trace;
}

Json backend_of(const View& view, const dispatch::BackendStatus& b) {
  const Probed probed = view.probed(b.name);
  Json by_class = Json::object();
  for (std::size_t c = 0; c < kClassCount; ++c) {
    if (b.by_class[c] != 0) by_class[std::string(kClassNames[c])] = b.by_class[c];
  }
  return {{"name", b.name},
          {"address", b.address},
          {"kind", to_string(b.kind)},
          {"up", b.up},
          {"health", b.health},
          {"draining", b.draining},
          {"removed", b.removed},
          {"weight", b.weight},
          {"in_flight", b.in_flight},
          {"starting", b.starting},
          {"streams", b.streams},
          {"critical", b.critical},
          {"tunnels", b.tunnels},
          {"by_class", by_class},
          {"slots", b.slots},
          {"slots_ceiling", b.slots_ceiling},
          {"pace_per_s", b.pace},
          {"head_lag_s", b.lag_seconds},
          {"stalls", b.stalls},
          {"slot_cuts", b.slot_cuts},
          {"pace_cuts", b.pace_cuts},
          {"slowness", b.slowness},
          {"ramp", b.ramp},
          {"grants", b.grants},
          {"breaker", breaker_of(b)},
          {"probe_s", maybe(probed.probe_seconds)},
          {"healthy_ratio", maybe(probed.healthy_ratio)},
          {"cpu_cores", maybe(probed.load.cores)},
          {"memory_bytes", maybe(probed.load.resident_bytes)},
          {"lag_trace", lag_of(view, b)}};
}

Json refused_of(const std::array<std::uint64_t, dispatch::kRefusedCount>& counts) {
  Json out = Json::object();
  for (std::size_t i = 0; i < counts.size(); ++i) out[std::string(dispatch::kRefusedNames[i])] = counts[i];
  return out;
}

// A newcomer's, by priority.
Json waits_of(const dispatch::PoolStatus& pool) {
  Json waits = Json::object();
  for (std::size_t p = 0; p < kPriorityCount; ++p) {
    const double seconds = pool.wait_seconds[p];
    waits[std::string(kPriorityNames[p])] = seconds < 0 ? Json(nullptr) : Json(seconds);
  }
  return waits;
}

Json lanes_of(const dispatch::Status& status) {
  Json lanes = Json::array();
  for (std::size_t c = 0; c < kClassCount; ++c) {
    for (std::size_t p = 0; p < kPriorityCount; ++p) {
      if (status.waiting[c][p] == 0) continue;
      lanes.push_back({{"class", kClassNames[c]}, {"priority", kPriorityNames[p]}, {"waiting", status.waiting[c][p]}});
    }
  }
  return lanes;
}

std::uint64_t waiting_in(const dispatch::Status& status) {
  std::uint64_t waiting = status.waiting_critical;
  for (const auto& lane : status.waiting) {
    for (const std::uint32_t n : lane) waiting += n;
  }
  return waiting;
}

Json reloads_of(const Reloads& reloads) {
  return {{"succeeded", reloads.succeeded},
          {"failed", reloads.failed},
          {"last_failed", reloads.last_failed},
          {"last_error", reloads.last_error},
          {"waiting_for_restart", reloads.waiting_restart}};
}

std::string text(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

telemetry::BreakerGauge gauge_of(std::string_view breaker) {
  if (breaker == "open") return telemetry::BreakerGauge::open;
  return breaker == "closed" ? telemetry::BreakerGauge::closed : telemetry::BreakerGauge::half_open;
}

telemetry::BackendGauges gauges_of(const View& view, const dispatch::BackendStatus& b) {
  const Probed probed = view.probed(b.name);
  telemetry::BackendGauges g;
  g.name = b.name;
  g.kind = b.kind;
  g.up = b.up;
  g.eligible = b.up && !b.draining && !b.removed && b.breaker != "open";
  g.draining = b.draining || b.removed;
  g.breaker = gauge_of(b.breaker);
  g.slots = b.slots;
  g.starting = b.starting;
  g.running = b.in_flight - std::min(b.in_flight, b.starting);
  g.critical = b.critical;
  g.tunnels = b.tunnels;
  if (b.pace > 0) g.pace = b.pace;
  if (b.lag_seconds > 0) g.head_lag_seconds = b.lag_seconds;
  g.probe_seconds = probed.probe_seconds;
  g.cpu_ratio = probed.load.cores;
  g.memory_bytes = probed.load.resident_bytes;
  g.tickets_total = b.grants;
  g.failures_total = b.failures;
  g.breaker_opens_total = b.breaker_opened;
  g.stalls_total = b.stalls;
  return g;
}

telemetry::FleetGauges fleet_of(const View& view) {
  const dispatch::Status status = view.dispatch();
  const config::Snapshot config = view.config();
  telemetry::FleetGauges fleet;
  for (const auto& b : status.backends) fleet.backends.push_back(gauges_of(view, b));
  for (std::size_t c = 0; c < kClassCount; ++c) {
    for (std::size_t p = 0; p < kPriorityCount; ++p) {
      if (status.waiting[c][p] == 0) continue;
      fleet.lanes.push_back({static_cast<RequestClass>(c), static_cast<Priority>(p), status.waiting[c][p], {}});
    }
  }
  fleet.queue_entries_max = config->queue.entries + config->queue.priority_entries;
  fleet.queue_body_bytes = status.waiting_bytes;
  fleet.queue_body_bytes_max = config->queue.bytes;
  if (!status.pools.empty() && status.pools[0].drain_per_second >= 0) fleet.drain_rate = status.pools[0].drain_per_second;
  fleet.grants_total = status.grants;
  fleet.draining = view.stopping();
  fleet.ready = view.ready();
  fleet.host_cpu_ratio = view.host().cpu();
  fleet.host_memory_ratio = view.host().memory();
  return fleet;
}

}  // namespace

std::string index_page(const View& view) {
  return "Perigee " + std::string(view.version()) +
         "\n\n/healthz          this process answers\n/readyz           it takes requests, and a worker is up\n"
         "/metrics          for Prometheus\n/api/v1/status    one look at everything\n"
         "/api/v1/backends  each worker: health, slots, pace, lag, breaker\n"
         "/api/v1/queues    who waits, how fast the queue drains\n/api/v1/config    the configuration in effect\n";
}

std::string metrics_page(const View& view) {
  const telemetry::FleetGauges fleet = fleet_of(view);
  const telemetry::MetricTotals totals = view.totals();
  const telemetry::ProcessGauges process = view.process();
  const telemetry::RecentQuantiles recent = view.recent();
  const Reloads& r = view.reloads();
  telemetry::ReloadGauges reloads{r.succeeded, r.failed, {}, r.last_failed};
  if (r.last_success_wall_ms) reloads.last_success_seconds = static_cast<double>(*r.last_success_wall_ms) / 1000.0;
  return telemetry::render_metrics({view.version(), totals, fleet, process, reloads, recent, view.access_log(), view.tls()});
}

std::string status_page(const View& view) {
  const dispatch::Status status = view.dispatch();
  const telemetry::MetricTotals totals = view.totals();
  const health::HostLoad host = view.host();
  Json backends = Json::array();
  for (const auto& b : status.backends) {
    backends.push_back({{"name", b.name}, {"up", b.up}, {"health", b.health}, {"in_flight", b.in_flight}, {"slots", b.slots},
                        {"breaker", b.breaker}});
  }
  const Json page = {
      {"version", view.version()},
      {"uptime_s", seconds(view.now() - view.started())},
      {"ready", view.ready()},
      {"stopping", view.stopping()},
      {"backends", backends},
      {"waiting", waiting_in(status)},
      {"streams", status.streams},
      {"connections", totals.connections_open()},
      {"grants", status.grants},
      {"refused", {{"at_door", refused_of(status.refused_at_door)}, {"waiting", refused_of(status.refused_waiting)}}},
      {"retries", status.retries},
      {"retries_denied", status.retries_denied},
      {"host", {{"cpu", maybe(host.cpu())}, {"memory", maybe(host.memory())}, {"cores", host.cores}}},
      {"dispatcher", {{"locks", status.locks}, {"contended", status.locks_contended}}},
      {"reloads", reloads_of(view.reloads())},
  };
  return text(page);
}

std::string backends_page(const View& view) {
  Json backends = Json::array();
  for (const auto& b : view.dispatch().backends) backends.push_back(backend_of(view, b));
  return text({{"backends", backends}});
}

std::string queues_page(const View& view) {
  const dispatch::Status status = view.dispatch();
  const config::Snapshot config = view.config();
  Json pools = Json::array();
  for (const auto& p : status.pools) {
    pools.push_back({{"name", p.name},
                     {"kind", to_string(p.kind)},
                     {"eligible", p.eligible},
                     {"unprobed", p.unprobed},
                     {"waiting", p.waiting},
                     {"tenants_waiting", p.tenants_waiting},
                     {"estimated_wait_s", waits_of(p)},
                     {"batch", p.batch},
                     {"drain_per_s", p.drain_per_second < 0 ? Json(nullptr) : Json(p.drain_per_second)},
                     {"panic", p.panic},
                     {"paused", p.paused}});
  }
  const Json page = {{"pools", pools},
                     {"lanes", lanes_of(status)},
                     {"waiting_critical", status.waiting_critical},
                     {"waiting_body_bytes", status.waiting_bytes},
                     {"bounds",
                      {{"entries", config->queue.entries},
                       {"priority_entries", config->queue.priority_entries},
                       {"body_bytes", config->queue.bytes}}},
                     {"waited", status.waits},
                     {"left_while_waiting", status.cancelled},
                     {"refused", {{"at_door", refused_of(status.refused_at_door)}, {"waiting", refused_of(status.refused_waiting)}}}};
  return text(page);
}

std::string config_page(const View& view) {
  const config::Snapshot config = view.config();
  Json not_yet = Json::array();
  for (const auto& n : config->not_yet) not_yet.push_back({{"key", n.key}, {"value", n.value}, {"about", n.about}});
  return text({{"source", config->source}, {"config", config::to_redacted_json(*config)}, {"not_yet_in_effect", not_yet}});
}

}  // namespace perigee::admin
