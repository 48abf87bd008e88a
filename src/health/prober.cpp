// The prober's coroutines: four for each backend, each a loop that can be read from top to bottom.
// See prober.h for what they do and why.
#include "perigee/health/prober.h"

#include <array>

#include "answer_reader.h"
#include "perigee/coro/scope.h"
#include "perigee/coro/sleep.h"
#include "perigee/coro/timeout.h"
#include "perigee/health/ready_verdict.h"
#include "perigee/net/proxy_connector.h"

namespace perigee::health {

using balancing::ProbeResult;
using coro::Task;

struct Prober::Watched {
  Watched(Prober& p, ProbeTarget t, const config::Probe& how, Rng r)
      : prober(p), target(std::move(t)), probe(how), rng(r), kind(target.kind), scope(p.executor_) {}

  // False once forgotten: then nothing may be reported.
  [[nodiscard]] bool live() { return !scope.source().cancelled(); }

  void start();
  Task<void> watch_state();
  Task<void> watch_lag();
  Task<void> watch_load();
  Task<void> tick();

  Task<std::optional<ProbeReport>> look();
  [[nodiscard]] std::optional<ProbeReport> judge(const Error* error, const AnswerReader& reader,
                                                 std::string_view body) const;
  Task<bool> lag_once(net::Stream& stream, Beat& beat);
  Task<Result<WorkerMetrics>> scrape();
  Task<Result<net::StreamPtr>> connect();
  void found(WorkerKind shown);
  [[nodiscard]] std::string request(std::string_view path, std::string_view connection) const;

