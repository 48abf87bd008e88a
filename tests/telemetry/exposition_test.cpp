// The page /metrics, judged by the rules of Prometheus' own linter (promtool check metrics), written out here.
#include "perigee/telemetry/exposition.h"

#include <doctest/doctest.h>

#include <map>
#include <regex>
#include <set>
#include <sstream>

using namespace perigee;
using namespace perigee::telemetry;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

const TimePoint kStart{seconds(1000)};

struct Parsed {
  std::map<std::string, std::string> help, type;
  std::map<std::string, double> series;  // with labels, as written
  std::vector<std::string> order;        // of families
};

std::string family_of(const std::string& series, const std::map<std::string, std::string>& types) {
  std::string name = series.substr(0, series.find('{'));
  for (const char* suffix : {"_bucket", "_sum", "_count"}) {
    const std::string s = suffix;
    if (name.size() > s.size() && name.ends_with(s)) {
      const auto base = types.find(name.substr(0, name.size() - s.size()));
      if (base != types.end() && base->second == "histogram") return base->first;
    }
  }
  return name;
}

Parsed parse(const std::string& page) {
  static const std::regex kSeries(
      R"(([a-z_][a-z0-9_]*(?:\{(?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*\})?) (-?[0-9.e+-]+|\+Inf|NaN))");
  Parsed p;
  std::istringstream in(page);
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string hash, what, name;
    if (line.starts_with("# ")) {
      words >> hash >> what >> name;
      const std::string rest = line.substr(line.find(name) + name.size() + 1);
      REQUIRE((what == "HELP" || what == "TYPE"));
      auto& into = what == "HELP" ? p.help : p.type;
      REQUIRE(into.emplace(name, rest).second);
      if (what == "TYPE") p.order.push_back(name);
      continue;
    }
    std::smatch match;
    CAPTURE(line);
    REQUIRE(std::regex_match(line, match, kSeries));
    REQUIRE(p.series.emplace(match[1], std::stod(match[2])).second);  // no series twice
    REQUIRE(family_of(match[1], p.type) == p.order.back());           // families stand together
  }
  return p;
}

struct Inputs {
  std::unique_ptr<LoopMetrics> loop = std::make_unique<LoopMetrics>();
  RecentLatencies recent;
  FleetGauges fleet;
  ProcessGauges process;
  ReloadGauges reloads;
  LogSink::Counters access_log;
  std::unique_ptr<TlsMetrics> tls = std::make_unique<TlsMetrics>();
  std::optional<std::int64_t> certificate_expiry;

  std::string page() {
    MetricTotals totals;
    totals.add(*loop);
    recent.tick({loop.get()}, kStart);
    const RecentQuantiles quantiles = RecentQuantiles::of(recent, kStart);
    TlsCounts handshakes = tls->read();
    handshakes.earliest_expiry = certificate_expiry;
    return render_metrics({"0.1.0", totals, fleet, process, reloads, quantiles, access_log, handshakes});
  }
};

Inputs everything() {
  Inputs in;
  for (int i = 0; i < 100; ++i)
    in.loop->observe(Latency::queue_wait, RequestClass::chat, milliseconds(i));
  for (int i = 0; i < 100; ++i)
    in.loop->observe(Latency::first_event, RequestClass::chat, milliseconds(10 * i));
  for (int i = 0; i < 5; ++i)
    in.loop->observe(Latency::head_lag, RequestClass::chat, milliseconds(8));
  in.loop->observe(Latency::duration, RequestClass::search, seconds(500));
  in.loop->finished(RequestClass::chat, Reason::served);
  in.loop->finished(RequestClass::chat, Reason::queue_timeout);
  in.loop->responded(RequestClass::chat, 200);
  in.loop->stream_ended(RequestClass::chat, StreamVerdict::unterminated);
  in.loop->add(Count::client_bytes_sent, 9'007'199'254'740'993ULL);
  BackendGauges b;
  b.name = "worker-1";
  b.kind = WorkerKind::orbit;
  b.up = b.eligible = true;
  b.breaker = BreakerGauge::half_open;
  b.slots = 48;
  b.starting = 3;
  b.running = 12;
  b.speed = 4;
  b.pace = 25.5;
  b.first_event_seconds = b.head_lag_seconds = b.probe_seconds = b.cpu_ratio = .25;
  b.memory_bytes = 4e8;
  b.tickets_total = 1000;
  in.fleet.backends.push_back(b);
  in.fleet.lanes.push_back({RequestClass::chat, Priority::high, 7, milliseconds(1500)});
  in.fleet.drain_rate = 12.5;
  in.fleet.host_cpu_ratio = in.fleet.host_memory_ratio = .5;
  in.fleet.pressure = {{{"cpu", .4}, {"memory", {}}, {"memory_full", {}}, {"io", .1}}};
  in.fleet.throttle_level = .7;
  in.fleet.throttle_step = 4;
  in.fleet.throttle_changes_total = 3;
  in.process = {1.5, 3e7, 20., 1024., 1.7e9};
  in.reloads = {2, 1, 1.7e9, true};
  in.access_log.lines_written = 5;
  in.access_log.lines_dropped = 2;
  return in;
}

}  // namespace

