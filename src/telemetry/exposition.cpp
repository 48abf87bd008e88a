// The page `/metrics`, written with prometheus-cpp's serializer. See exposition.h.
//
// One function for each group of numbers; a Page collects families in the order in which they are shown.
#include "perigee/telemetry/exposition.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <initializer_list>
#include <sstream>
#include <utility>

#include "escape.h"

namespace perigee::telemetry {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

constexpr std::size_t kBackendNameMax = 64;
constexpr std::array<std::pair<int, double>, 3> kPercentiles = {{{50, .50}, {95, .95}, {99, .99}}};

struct Label {
  const char* name;
  std::string_view value;
};
using Labels = std::initializer_list<Label>;

double number(std::uint64_t n) {
  return static_cast<double>(n);
}

class Family {
 public:
  Family(std::vector<MetricFamily>& page, const char* name, const char* help, MetricType type) : page_(page) {
    family_.name = name;
    family_.help = help;
    family_.type = type;
  }
  // A family without series is not shown.
  ~Family() {
    if (!family_.metric.empty()) page_.push_back(std::move(family_));
  }
  Family(const Family&) = delete;
  Family& operator=(const Family&) = delete;

  void add(Labels labels, double value) {
    ClientMetric& metric = series(labels);
    metric.counter.value = value;
    metric.gauge.value = value;
  }
  void add_if(Labels labels, std::optional<double> value) {
    if (value) add(labels, *value);
  }
  ClientMetric& series(Labels labels) {
    ClientMetric& metric = family_.metric.emplace_back();
    for (const Label& label : labels)
      metric.label.push_back({label.name, std::string(label.value)});
    return metric;
  }

 private:
  std::vector<MetricFamily>& page_;
  MetricFamily family_;
};

class Page {
 public:
  Family counter(const char* name, const char* help) {
    return Family(families_, name, help, MetricType::Counter);
  }
  Family gauge(const char* name, const char* help) {
    return Family(families_, name, help, MetricType::Gauge);
  }
  Family histogram(const char* name, const char* help) {
    return Family(families_, name, help, MetricType::Histogram);
  }
  std::string text() const {
    std::ostringstream out;
    prometheus::TextSerializer().Serialize(out, families_);
    return std::move(out).str();
  }

