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
  Json class_slots = Json::object();
  for (std::size_t c = 0; c < kClassCount; ++c) {
    if (b.by_class[c] != 0) by_class[std::string(kClassNames[c])] = b.by_class[c];
    if (b.class_slots[c] != 0) class_slots[std::string(kClassNames[c])] = b.class_slots[c];
  }
  return {{"name", b.name},
          {"address", b.address},
          {"kind", to_string(b.kind)},
          {"up", b.up},
          {"health", b.health},
          {"draining", b.draining},
          {"removed", b.removed},
          {"hot", b.hot},
          {"weight", b.weight},
          {"in_flight", b.in_flight},
          {"starting", b.starting},
          {"streams", b.streams},
          {"critical", b.critical},
          {"tunnels", b.tunnels},
          {"by_class", by_class},
          {"class_slots", class_slots},
          {"slots", b.slots},
          {"slots_ceiling", b.slots_ceiling},
          {"slots_limit", b.slots_limit == 0 ? Json(nullptr) : Json(b.slots_limit)},
          {"first_event_base_s", b.base_seconds},
          {"pace_per_s", b.pace},
          {"head_lag_s", b.lag_seconds},
          {"stalls", b.stalls},
          {"slot_cuts", b.slot_cuts},
          {"pace_cuts", b.pace_cuts},
          {"slowness", b.slowness},
          {"speed", b.speed},
          {"ramp", b.ramp},
          {"grants", b.grants},
          {"breaker", breaker_of(b)},
          {"probe_s", maybe(probed.probe_seconds)},
          {"healthy_ratio", maybe(probed.healthy_ratio)},
          {"cpu_cores", maybe(probed.load.cores)},
          {"memory_bytes", maybe(probed.load.resident_bytes)},
          {"lag_trace", lag_of(view, b)}};
}

Json throttle_of(const View& view) {
  const ThrottleReport& report = view.throttle();
  const admission::ThrottleState& s = report.state;
  Json workers = Json::object();
  for (const auto& [name, w] : report.workers) {
    workers[name] = {{"pid", w.pid == 0 ? Json(nullptr) : Json(w.pid)},
                     {"cpu", maybe(w.cpu)},
                     {"memory", maybe(w.memory)},
                     {"hot", w.cpu_hot || w.memory_hot},
                     {"cpu_hot", w.cpu_hot},
                     {"memory_hot", w.memory_hot},
                     {"killed_for_memory", w.killed_for_memory}};
  }
  const health::HostLoad host = view.host();
  const std::optional<double> since = report.since ? std::optional(seconds(view.now() - *report.since)) : std::nullopt;
  return {{"enabled", report.marks.enabled},
          {"step", to_string(s.step)},
          {"cause", to_string(s.cause)},
          {"level", s.level},
          {"levels", {{"cpu", s.cpu_level}, {"memory", s.memory_level}, {"pressure", s.pressure_level}}},
          {"refusing_above_rank", s.orders.refuse_above == admission::kMostRank ? Json(nullptr) : Json(s.orders.refuse_above)},
          {"standing_queue", s.standing},
          {"changes", report.changes},
          {"step_age_s", maybe(since)},
          {"cpu", maybe(s.cpu)},
          {"memory", maybe(host.memory())},
          {"cpu_quota", maybe(host.group_throttle)},
          {"pressure",
           {{"cpu", maybe(host.cpu_pressure)},
            {"memory", maybe(host.memory_pressure)},
            {"memory_full", maybe(host.memory_full_pressure)},
            {"io", maybe(host.io_pressure)}}},
          {"marks",
           {{"cpu", report.marks.cpu},
            {"cpu_hard", report.marks.cpu_hard},
            {"memory", report.marks.memory},
            {"memory_hard", report.marks.memory_hard}}},
          {"workers", workers}};
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
  g.hot = b.hot;
  g.breaker = gauge_of(b.breaker);
  g.slots = b.slots;
  g.starting = b.starting;
  g.running = b.in_flight - std::min(b.in_flight, b.starting);
  g.critical = b.critical;
  g.tunnels = b.tunnels;
  g.speed = b.speed;
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
  fleet.pressure = {{{"cpu", view.host().cpu_pressure},
                     {"memory", view.host().memory_pressure},
                     {"memory_full", view.host().memory_full_pressure},
                     {"io", view.host().io_pressure}}};
  fleet.throttle_level = view.throttle().state.level;
  fleet.throttle_step = static_cast<std::uint32_t>(view.throttle().state.step);
  fleet.throttle_changes_total = view.throttle().changes;
  return fleet;
}

}  // namespace