  Prober& prober;
  ProbeTarget target;
  config::Probe probe;
  Rng rng;
  WorkerKind kind;
  http::HeaderTable table;
  coro::Scope scope;  // last: its coroutines use the others
};

namespace {

constexpr std::string_view kReadyPath = "/health/ready";
constexpr std::string_view kLagPath = "/health";
constexpr std::string_view kMetricsPath = "/metrics";
// A worker that is only to be looked at by TCP, and does not speak HTTP at all, is found out after so long.
constexpr Duration kGuessTimeout = std::chrono::seconds(2);

constexpr Error kForgotten{ErrorKind::cancelled, Side::internal, Sent::maybe, 0, "no longer watched"};

Task<Result<void>> read_some(net::Stream& stream, AnswerReader& reader) {
  auto bytes = co_await stream.read();
  if (bytes) {
    reader.feed(*bytes);
  } else if (bytes.error().kind == ErrorKind::eof) {
    reader.end();
  } else {
    co_return std::unexpected(bytes.error());
  }
  co_return Result<void>{};
}

Task<Result<void>> read_answer(net::Stream& stream, AnswerReader& reader) {
  while (!reader.done() && !reader.broken()) {
    auto read = co_await read_some(stream, reader);
    if (!read) co_return read;
  }
  co_return Result<void>{};
}

}  // namespace

// --- one backend -----------------------------------------------------------------------------------------

void Prober::Watched::start() {
  scope.spawn(watch_state());
  scope.spawn(tick());
  if (kind == WorkerKind::orbit) {
    scope.spawn(watch_lag());
    scope.spawn(watch_load());
  }
}

Task<void> Prober::Watched::watch_state() {
  const auto me = co_await coro::here();
  co_await coro::yield();  // nothing is reported from within watch()
  while (live()) {
    auto report = co_await look();
    if (!live()) co_return;
    if (report) {
      found(report->found);
      prober.sink_.on_probe(target.key, *report, me.executor->now());
    }
    const Duration pause = pause_between_probes(probe, prober.sink_.phase(target.key), rng);
    const auto slept = co_await coro::sleep_for(me, pause);
    if (!slept) co_return;
  }
}

void Prober::Watched::found(WorkerKind shown) {
  if (kind != WorkerKind::unknown || shown == WorkerKind::unknown) return;
  kind = shown;
  if (kind != WorkerKind::orbit) return;
  scope.spawn(watch_lag());
  scope.spawn(watch_load());
}

// One probe of state. Nothing = nothing was learnt of the worker: we had no descriptor left, or were stopped.
Task<std::optional<ProbeReport>> Prober::Watched::look() {
  const auto me = co_await coro::here();
  const TimePoint begun = me.executor->now();
  std::optional<ProbeReport> report;
  auto stream = co_await connect();
  if (!stream) {
    const ErrorKind why = stream.error().kind;
    if (why == ErrorKind::exhausted || why == ErrorKind::cancelled) co_return report;
    report = ProbeReport{};
    report->result = why == ErrorKind::refused ? ProbeResult::refused : ProbeResult::timeout;
  } else if (kind == WorkerKind::http && probe.kind == config::ProbeKind::tcp) {
    report = ProbeReport{};
    report->result = ProbeResult::ok;
    report->found = WorkerKind::http;
  } else {
    const std::string question = request(kind == WorkerKind::http ? probe.path : kReadyPath, "close");
    std::string body;
    AnswerReader reader(table, [&body](std::string_view piece) {
      if (body.size() <= kReadyBodyMax) body.append(piece.substr(0, kReadyBodyMax + 1 - body.size()));
    });
    auto asked = (*stream)->write(question);
    if (asked) {
      const bool guess = kind == WorkerKind::unknown && probe.kind == config::ProbeKind::tcp;
      auto answer = read_answer(**stream, reader);
      asked = co_await coro::with_timeout(guess ? kGuessTimeout : probe.silent, coro::kTimedOut,
                                          std::move(answer));
    }
    report = judge(asked ? nullptr : &asked.error(), reader, body);
  }
  if (report) report->took = me.executor->now() - begun;
  co_return report;
}

std::optional<ProbeReport> Prober::Watched::judge(const Error* error, const AnswerReader& reader,
                                                  std::string_view body) const {
  if (error != nullptr && error->kind == ErrorKind::cancelled) return std::nullopt;
  ProbeReport report;
  if (reader.done()) {
    const ReadyVerdict verdict = judge_ready(kind, reader.status(), body);
    report.result = verdict.result;
    report.found = verdict.kind;
    report.healthy_ratio = verdict.healthy_ratio;
  } else if (kind == WorkerKind::unknown && probe.kind == config::ProbeKind::tcp) {
    report.result = ProbeResult::ok;  // it took the connection, and no more is asked of it
    report.found = WorkerKind::http;
  } else if (reader.broken() && reader.began()) {
    report.result = ProbeResult::not_ready;  // nonsense, or half an answer
  } else {
    report.result = ProbeResult::timeout;
  }
  return report;
}

Task<void> Prober::Watched::watch_lag() {
  const auto me = co_await coro::here();
  co_await coro::yield();
  Beat beat(probe.lag_interval);
  beat.start(me.executor->now());
  net::StreamPtr stream;
  TimePoint used = me.executor->now();
  while (live()) {
    const auto slept = co_await coro::sleep_until(beat.due());
    if (!slept) co_return;
    beat.made(me.executor->now());
    if (!prober.sink_.busy(target.key)) continue;
    const bool stale =
        stream && (stream->ended() || stream->has_pending() || me.executor->now() - used > kKeptIdle);
    if (stale) stream.reset();
    if (!stream) {
      auto made = co_await connect();
      if (!made) continue;
      stream = std::move(*made);
    }
    const bool reusable = co_await lag_once(*stream, beat);
    if (!reusable) stream.reset();
    used = me.executor->now();
  }
}

// One question; true if the connection can carry another.
Task<bool> Prober::Watched::lag_once(net::Stream& stream, Beat& beat) {
  const auto me = co_await coro::here();
  const TimePoint sent = me.executor->now();
  const std::string question = request(kLagPath, "keep-alive");
  const auto written = stream.write(question);
  if (!written) co_return false;
  beat.made(sent);  // connecting may have taken longer than a beat
  AnswerReader reader(table);
  bool told = false;
  while (!reader.done()) {
    auto some = read_some(stream, reader);
    const Duration until_beat = beat.due() - me.executor->now();
    auto read = co_await coro::with_timeout(until_beat, coro::kTimedOut, std::move(some));
    if (!live()) co_return false;
    const TimePoint now = me.executor->now();
    if (reader.has_head() && !told) {
      told = true;
      prober.sink_.on_lag(target.key, sent, now);
    }
    if (reader.broken()) co_return false;
    if (read) continue;
    if (read.error().kind != ErrorKind::timeout || now - sent >= probe.silent) co_return false;
    beat.made(now);
    if (!told) prober.sink_.on_lag_unanswered(target.key, sent, now);
  }
  co_return reader.reusable();
}

Task<void> Prober::Watched::watch_load() {
  const auto me = co_await coro::here();
  co_await coro::yield();
  WorkerLoadTracker tracker;
  while (live()) {
    if (prober.sink_.phase(target.key) == ProbePhase::up) {
      auto task = scrape();
      auto metrics = co_await coro::with_timeout(kScrapeTimeout, coro::kTimedOut, std::move(task));
      if (!live()) co_return;
      const TimePoint now = me.executor->now();
      const WorkerLoad& load = metrics ? tracker.scraped(*metrics, now) : tracker.missed();
      prober.sink_.on_load(target.key, load, now);
    }
    const double spread = rng.uniform(1 - probe.jitter, 1 + probe.jitter);
    const auto slept = co_await coro::sleep_for(me, from_seconds(to_seconds(kScrapeInterval) * spread));
    if (!slept) co_return;
  }
}

Task<Result<WorkerMetrics>> Prober::Watched::scrape() {
  auto stream = co_await connect();
  if (!stream) co_return std::unexpected(stream.error());
  const std::string question = request(kMetricsPath, "close");
  const auto written = (*stream)->write(question);
  if (!written) co_return std::unexpected(written.error());
  MetricsReader metrics;
  AnswerReader reader(table, [&metrics](std::string_view piece) { metrics.feed(piece); });
  const auto read = co_await read_answer(**stream, reader);
  if (!read) co_return std::unexpected(read.error());
  if (!reader.done() || reader.status() != 200)
    co_return fail(ErrorKind::protocol, "no metrics", Side::upstream);
  co_return metrics.finish();
}

Task<void> Prober::Watched::tick() {
  const auto me = co_await coro::here();
  for (;;) {
    const auto slept = co_await coro::sleep_for(me, kTick);
    if (!slept || !live()) co_return;
    prober.sink_.on_tick(target.key, me.executor->now());
  }
}

Task<Result<net::StreamPtr>> Prober::Watched::connect() {
  net::ProxyConnector connector(prober.connector_, target.proxy_protocol);
  auto attempt = net::connect_tls(connector, target.endpoint, target.tls);
  co_return co_await coro::with_timeout(kConnectTimeout, coro::kTimedOut, std::move(attempt));
}

std::string Prober::Watched::request(std::string_view path, std::string_view connection) const {
  std::string text = "GET ";
  text += path;
  text += " HTTP/1.1\r\nHost: ";
  text += target.host;
  text += "\r\nUser-Agent: perigee-probe\r\nAccept: */*\r\nConnection: ";
  text += connection;
  text += "\r\n\r\n";
  return text;
}

// --- all of them -----------------------------------------------------------------------------------------

Prober::Prober(coro::Executor& executor, net::Connector& connector, HealthSink& sink, Rng rng)
    : executor_(executor), connector_(connector), sink_(sink), rng_(rng) {}

Prober::~Prober() = default;

void Prober::watch(ProbeTarget target, const config::Probe& probe) {
  forget(target.key);
  watched_.push_back(std::make_unique<Watched>(*this, std::move(target), probe, Rng(rng_.next())));
  watched_.back()->start();
}

void Prober::forget(BackendKey key) {
  for (const auto& watched : watched_) {
    if (watched->target.key == key) watched->scope.cancel(kForgotten);
  }
  sweep();
}

// Those that were forgotten and have ended since.
void Prober::sweep() {
  std::erase_if(watched_, [](const auto& w) { return !w->live() && w->scope.live() == 0; });
}

Task<void> Prober::stop() {
  for (const auto& watched : watched_)
    watched->scope.cancel(kForgotten);
  while (!watched_.empty()) {
    auto joined = coro::shielded(watched_.back()->scope.join());
    co_await joined;
    watched_.pop_back();
  }
}

}  // namespace perigee::health