TEST_CASE("the linter's rules") {
  Inputs in = everything();
  const Parsed p = parse(in.page());
  CHECK(p.order.size() > 45);
  const std::set<std::string> kBadWords = {
      "s",       "ms",    "us",   "ns",      "sec",     "b",     "kb",        "mb",     "gb", "milliseconds",
      "minutes", "hours", "days", "percent", "counter", "gauge", "histogram", "summary"};
  for (const std::string& name : p.order) {
    CAPTURE(name);
    CHECK(name.starts_with("perigee_"));
    CHECK_FALSE(p.help.at(name).empty());
    const std::string& type = p.type.at(name);
    CHECK(name.ends_with("_total") == (type == "counter"));
    for (const char* reserved : {"_count", "_sum", "_bucket"})
      CHECK_FALSE(name.ends_with(reserved));
    std::istringstream parts(name);
    for (std::string part; std::getline(parts, part, '_');)
      CHECK_FALSE(kBadWords.contains(part));
  }
  for (const auto& [series, value] : p.series) {
    CAPTURE(series);
    const bool bucket = series.find("_bucket{") != std::string::npos;
    CHECK((series.find(",le=\"") != std::string::npos) == bucket);
    CHECK(series.find("quantile=") == std::string::npos);
    CHECK(value >= 0);
  }
}

TEST_CASE("numbers arrive where they belong") {
  Inputs in = everything();
  const Parsed p = parse(in.page());
  const auto value = [&](const char* series) {
    CAPTURE(series);
    REQUIRE(p.series.contains(series));
    return p.series.at(series);
  };
  CHECK(value("perigee_throttle_level") == doctest::Approx(.7));
  CHECK(value("perigee_throttle_step") == 4);
  CHECK(value("perigee_throttle_step_changes_total") == 3);
  CHECK(value(R"(perigee_requests_total{class="chat",reason="served"})") == 1);
  CHECK(value(R"(perigee_requests_total{class="chat",reason="queue_timeout"})") == 1);
  CHECK(value(R"(perigee_requests_total{class="voice",reason="served"})") == 0);
  CHECK(value(R"(perigee_responses_total{class="chat",code="2xx"})") == 1);
  CHECK(value(R"(perigee_stream_verdicts_total{class="chat",verdict="unterminated"})") == 1);
  CHECK(value(R"(perigee_queue_wait_seconds_bucket{class="chat",le="0.005"})") == 6);
  CHECK(value(R"(perigee_queue_wait_seconds_bucket{class="chat",le="0.05"})") == 51);
  CHECK(value(R"(perigee_queue_wait_seconds_bucket{class="chat",le="+Inf"})") == 100);
  CHECK(value(R"(perigee_queue_wait_seconds_count{class="chat"})") == 100);
  CHECK(value(R"(perigee_queue_wait_seconds_sum{class="chat"})") == doctest::Approx(4.95));
  CHECK(value(R"(perigee_request_duration_seconds_bucket{class="search",le="120"})") == 0);
  CHECK(value(R"(perigee_request_duration_seconds_bucket{class="search",le="+Inf"})") == 1);
  CHECK(value(R"(perigee_recent_latency_seconds{stage="first_event",class="chat",percentile="95"})") ==
        doctest::Approx(.94).epsilon(.008));
  CHECK_FALSE(
      p.series.contains(R"(perigee_recent_latency_seconds{stage="head_lag",class="chat",percentile="95"})"));
  CHECK(value(R"(perigee_backends{state="up"})") == 1);
  CHECK(value(R"(perigee_backend_breaker_state{backend="worker-1",state="half_open"})") == 1);
  CHECK(value(R"(perigee_backend_breaker_state{backend="worker-1",state="closed"})") == 0);
  CHECK(value(R"(perigee_backend_tickets{backend="worker-1",phase="running"})") == 12);
  CHECK(value(R"(perigee_backend_pace{backend="worker-1"})") == 25.5);
  CHECK(value(R"(perigee_backend_speed{backend="worker-1"})") == 4);
  CHECK(value(R"(perigee_queue_waiting{class="chat",priority="high"})") == 7);
  CHECK(value(R"(perigee_queue_oldest_seconds{class="chat",priority="high"})") == 1.5);
  CHECK(value(R"(perigee_config_reloads_total{result="failed"})") == 1);
  CHECK(value(R"(perigee_access_log_lines_total{result="dropped"})") == 2);
  CHECK(value(R"(perigee_build_info{version="0.1.0"})") == 1);
}