std::string index_page(const View& view) {
  return "Perigee " + std::string(view.version()) +
         "\n\n/healthz          this process answers\n/readyz           it takes requests, and a worker is up\n"
         "/metrics          for Prometheus\n/api/v1/status    one look at everything\n"
         "/api/v1/backends  each worker: health, slots, pace, lag, breaker\n"
         "/api/v1/queues    who waits, how fast the queue drains\n"
         "/api/v1/rates     each rate, and who has used most of it\n"
         "/api/v1/throttle  CPU and memory: what they are, what is done\n"
         "/api/v1/classes   limits of each class, who runs, who waits\n/api/v1/breakers  circuit breakers\n"
         "/api/v1/events    what happened lately: changes by operators, throttle, health, reloads\n/api/v1/config    the configuration in effect\n"
         "\nPOST (what is changed is kept by a reload, not by a restart):\n"
         "/api/v1/reload    reads the file again\n/api/v1/drain     finishes what runs, then ends\n"
         "/api/v1/pause     {\"pool\": NAME}, or all: requests wait\n/api/v1/resume    the same back\n"
         "/api/v1/backends/NAME/drain, enable, eject {\"seconds\": N}, limit {\"slots\": N or null}\n";
}

std::string metrics_page(const View& view) {
  const telemetry::FleetGauges fleet = fleet_of(view);
  const telemetry::MetricTotals totals = view.totals();
  const telemetry::ProcessGauges process = view.process();
  const telemetry::RecentQuantiles recent = view.recent();
  const Reloads& r = view.reloads();
  telemetry::ReloadGauges reloads{r.succeeded, r.failed, {}, r.last_failed};
  if (r.last_success_wall_ms) reloads.last_success_seconds = static_cast<double>(*r.last_success_wall_ms) / 1000.0;
  return telemetry::render_metrics({view.version(), totals, fleet, process, reloads, recent, view.access_log(), view.tls(), view.rates(),
                                    view.redis(), view.sessions()});
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
      {"throttle", {{"step", to_string(view.throttle().state.step)}, {"level", view.throttle().state.level}}},
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
  const telemetry::SessionCounts turns = view.sessions();
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
                     {"paused", p.paused},
                     {"overload", config::kOverloadNames[static_cast<std::size_t>(p.overload)]},
                     {"overloaded", p.overloaded},
                     {"refused_share", p.refused_share}});
  }
  const Json page = {{"pools", pools},
                     {"lanes", lanes_of(status)},
                     {"waiting_critical", status.waiting_critical},
                     {"waiting_body_bytes", status.waiting_bytes},
                     {"bounds",
                      {{"entries", config->queue.entries},
                       {"priority_entries", config->queue.priority_entries},
                       {"body_bytes", config->queue.bytes}}},
                     {"session_turns", {{"running", turns.running}, {"waiting", turns.waiting}}},
                     {"waited", status.waits},
                     {"left_while_waiting", status.cancelled},
                     {"refused", {{"at_door", refused_of(status.refused_at_door)}, {"waiting", refused_of(status.refused_waiting)}}}};
  return text(page);
}

