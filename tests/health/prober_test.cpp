// The prober against workers in memory, on a clock moved by hand.
#include "perigee/health/prober.h"

#include <doctest/doctest.h>

#include <vector>

#include "fake_workers.h"
#include "perigee/coro/manual_loop.h"

using namespace perigee;
using namespace perigee::health;
using balancing::ProbeResult;
using std::chrono::milliseconds;
using std::chrono::seconds;
using Connect = Script::Connect;

namespace {

struct Lag {
  TimePoint sent, answered;
};

struct Recorder final : HealthSink {
  std::vector<ProbeReport> reports;
  std::vector<TimePoint> times;
  std::vector<Lag> lags;
  std::vector<TimePoint> unanswered;
  std::vector<WorkerLoad> loads;
  int ticks = 0;
  ProbePhase now_phase = ProbePhase::unprobed;
  bool is_busy = false;

  void on_probe(BackendKey backend, const ProbeReport& report, TimePoint now) override {
    CHECK(backend == 7);
    reports.push_back(report);
    times.push_back(now);
    now_phase = report.result == ProbeResult::ok ? ProbePhase::up : ProbePhase::down;
  }
  void on_lag(BackendKey, TimePoint sent, TimePoint now) override { lags.push_back({sent, now}); }
  void on_lag_unanswered(BackendKey, TimePoint sent, TimePoint) override { unanswered.push_back(sent); }
  void on_load(BackendKey, const WorkerLoad& load, TimePoint) override { loads.push_back(load); }
  void on_tick(BackendKey, TimePoint) override { ++ticks; }
  ProbePhase phase(BackendKey) const override { return now_phase; }
  bool busy(BackendKey) const override { return is_busy; }
};

struct World {
  coro::ManualLoop loop;
  FakeWorkers workers{loop.executor()};
  Recorder sink;
  config::Probe probe;
  Prober prober{loop.executor(), workers, sink, Rng(42)};

  World() { workers.script.answer = orbit_answer; }
  ~World() {
    coro::Scope scope(loop.executor());
    scope.spawn(prober.stop());
    loop.run();
    CHECK(scope.live() == 0);
    CHECK(workers.open == 0);
  }
  void watch(WorkerKind kind = WorkerKind::unknown) {
    ProbeTarget target;
    target.key = 7;
    target.host = "127.0.0.1:3001";
    target.kind = kind;
    prober.watch(target, probe);
    loop.advance(milliseconds(5));  // what takes no time is done
  }
};

}  // namespace

TEST_CASE("a worker that refuses is asked again every 250 ms, and is up with its first answer") {
  World w;
  w.workers.script.connect = Connect::refuse;
  w.sink.now_phase = ProbePhase::unprobed;
  w.watch();
  REQUIRE(w.sink.reports.size() == 1);
  CHECK(w.sink.reports[0].result == ProbeResult::refused);
  CHECK(w.sink.reports[0].found == WorkerKind::unknown);
  w.sink.now_phase = ProbePhase::unprobed;
  w.workers.script.connect = Connect::accept;
  w.loop.advance(milliseconds(2000));
  REQUIRE(w.sink.reports.size() >= 2);
  CHECK(w.sink.reports[1].result == ProbeResult::ok);
  CHECK(w.sink.reports[1].found == WorkerKind::orbit);
  CHECK(*w.sink.reports[1].healthy_ratio == 1.0);
}

TEST_CASE("nothing is reported from within watch()") {
  World w;
  w.workers.script.connect = Connect::refuse;
  ProbeTarget target;
  target.key = 7;
  w.prober.watch(target, w.probe);
  CHECK(w.sink.reports.empty());
  w.loop.run();
  CHECK(w.sink.reports.size() == 1);
}