TEST_CASE("TLS handshakes by side and by what became of them") {
  Inputs in;
  for (int i = 0; i < 3; ++i) in.tls->count(TlsSide::client, TlsResult::resumed);
  in.tls->count(TlsSide::worker, TlsResult::certificate_expired);
  in.certificate_expiry = 4'733'510'400;
  const Parsed p = parse(in.page());
  CHECK(p.series.at(R"(perigee_tls_handshakes_total{side="client",kind="resumed"})") == 3);
  CHECK(p.series.at(R"(perigee_tls_handshakes_total{side="client",kind="full"})") == 0);
  CHECK(p.series.at(R"(perigee_tls_handshake_failures_total{side="worker",reason="certificate_expired"})") == 1);
  CHECK(p.series.at(R"(perigee_tls_handshake_failures_total{side="client",reason="other"})") == 0);
  CHECK_FALSE(p.series.contains(R"(perigee_tls_handshake_failures_total{side="client",reason="full"})"));
  CHECK(p.series.at("perigee_tls_certificate_expiry_timestamp_seconds") == 4'733'510'400);
}

TEST_CASE("what is not known is left out, never 0") {
  Inputs in;
  in.fleet.backends.resize(1);
  const std::string page = in.page();
  parse(page);
  for (const char* name : {"perigee_backend_pace", "perigee_backend_cpu_ratio", "perigee_host_cpu_ratio",
                           "perigee_queue_drain_rate", "perigee_process_resident_memory_bytes",
                           "perigee_queue_wait_seconds", "perigee_recent_latency_seconds",
                           "perigee_tls_certificate_expiry_timestamp_seconds"}) {
    CHECK(page.find(name) == std::string::npos);
  }
}

TEST_CASE("names of backends are bounded, made safe and kept apart") {
  Inputs in;
  in.fleet.backends.resize(100);
  in.fleet.backends[0].name = "evil\"} 1\nperigee_fake 7";
  in.fleet.backends[1].name = std::string("b\xff\x01");
  in.fleet.backends[2].name = "same";
  in.fleet.backends[3].name = "same";
  in.fleet.backends[4].name = std::string(1000, 'x') + "1";
  in.fleet.backends[5].name = std::string(1000, 'x') + "2";
  const std::string page = in.page();
  const Parsed p = parse(page);
  std::size_t shown = 0;
  for (const auto& [series, value] : p.series)
    shown += series.starts_with("perigee_backend_up{");
  CHECK(shown == kBackendsShown);
  CHECK(p.series.at(R"(perigee_backends{state="down"})") == 100);
  CHECK_FALSE(p.series.contains("perigee_fake"));
  CHECK(p.series.contains(R"(perigee_backend_up{backend="b__"})"));
  CHECK(p.series.contains(R"(perigee_backend_up{backend="same"})"));
  CHECK(p.series.contains(R"(perigee_backend_up{backend="same~2"})"));
  CHECK(p.series.contains(R"(perigee_backend_up{backend="unnamed"})"));
  CHECK(p.series.contains("perigee_backend_up{backend=\"" + std::string(64, 'x') + "~2\"}"));
}
