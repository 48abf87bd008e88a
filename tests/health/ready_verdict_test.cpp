// What answers to GET /health/ready mean, for workers of each kind.
#include "perigee/health/ready_verdict.h"

#include <doctest/doctest.h>

#include <string>

using namespace perigee;
using namespace perigee::health;
using balancing::ProbeResult;

namespace {

const char* const kReady = R"({"ready":true,"healthy_ratio":1.0,"healthy_adapters":2,"total_adapters":2})";
const char* const kNotReady =
    R"({"ready":false,"healthy_ratio":0.5,"healthy_adapters":1,"total_adapters":2})";
const char* const kNoManager = R"({"ready":false,"reason":"Adapter manager not available"})";

void expect(WorkerKind known, int status, std::string_view body, ProbeResult result, WorkerKind kind) {
  CAPTURE(std::string(body));
  CAPTURE(status);
  const ReadyVerdict verdict = judge_ready(known, status, body);
  CHECK(verdict.result == result);
  CHECK(verdict.kind == kind);
}

}  // namespace

TEST_CASE("a worker of unknown kind shows itself") {
  const auto unknown = WorkerKind::unknown;
  expect(unknown, 200, kReady, ProbeResult::ok, WorkerKind::orbit);
  expect(unknown, 200, kNotReady, ProbeResult::not_ready, WorkerKind::orbit);
  expect(unknown, 503, kNoManager, ProbeResult::not_ready, WorkerKind::orbit);
  expect(unknown, 200, kNoManager, ProbeResult::ok, WorkerKind::http);
  for (const int status : {200, 301, 404, 500, 503}) {
    expect(unknown, status, "", ProbeResult::ok, WorkerKind::http);
    expect(unknown, status, R"({"status":"ok"})", ProbeResult::ok, WorkerKind::http);
    expect(unknown, status, R"({"ready":false})", ProbeResult::ok, WorkerKind::http);
    expect(unknown, status, R"({"healthy_ratio":1})", ProbeResult::ok, WorkerKind::http);
  }
}

TEST_CASE("ORBIT's body decides, not its status") {
  const auto orbit = WorkerKind::orbit;
  expect(orbit, 200, kReady, ProbeResult::ok, orbit);
  expect(orbit, 200, kNotReady, ProbeResult::not_ready, orbit);
  expect(orbit, 503, kReady, ProbeResult::not_ready, orbit);
  expect(orbit, 503, kNoManager, ProbeResult::not_ready, orbit);
  expect(orbit, 404, "Not Found", ProbeResult::not_ready, orbit);
  expect(orbit, 500, "", ProbeResult::not_ready, orbit);
  expect(orbit, 200, "", ProbeResult::not_ready, orbit);
  CHECK(*judge_ready(orbit, 200, kNotReady).healthy_ratio == .5);
  CHECK_FALSE(judge_ready(orbit, 503, kNoManager).healthy_ratio);
}

TEST_CASE("any answer of another worker is good") {
  for (const int status : {200, 404, 500, 503})
    expect(WorkerKind::http, status, kNotReady, ProbeResult::ok, WorkerKind::http);
}

TEST_CASE("hostile bodies are strangers") {
  const std::string deep(kReadyBodyMax, '[');
  const std::string large =
      std::string(R"({"ready":true,"healthy_ratio":1.0,"x":")") + std::string(kReadyBodyMax, 'x') + "\"}";
  for (const std::string& body :
       {deep, large, std::string("\0\xff", 2), std::string(R"({"ready":"true","healthy_ratio":1})"),
        std::string(R"({"ready":true,"healthy_ratio":"1"})"),
        std::string(R"([{"ready":true,"healthy_ratio":1}])")}) {
    expect(WorkerKind::unknown, 200, body, ProbeResult::ok, WorkerKind::http);
    expect(WorkerKind::orbit, 200, body, ProbeResult::not_ready, WorkerKind::orbit);
  }
}