TEST_CASE("every two seconds, spread; on fresh connections; and a request as it should be") {
  World w;
  w.watch();
  w.loop.advance(seconds(60));
  CHECK(w.sink.reports.size() >= 27);
  CHECK(w.sink.reports.size() <= 34);
  for (std::size_t i = 1; i < w.sink.times.size(); ++i) {
    const Duration gap = w.sink.times[i] - w.sink.times[i - 1];
    CHECK(gap >= milliseconds(1800));
    CHECK(gap <= milliseconds(2210));
  }
  CHECK(w.workers.asked["/health/ready"] == static_cast<int>(w.sink.reports.size()));
  CHECK(w.workers.asked["/health"] == 0);  // nothing waits, nothing runs
  CHECK(w.sink.ticks == 120);
  w.sink.now_phase = ProbePhase::down;  // no scrape between here and the next probe
  CHECK(
      w.workers.last_request.ends_with(" HTTP/1.1\r\nHost: 127.0.0.1:3001\r\nUser-Agent: perigee-probe\r\n"
                                       "Accept: */*\r\nConnection: close\r\n\r\n"));
}

TEST_CASE("a slow answer is an answer; its time is told; ticks go on meanwhile") {
  World w;
  w.workers.script.delay = milliseconds(9'500);
  w.workers.script.connect_delay = milliseconds(300);
  w.watch();
  w.loop.advance(milliseconds(9'790));
  CHECK(w.sink.reports.empty());
  CHECK(w.sink.ticks == 19);
  w.loop.advance(milliseconds(20));
  REQUIRE(w.sink.reports.size() == 1);
  CHECK(w.sink.reports[0].result == ProbeResult::ok);
  CHECK(w.sink.reports[0].took >= milliseconds(9'800));
  CHECK(w.sink.reports[0].took <= milliseconds(9'805));
}

TEST_CASE("no answer in ten seconds, no connection in two: a timeout, and on it goes") {
  World w;
  w.workers.script.silent = true;
  w.watch();
  w.loop.advance(milliseconds(10'010));
  REQUIRE(w.sink.reports.size() == 1);
  CHECK(w.sink.reports[0].result == ProbeResult::timeout);
  CHECK(w.sink.reports[0].found == WorkerKind::unknown);
  CHECK(w.workers.open == 0);
  w.workers.script.connect = Connect::hang;
  w.loop.advance(milliseconds(3'110));
  REQUIRE(w.sink.reports.size() == 2);
  CHECK(w.sink.reports[1].result == ProbeResult::timeout);
  w.workers.script = Script();
  w.workers.script.answer = orbit_answer;
  w.loop.advance(milliseconds(1'110));
  REQUIRE(w.sink.reports.size() >= 3);
  CHECK(w.sink.reports[2].result == ProbeResult::ok);
}

TEST_CASE("our own lack of descriptors says nothing about the worker") {
  World w;
  w.workers.script.connect = Connect::no_descriptor;
  w.watch();
  w.loop.advance(seconds(5));
  CHECK(w.sink.reports.empty());
  CHECK(w.workers.connects > 10);
}

TEST_CASE("answers that are none") {
  World w;
  w.probe.jitter = 0;
  SUBCASE("nonsense") {
    w.workers.script.nonsense = "SSH-2.0-OpenSSH_9.2\r\n\r\n";
    w.watch();
    w.loop.advance(milliseconds(1));
    REQUIRE(w.sink.reports.size() == 1);
    CHECK(w.sink.reports[0].result == ProbeResult::not_ready);
    CHECK(w.sink.reports[0].found == WorkerKind::unknown);
  }
  SUBCASE("half a body, then the end") {
    w.workers.script.nonsense = "HTTP/1.1 200 OK\r\ncontent-length: 74\r\n\r\n{\"ready\":true";
    w.workers.script.end_after = true;
    w.watch();
    w.loop.advance(milliseconds(1));
    REQUIRE(w.sink.reports.size() == 1);
    CHECK(w.sink.reports[0].result == ProbeResult::not_ready);
  }
  SUBCASE("the end without a word") {
    w.workers.script.answer = {};
    w.workers.script.end_after = true;
    w.watch();
    w.loop.advance(milliseconds(1));
    REQUIRE(w.sink.reports.size() == 1);
    CHECK(w.sink.reports[0].result == ProbeResult::timeout);
  }
  SUBCASE("a body without end is read to a bound and is not ORBIT's") {
    w.workers.script.nonsense = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + std::string(1'000'000, '[');
    w.watch();
    w.loop.advance(milliseconds(1));
    REQUIRE(w.sink.reports.size() == 1);
    CHECK(w.sink.reports[0].result == ProbeResult::ok);
    CHECK(w.sink.reports[0].found == WorkerKind::http);
  }
}

TEST_CASE("an ORBIT that says it is not ready is asked every second") {
  World w;
  w.probe.jitter = 0;
  w.workers.script.answer = [](const std::string&) {
    return message(200, R"({"ready":false,"healthy_ratio":0.5})");
  };
  w.watch();
  w.loop.advance(milliseconds(5'010));
  REQUIRE(w.sink.reports.size() >= 5);
  for (const ProbeReport& report : w.sink.reports) {
    CHECK(report.result == ProbeResult::not_ready);
    CHECK(report.found == WorkerKind::orbit);
  }
}

TEST_CASE("another worker: its own path, no lag probe, no scrape; or only TCP") {
  World w;
  w.sink.is_busy = true;
  w.workers.script.answer = [](const std::string&) { return message(404, "no"); };
  SUBCASE("found out") {
    w.probe.path = "/ping";
    w.watch();
    w.loop.advance(seconds(10));
    CHECK(w.workers.asked["/health/ready"] == 1);
    CHECK(w.workers.asked["/ping"] >= 4);
    CHECK(w.workers.asked.size() == 2);
    for (const ProbeReport& report : w.sink.reports)
      CHECK(report.result == ProbeResult::ok);
  }
  SUBCASE("written, TCP: connecting is enough") {
    w.probe.kind = config::ProbeKind::tcp;
    w.watch(WorkerKind::http);
    w.loop.advance(seconds(10));
    CHECK(w.workers.asked.empty());
    CHECK(w.sink.reports.size() >= 5);
    for (const ProbeReport& report : w.sink.reports)
      CHECK(report.result == ProbeResult::ok);
  }
  SUBCASE("unknown, TCP, and not a word of HTTP") {
    w.probe.kind = config::ProbeKind::tcp;
    w.workers.script.silent = true;
    w.watch();
    w.loop.advance(milliseconds(2'010));
    REQUIRE(w.sink.reports.size() == 1);
    CHECK(w.sink.reports[0].result == ProbeResult::ok);
    CHECK(w.sink.reports[0].found == WorkerKind::http);
  }
}

TEST_CASE("lag: every 250 ms while busy, on one kept connection, connecting left out") {
  World w;
  w.watch();
  w.workers.script.delay = milliseconds(3);
  w.workers.script.connect_delay = milliseconds(40);
  w.loop.advance(seconds(1));
  CHECK(w.sink.lags.empty());
  w.sink.is_busy = true;
  w.loop.advance(seconds(10));
  CHECK(w.sink.lags.size() >= 39);
  CHECK(w.sink.lags.size() <= 41);
  for (const Lag& lag : w.sink.lags) {
    CHECK(lag.answered - lag.sent >= milliseconds(3));
    CHECK(lag.answered - lag.sent <= milliseconds(5));
  }
  const int others = w.workers.asked["/health/ready"] + w.workers.asked["/metrics"];
  CHECK(w.workers.connects == others + 1);
  w.sink.is_busy = false;
  const std::size_t before = w.sink.lags.size();
  w.loop.advance(seconds(10));
  CHECK(w.sink.lags.size() <= before + 1);
  w.sink.is_busy = true;  // the kept connection was idle for too long: a fresh one
  w.loop.advance(seconds(1));
  CHECK(w.workers.connects == w.workers.asked["/health/ready"] + w.workers.asked["/metrics"] + 2);
  CHECK(w.sink.unanswered.empty());
}

TEST_CASE("a lag answer that is late: told at each beat as unanswered, then as what it was") {
  World w;
  w.probe.interval = seconds(60);
  w.watch();
  w.sink.is_busy = true;
  w.workers.script.delay = milliseconds(900);
  w.loop.advance(milliseconds(1'200));
  REQUIRE(w.sink.lags.size() == 1);
  CHECK(w.sink.lags[0].answered - w.sink.lags[0].sent >= milliseconds(900));
  CHECK(w.sink.lags[0].answered - w.sink.lags[0].sent <= milliseconds(903));
  CHECK(w.sink.unanswered.size() == 3);
  for (const TimePoint sent : w.sink.unanswered)
    CHECK(sent == w.sink.lags[0].sent);
}

TEST_CASE("a lag probe that is never answered is given up after ten seconds, on a fresh connection") {
  World w;
  w.probe.interval = seconds(600);
  w.watch();
  w.sink.is_busy = true;
  w.workers.script.silent = true;
  w.loop.advance(milliseconds(9'900));
  CHECK(w.workers.asked["/health"] == 1);
  w.loop.advance(milliseconds(800));
  CHECK(w.workers.asked["/health"] == 2);
  w.workers.script.silent = false;
  w.loop.advance(seconds(11));
  CHECK_FALSE(w.sink.lags.empty());
}

TEST_CASE("a kept connection that ends, or answers too much, is not used again") {
  World w;
  w.probe.interval = seconds(600);
  w.watch();
  w.sink.is_busy = true;
  SUBCASE("closed after each answer") {
    w.workers.script.end_after = true;
  }
  SUBCASE("bytes that nobody asked for") {
    w.workers.script.nonsense = message(200, "ok") + "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
  }
  SUBCASE("says that it closes") {
    w.workers.script.nonsense = message(200, "ok", "connection: close\r\n");
  }
  const int before = w.workers.connects;
  w.loop.advance(milliseconds(2'600));
  CHECK(w.sink.lags.size() >= 10);
  CHECK(w.workers.connects - before >= static_cast<int>(w.sink.lags.size()));
}

TEST_CASE("load: scraped every five seconds; two missed ones and it is unknown") {
  World w;
  double cpu = 10;
  w.workers.script.answer = [&](const std::string& target) {
    if (target != "/metrics") return orbit_answer(target);
    cpu += 2.5;
    return message(
        200, "process_cpu_seconds_total " + std::to_string(cpu) + "\nprocess_resident_memory_bytes 400000\n");
  };
  w.probe.jitter = 0;
  w.watch();
  w.loop.advance(milliseconds(15'100));
  REQUIRE(w.sink.loads.size() >= 3);
  CHECK_FALSE(w.sink.loads[0].cores);
  CHECK(*w.sink.loads[1].cores == doctest::Approx(.5).epsilon(.01));
  CHECK(*w.sink.loads[1].resident_bytes == 400'000);
  w.workers.script.answer = [](const std::string& target) {
    return target == "/metrics" ? message(500, "process_cpu_seconds_total 1\n") : orbit_answer(target);
  };
  const std::size_t before = w.sink.loads.size();
  w.loop.advance(milliseconds(10'100));
  REQUIRE(w.sink.loads.size() == before + 2);
  CHECK(w.sink.loads[before].known());
  CHECK_FALSE(w.sink.loads[before + 1].known());
}

TEST_CASE("what is forgotten is not reported, at whatever moment") {
  for (int ms = 0; ms < 60; ++ms) {
    World w;
    w.workers.script.connect_delay = milliseconds(10);
    w.workers.script.delay = milliseconds(20);
    w.sink.is_busy = true;
    w.watch(WorkerKind::orbit);
    w.loop.advance(milliseconds(ms));
    w.prober.forget(7);
    w.loop.run();
    const std::size_t reports = w.sink.reports.size();
    const std::size_t lags = w.sink.lags.size();
    const int ticks = w.sink.ticks;
    w.loop.advance(seconds(20));
    CHECK(w.sink.reports.size() == reports);
    CHECK(w.sink.lags.size() == lags);
    CHECK(w.sink.ticks == ticks);
    CHECK(w.workers.open == 0);
  }
}

TEST_CASE("a target that is watched anew begins anew") {
  World w;
  w.watch();
  w.loop.advance(milliseconds(100));
  CHECK(w.sink.reports.size() == 1);
  w.watch();
  w.loop.advance(milliseconds(100));
  CHECK(w.sink.reports.size() == 2);
  w.loop.advance(seconds(10));
  CHECK(w.sink.reports.size() <= 8);  // not two of them
}