 private:
  std::vector<MetricFamily> families_;
};

template <typename Body>
void for_each_class(Body body) {
  for (std::size_t c = 0; c < kClassCount; ++c)
    body(static_cast<RequestClass>(c), kClassNames[c]);
}

void add_requests(Page& page, const MetricTotals& totals) {
  {
    Family family =
        page.counter("perigee_requests_total", "Requests that ended, by why they ended as they did.");
    for_each_class([&](RequestClass c, std::string_view name) {
      for (std::size_t r = 0; r < kReasonCount; ++r) {
        const auto reason = static_cast<Reason>(r);
        family.add({{"class", name}, {"reason", to_string(reason)}}, number(totals.outcomes(c, reason)));
      }
    });
  }
  {
    constexpr std::array<std::string_view, kStatusClasses> kCodes = {"none", "1xx", "2xx",
                                                                     "3xx",  "4xx", "5xx"};
    Family family =
        page.counter("perigee_responses_total", "Answers to clients by status; none: no head was sent.");
    for_each_class([&](RequestClass c, std::string_view name) {
      for (std::size_t h = 0; h < kStatusClasses; ++h) {
        family.add({{"class", name}, {"code", kCodes[h]}}, number(totals.responses(c, h)));
      }
    });
  }
  Family family = page.counter("perigee_stream_verdicts_total", "Streamed answers by how they ended.");
  for_each_class([&](RequestClass c, std::string_view name) {
    for (std::size_t v = 1; v < kVerdictCount; ++v) {
      const auto verdict = static_cast<StreamVerdict>(v);
      family.add({{"class", name}, {"verdict", to_string(verdict)}}, number(totals.verdicts(c, verdict)));
    }
  });
}

void add_latency(Page& page, const MetricTotals& totals, Latency latency, const char* name,
                 const char* help) {
  Family family = page.histogram(name, help);
  for_each_class([&](RequestClass c, std::string_view class_name) {
    std::uint64_t all = 0;
    for (std::size_t b = 0; b < kLatencyBuckets; ++b)
      all += totals.samples(latency, c, b);
    if (all == 0) return;
    prometheus::ClientMetric::Histogram& histogram = family.series({{"class", class_name}}).histogram;
    histogram.sample_count = all;
    histogram.sample_sum = totals.sum_seconds(latency, c);
    std::uint64_t below = 0;
    for (std::size_t b = 0; b < kLatencyBounds.size(); ++b) {
      below += totals.samples(latency, c, b);
      histogram.bucket.push_back({below, kLatencyBounds[b]});
    }
  });
}

void add_latencies(Page& page, const MetricTotals& totals, const RecentQuantiles& recent) {
  add_latency(page, totals, Latency::queue_wait, "perigee_queue_wait_seconds", "Wait for a ticket.");
  add_latency(page, totals, Latency::first_event, "perigee_first_event_seconds",
              "Dispatch to the first event with model output, or the first body byte.");
  add_latency(page, totals, Latency::head_lag, "perigee_head_lag_seconds",
              "Request sent to the head of a streamed answer.");
  add_latency(page, totals, Latency::duration, "perigee_request_duration_seconds",
              "First byte of a request to the last byte of its answer.");
  constexpr std::array<std::string_view, kLatencyCount> kStages = {"queue_wait", "first_event", "head_lag",
                                                                   "duration"};
  Family family = page.gauge("perigee_recent_latency_seconds", "Percentiles of the last minute.");
  for (const RecentQuantiles::Row& row : recent.rows) {
    for (std::size_t i = 0; i < kPercentiles.size(); ++i) {
      family.add({{"stage", kStages[static_cast<std::size_t>(row.latency)]},
                  {"class", to_string(row.request_class)},
                  {"percentile", std::to_string(kPercentiles[i].first)}},
                 row.seconds[i]);
    }
  }
}

void add_traffic(Page& page, const MetricTotals& totals) {
  const auto counter = [&](const char* name, const char* help, Count count) {
    page.counter(name, help).add({}, number(totals.count(count)));
  };
  counter("perigee_connections_accepted_total", "Client connections accepted.", Count::connections_accepted);
  counter("perigee_connections_refused_total", "Client connections closed at once, over a bound.",
          Count::connections_refused);
  counter("perigee_proxy_headers_refused_total", "Connections closed for a missing or broken PROXY header.",
          Count::proxy_headers_refused);
  counter("perigee_memory_shed_total", "Connections ended because buffers took more than memory.buffers.",
          Count::shed_for_memory);
  page.gauge("perigee_connections_open", "Client connections open now.")
      .add({}, number(totals.connections_open()));
  counter("perigee_streams_begun_total", "Streamed answers begun.", Count::streams_begun);
  page.gauge("perigee_streams_open", "Streamed answers running now.").add({}, number(totals.streams_open()));
  counter("perigee_tunnels_begun_total", "Tunnels begun: WebSockets and endless GET /mcp.",
          Count::tunnels_begun);
  page.gauge("perigee_tunnels_open", "Tunnels open now.").add({}, number(totals.tunnels_open()));
  counter("perigee_token_events_total", "Body events of streams relayed to clients.", Count::token_events);
  counter("perigee_retries_total", "Attempts after the first.", Count::retries);
  counter("perigee_client_disconnects_total", "Clients that left before their answer was whole.",
          Count::client_disconnects);
  counter("perigee_detached_requests_total", "Requests left to finish without their client.",
          Count::detached);
  counter("perigee_session_turn_waits_total", "Chats that waited for the end of an earlier turn of their session.",
          Count::turn_waits);
  counter("perigee_session_turn_refusals_total", "Chats refused because an earlier turn of their session did not end in time.",
          Count::turn_refusals);
  counter("perigee_sessions_supplied_total", "Chats without a session of their own that were given one.",
          Count::sessions_supplied);
  counter("perigee_sessions_moved_total", "Requests of a session that another worker answered than the last of that session.",
          Count::sessions_moved);
  counter("perigee_calls_rerouted_total", "Job, MCP and A2A calls whose worker has gone.", Count::calls_rerouted);
  counter("perigee_streams_stopped_total", "Streams ended towards their worker because a client stopped them.",
          Count::streams_stopped);
  {
    Family family = page.counter("perigee_upstream_connects_total", "Connections made to backends.");
    family.add({{"result", "connected"}}, number(totals.count(Count::upstream_connects)));
    family.add({{"result", "failed"}}, number(totals.count(Count::upstream_connect_failures)));
  }
  counter("perigee_upstream_reuses_total", "Requests sent on a kept connection.", Count::upstream_reuses);
  counter("perigee_client_received_bytes_total", "Bytes received from clients.",
          Count::client_bytes_received);
  counter("perigee_client_sent_bytes_total", "Bytes sent to clients.", Count::client_bytes_sent);
  counter("perigee_upstream_received_bytes_total", "Bytes received from backends.",
          Count::upstream_bytes_received);
  counter("perigee_upstream_sent_bytes_total", "Bytes sent to backends.", Count::upstream_bytes_sent);
}

void add_tls(Page& page, const TlsCounts& tls) {
  {
    Family done = page.counter("perigee_tls_handshakes_total", "TLS handshakes done, with certificates or by a ticket.");
    for (std::size_t s = 0; s < kTlsSideCount; ++s) {
      for (const TlsResult result : {TlsResult::full, TlsResult::resumed}) {
        done.add({{"side", kTlsSideNames[s]}, {"kind", to_string(result)}}, number(tls.of(static_cast<TlsSide>(s), result)));
      }
    }
  }
  {
    Family failed = page.counter("perigee_tls_handshake_failures_total", "TLS handshakes that failed, by why.");
    for (std::size_t s = 0; s < kTlsSideCount; ++s) {
      for (std::size_t r = 0; r < kTlsResultCount; ++r) {
        const auto result = static_cast<TlsResult>(r);
        if (succeeded(result)) continue;
        failed.add({{"side", kTlsSideNames[s]}, {"reason", to_string(result)}}, number(tls.of(static_cast<TlsSide>(s), result)));
      }
    }
  }
  if (!tls.earliest_expiry) return;
  page.gauge("perigee_tls_certificate_expiry_timestamp_seconds",
             "When the first of our own certificates expires, since 1970.")
      .add({}, static_cast<double>(*tls.earliest_expiry));
}

// Names that can stand as label values: bounded, well-formed, one series each.
std::vector<std::string> shown_names(const std::vector<BackendGauges>& backends) {
  std::vector<std::string> names;
  for (const BackendGauges& backend : backends) {
    if (names.size() == kBackendsShown) break;
    const std::string_view cut = cut_text(backend.name, kBackendNameMax);
    std::string name;
    for (std::size_t at = 0; at < cut.size();) {
      const std::size_t length = utf8_length(cut.substr(at));
      const auto c = static_cast<unsigned char>(cut[at]);
      const bool control = c < 0x20 || c == 0x7F ||
                           (length == 2 && c == 0xC2 && static_cast<unsigned char>(cut[at + 1]) < 0xA0);
      if (length == 0 || control)
        name += '_';
      else
        name += cut.substr(at, length);
      at += std::max<std::size_t>(length, 1);
    }
    if (name.empty()) name = "unnamed";
    std::string unique = name;
    for (int n = 2; std::find(names.begin(), names.end(), unique) != names.end(); ++n) {
      unique = name + "~" + std::to_string(n);
    }
    names.push_back(std::move(unique));
  }
  return names;
}

void add_backends(Page& page, const std::vector<BackendGauges>& backends) {
  {
    const auto up =
        std::count_if(backends.begin(), backends.end(), [](const BackendGauges& b) { return b.up; });
    const auto all = static_cast<std::ptrdiff_t>(backends.size());
    Family family = page.gauge("perigee_backends", "Backends by what their probes say.");
    family.add({{"state", "up"}}, static_cast<double>(up));
    family.add({{"state", "down"}}, static_cast<double>(all - up));
  }
  const std::vector<std::string> names = shown_names(backends);
  // One family after the other: value(backend) gives a number, or nothing where it is not known.
  const auto each = [&](Family family, auto value) {
    for (std::size_t i = 0; i < names.size(); ++i)
      family.add_if({{"backend", names[i]}}, value(backends[i]));
  };
  using Known = std::optional<double>;
  const auto gauge = [&](const char* name, const char* help, auto value) {
    each(page.gauge(name, help), value);
  };
  const auto counter = [&](const char* name, const char* help, auto value) {
    each(page.counter(name, help), value);
  };

  gauge("perigee_backend_up", "1 if the backend is up by its probes.",
        [](const BackendGauges& b) -> Known { return b.up; });
  gauge("perigee_backend_eligible", "1 if the backend may be given tickets now.",
        [](const BackendGauges& b) -> Known { return b.eligible; });
  gauge("perigee_backend_draining", "1 if the backend is being drained.",
        [](const BackendGauges& b) -> Known { return b.draining; });
  gauge("perigee_backend_hot", "1 if the worker's process is short of CPU or memory.",
        [](const BackendGauges& b) -> Known { return b.hot; });
  {
    Family family = page.gauge("perigee_backend_kind_info", "What the backend is.");
    for (std::size_t i = 0; i < names.size(); ++i) {
      family.add({{"backend", names[i]}, {"kind", to_string(backends[i].kind)}}, 1);
    }
  }
  {
    constexpr std::array<std::string_view, 3> kStates = {"closed", "open", "half_open"};
    Family family =
        page.gauge("perigee_backend_breaker_state", "1 for the state that the circuit breaker is in.");
    for (std::size_t i = 0; i < names.size(); ++i) {
      for (std::size_t s = 0; s < kStates.size(); ++s) {
        const bool is = static_cast<std::size_t>(backends[i].breaker) == s;
        family.add({{"backend", names[i]}, {"state", kStates[s]}}, is ? 1 : 0);
      }
    }
  }
  gauge("perigee_backend_slots", "Tickets that the backend may hold at once.",
        [](const BackendGauges& b) -> Known { return b.slots; });
  {
    Family family = page.gauge("perigee_backend_tickets", "Tickets that the backend holds, by phase.");
    for (std::size_t i = 0; i < names.size(); ++i) {
      family.add({{"backend", names[i]}, {"phase", "starting"}}, backends[i].starting);
      family.add({{"backend", names[i]}, {"phase", "running"}}, backends[i].running);
      family.add({{"backend", names[i]}, {"phase", "critical"}}, backends[i].critical);
    }
  }
  gauge("perigee_backend_tunnels", "Tunnels to the backend.",
        [](const BackendGauges& b) -> Known { return b.tunnels; });
  gauge("perigee_backend_speed", "Times slower than the fastest of its pool, in powers of two, where requests wait.",
        [](const BackendGauges& b) -> Known { return b.speed; });
  gauge("perigee_backend_pace", "Starts a second that the backend is given at most.",
        [](const BackendGauges& b) { return b.pace; });
  gauge("perigee_backend_first_event_seconds", "Moving average of dispatch to first event.",
        [](const BackendGauges& b) { return b.first_event_seconds; });
  gauge("perigee_backend_head_lag_seconds", "Newest sample of head lag.",
        [](const BackendGauges& b) { return b.head_lag_seconds; });
  gauge("perigee_backend_probe_seconds", "Answer time of the newest probe.",
        [](const BackendGauges& b) { return b.probe_seconds; });
  gauge("perigee_backend_cpu_ratio", "CPU of the worker's process; 1 is one core.",
        [](const BackendGauges& b) { return b.cpu_ratio; });
  gauge("perigee_backend_memory_bytes", "Resident memory of the worker's process.",
        [](const BackendGauges& b) { return b.memory_bytes; });
  counter("perigee_backend_tickets_total", "Tickets given out for the backend.",
          [](const BackendGauges& b) -> Known { return number(b.tickets_total); });
  counter("perigee_backend_failures_total", "Outcomes that counted against the backend.",
          [](const BackendGauges& b) -> Known { return number(b.failures_total); });
  counter("perigee_backend_breaker_opens_total", "How often the circuit breaker opened.",
          [](const BackendGauges& b) -> Known { return number(b.breaker_opens_total); });
  counter("perigee_backend_stalls_total", "Silences of the whole worker, taken for pauses of its collector.",
          [](const BackendGauges& b) -> Known { return number(b.stalls_total); });
}

void add_queue(Page& page, const FleetGauges& fleet) {
  {
    Family waiting = page.gauge("perigee_queue_waiting", "Requests that wait for a ticket.");
    for (const LaneGauges& lane : fleet.lanes) {
      waiting.add({{"class", to_string(lane.request_class)}, {"priority", to_string(lane.priority)}},
                  lane.waiting);
    }
  }
  {
    Family oldest = page.gauge("perigee_queue_oldest_seconds", "How long the first in the lane has waited.");
    for (const LaneGauges& lane : fleet.lanes) {
      oldest.add({{"class", to_string(lane.request_class)}, {"priority", to_string(lane.priority)}},
                 to_seconds(lane.oldest));
    }
  }
  page.gauge("perigee_queue_entries_limit", "Requests that may wait.")
      .add({}, number(fleet.queue_entries_max));
  page.gauge("perigee_queue_body_bytes", "Bodies held by waiting requests.")
      .add({}, number(fleet.queue_body_bytes));
  page.gauge("perigee_queue_body_limit_bytes", "Bound of the bodies held by waiting requests.")
      .add({}, number(fleet.queue_body_bytes_max));
  page.gauge("perigee_queue_drain_rate", "Grants a second while somebody waits.")
      .add_if({}, fleet.drain_rate);
  page.counter("perigee_grants_total", "Tickets given out.").add({}, number(fleet.grants_total));
}

void add_process(Page& page, const Exposition& what) {
  page.gauge("perigee_ready", "1 if /readyz says so.").add({}, what.fleet.ready);
  page.gauge("perigee_draining", "1 while stopping.").add({}, what.fleet.draining);
  page.gauge("perigee_host_cpu_ratio", "CPU in use, of the cores that we may use.")
      .add_if({}, what.fleet.host_cpu_ratio);
  page.gauge("perigee_host_memory_ratio", "Working set, of the memory that we may use.")
      .add_if({}, what.fleet.host_memory_ratio);
  {
    Family family = page.gauge("perigee_host_pressure_ratio", "Share of time in which work stalled for want of a resource.");
    for (const FleetGauges::Pressure& pressure : what.fleet.pressure) {
      if (!pressure.resource.empty()) family.add_if({{"resource", pressure.resource}}, pressure.share);
    }
  }
  page.gauge("perigee_throttle_level", "0 below the soft marks of CPU and memory, 1 where the machine is saturated.")
      .add({}, what.fleet.throttle_level);
  page.gauge("perigee_throttle_step",
             "0 calm, 1 low waits, 2 no retries, 3 fewer streams, 4 low is refused, 5 normal is refused.")
      .add({}, what.fleet.throttle_step);
  page.counter("perigee_throttle_step_changes_total", "Changes of that step.").add({}, number(what.fleet.throttle_changes_total));
  const ProcessGauges& process = what.process;
  page.counter("perigee_process_cpu_seconds_total", "CPU time of this process, user and system.")
      .add_if({}, process.cpu_seconds_total);
  page.gauge("perigee_process_resident_memory_bytes", "Resident memory of this process.")
      .add_if({}, process.resident_bytes);
  page.gauge("perigee_process_open_fds", "Open descriptors of this process.")
      .add_if({}, process.open_descriptors);
  page.gauge("perigee_process_max_fds", "Descriptors that this process may open.")
      .add_if({}, process.descriptors_max);
  page.gauge("perigee_process_start_time_seconds", "Start of this process since 1970.")
      .add_if({}, process.start_time_seconds);
  page.gauge("perigee_build_info", "1; the version is the label.").add({{"version", what.version}}, 1);
}

void add_rates(Page& page, const RateCounts& rates) {
  {
    Family family = page.counter("perigee_rate_limit_requests_total", "Requests held against a rate, by what came of it.");
    for (const RateCounts::Policy& policy : rates.policies) {
      family.add({{"policy", policy.name}, {"result", "allowed"}}, number(policy.allowed));
      family.add({{"policy", policy.name}, {"result", "refused_requests"}}, number(policy.refused_requests));
      family.add({{"policy", policy.name}, {"result", "refused_tokens"}}, number(policy.refused_tokens));
      family.add({{"policy", policy.name}, {"result", "refused_concurrent"}}, number(policy.refused_concurrent));
    }
  }
  {
    Family family = page.counter("perigee_rate_limit_tokens_total", "Tokens counted against a rate when chats ended.");
    for (const RateCounts::Policy& policy : rates.policies) family.add({{"policy", policy.name}}, number(policy.tokens));
  }
  Family family = page.counter("perigee_rate_limit_evicted_total", "Keys forgotten because a rate's table was full.");
  for (const RateCounts::Policy& policy : rates.policies) family.add({{"policy", policy.name}}, number(policy.evicted));
}

void add_sessions(Page& page, const SessionCounts& sessions) {
  {
    Family family = page.gauge("perigee_session_turns", "Chats that have their session's turn, or wait for it.");
    family.add({{"state", "running"}}, number(sessions.running));
    family.add({{"state", "waiting"}}, number(sessions.waiting));
  }
  page.gauge("perigee_known_ids", "Jobs, MCP sessions and A2A tasks whose worker is known.").add({}, number(sessions.known_ids));
  page.gauge("perigee_session_homes", "Sessions whose last worker is known.").add({}, number(sessions.homes));
}

void add_redis(Page& page, const RedisCounts& redis) {
  if (!redis.configured) return;
  page.gauge("perigee_redis_connected", "1 if a loop has a usable connection to Redis.").add({}, redis.connected);
  page.counter("perigee_redis_connects_total", "Connections to Redis that became usable.").add({}, number(redis.connects));
  page.counter("perigee_redis_calls_total", "Commands sent to Redis.").add({}, number(redis.calls));
  {
    Family family = page.counter("perigee_redis_failures_total", "Commands without a good answer in time.");
    family.add({{"reason", "timeout"}}, number(redis.timeouts));
    family.add({{"reason", "error"}}, number(redis.failures));
  }
  page.counter("perigee_redis_fallbacks_total", "Requests decided by this sidecar's own part of a shared rate.")
      .add({}, number(redis.fallbacks));
  page.counter("perigee_redis_answers_total", "Answers of Redis.").add({}, number(redis.answers));
  page.counter("perigee_redis_answer_seconds_total", "Time that these answers took, together.")
      .add({}, static_cast<double>(redis.latency_ns) * 1e-9);
}

void add_reloads_and_log(Page& page, const Exposition& what) {
  {
    Family family = page.counter("perigee_config_reloads_total", "Reloads of the configuration.");
    family.add({{"result", "succeeded"}}, number(what.reloads.succeeded));
    family.add({{"result", "failed"}}, number(what.reloads.failed));
  }
  page.gauge("perigee_config_last_reload_failed", "1 if the newest reload failed and changed nothing.")
      .add({}, what.reloads.last_failed);
  page.gauge("perigee_config_last_success_timestamp_seconds",
             "When the running configuration was taken, since 1970.")
      .add_if({}, what.reloads.last_success_seconds);
  Family family =
      page.counter("perigee_access_log_lines_total", "Lines of the access log by what became of them.");
  family.add({{"result", "written"}}, number(what.access_log.lines_written));
  family.add({{"result", "dropped"}}, number(what.access_log.lines_dropped));
  family.add({{"result", "failed"}}, number(what.access_log.lines_failed));
}

}  // namespace

RecentQuantiles RecentQuantiles::of(const RecentLatencies& recent, TimePoint now) {
  RecentQuantiles all;
  for (std::size_t l = 0; l < kLatencyCount; ++l) {
    for (std::size_t c = 0; c < kClassCount; ++c) {
      Row row{static_cast<Latency>(l), static_cast<RequestClass>(c), {}};
      bool known = true;
      for (std::size_t i = 0; i < kPercentiles.size(); ++i) {
        const auto value = recent.quantile(row.latency, row.request_class, kPercentiles[i].second, now);
        known = known && value.has_value();
        row.seconds[i] = value.value_or(0);
      }
      if (known) all.rows.push_back(row);
    }
  }
  return all;
}

std::string render_metrics(const Exposition& what) {
  Page page;
  add_requests(page, what.totals);
  add_latencies(page, what.totals, what.recent);
  add_traffic(page, what.totals);
  add_tls(page, what.tls);
  add_rates(page, what.rates);
  add_sessions(page, what.sessions);
  add_redis(page, what.redis);
  add_queue(page, what.fleet);
  add_backends(page, what.fleet.backends);
  add_reloads_and_log(page, what);
  add_process(page, what);
  return page.text();
}

}  // namespace perigee::telemetry