std::string rates_page(const View& view) {
  const config::Snapshot config = view.config();
  const telemetry::RateCounts counts = view.rates();
  const std::vector<RateRow> rows = view.rate_usage();
  Json policies = Json::array();
  for (std::size_t i = 0; i < rows.size() && i < config->rate_limits.size(); ++i) {
    const config::RateLimit& limit = config->rate_limits[i];
    Json keys = Json::array();
    for (const RateRow::Key& key : rows[i].keys) {
      keys.push_back({{"key", key.shown}, {"requests_used", key.requests}, {"tokens_used", key.tokens}, {"running", key.running}});
    }
    Json policy = {{"name", rows[i].name}, {"by", config::kRateByNames[static_cast<std::size_t>(limit.by)]}, {"per_s", seconds(limit.per)}};
    if (limit.requests) policy["requests"] = *limit.requests;
    if (limit.tokens) policy["tokens"] = *limit.tokens;
    if (limit.concurrent) policy["concurrent"] = *limit.concurrent;
    for (const auto& c : counts.policies) {
      if (c.name != rows[i].name) continue;
      policy["allowed"] = c.allowed;
      policy["refused"] = {{"requests", c.refused_requests}, {"tokens", c.refused_tokens}, {"concurrent", c.refused_concurrent}};
      policy["tokens_counted"] = c.tokens;
    }
    policy["most_used_by"] = std::move(keys);
    policies.push_back(std::move(policy));
  }
  Json page = {{"policies", policies}};
  const telemetry::RedisCounts redis = view.redis();
  if (redis.configured) {
    page["redis"] = {{"connected", redis.connected}, {"trouble", view.redis_trouble()}, {"calls", redis.calls},
                     {"answers", redis.answers},     {"timeouts", redis.timeouts},      {"failures", redis.failures},
                     {"fallbacks", redis.fallbacks}};
  }
  return text(page);
}

std::string classes_page(const View& view) {
  const dispatch::Status status = view.dispatch();
  const config::Snapshot config = view.config();
  const auto bound = [](std::uint32_t n) { return n == config::kUnbounded ? Json(nullptr) : Json(n); };
  Json classes = Json::array();
  for (std::size_t c = 0; c < kClassCount; ++c) {
    const auto request_class = static_cast<RequestClass>(c);
    Json waiting = Json::object();
    for (std::size_t p = 0; p < kPriorityCount; ++p) {
      if (status.waiting[c][p] != 0) waiting[std::string(kPriorityNames[p])] = status.waiting[c][p];
    }
    std::uint32_t running = 0;
    for (const auto& b : status.backends) running += b.by_class[c];
    classes.push_back({{"name", kClassNames[c]},
                       {"tickets", running},
                       {"before_first_event", status.before_first_event[c]},
                       {"limit", bound(config->limits.by_class.values[c])},
                       {"waiting", waiting},
                       {"queue_wait_s", seconds(config->queue_wait.by_class.at(request_class))},
                       {"retries", config->retries.by_class.at(request_class)}});
  }
  return text({{"classes", classes}, {"streams", status.streams}, {"streams_limit", bound(config->limits.streams)}});
}

std::string breakers_page(const View& view) {
  Json breakers = Json::array();
  for (const auto& b : view.dispatch().backends) {
    Json breaker = breaker_of(b);
    breaker["backend"] = b.name;
    breakers.push_back(std::move(breaker));
  }
  return text({{"breakers", breakers}});
}

std::string events_page(const View& view) {
  Json events = Json::array();
  for (const Event& e : view.events().all()) {
    Json event = {{"number", e.number}, {"time_ms", e.wall_ms}, {"kind", e.kind}};
    for (const auto& [key, value] : e.fields) event[key] = value;
    events.push_back(std::move(event));
  }
  return text({{"events", events}});
}

std::string throttle_page(const View& view) { return text(throttle_of(view)); }

std::string config_page(const View& view) {
  const config::Snapshot config = view.config();
  Json not_yet = Json::array();
  for (const auto& n : config->not_yet) not_yet.push_back({{"key", n.key}, {"value", n.value}, {"about", n.about}});
  return text({{"source", config->source}, {"config", config::to_redacted_json(*config)}, {"not_yet_in_effect", not_yet}});
}

}  // namespace perigee::admin
