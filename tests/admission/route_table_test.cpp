#include "perigee/admission/route_table.h"

#include <doctest/doctest.h>

#include <array>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

using namespace perigee;
using namespace perigee::admission;

namespace {

std::string flags_of(const RouteVerdict& v) {
  std::string text;
  const auto add = [&](bool on, const char* name) {
    if (on) text += (text.empty() ? "" : ",") + std::string(name);
  };
  add(v.stream_look == StreamLook::stream_field, "stream_field");
  add(v.stream_look == StreamLook::a2a_method, "a2a_method");
  add(v.outside_slots, "outside_slots");
  add(v.no_ticket, "no_ticket");
  add(v.stop_call, "stop_call");
  add(v.rewrite_host, "rewrite_host");
  add(v.endless_get, "endless_get");
  add(v.websocket, "websocket");
  add(v.upload, "upload");
  add(v.openai_errors, "openai_errors");
  return text.empty() ? "-" : text;
}

// `{session_id}` and `*` stand for one segment.
std::string example_of(std::string path) {
  for (std::size_t at = path.find('{'); at != std::string::npos; at = path.find('{')) {
    path.replace(at, path.find('}') - at + 1, "a.b-7");
  }
  if (const std::size_t star = path.find('*'); star != std::string::npos) path.replace(star, 1, "js/app.js");
  return path;
}

RouteVerdict orbit(std::string_view method, std::string_view path) {
  return classify(method, path, WorkerKind::orbit);
}

}  // namespace

TEST_CASE("every documented route of ORBIT is known and means what the table says") {
  std::ifstream file(PERIGEE_TEST_DATA "/orbit_routes.tsv");
  REQUIRE(file.good());
  int lines = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line.front() == '#') continue;
    std::istringstream in(line);
    std::string path, method, statuses, request_class, priority, replay, flags;
    in >> path >> method >> statuses >> request_class >> priority >> replay >> flags;
    INFO(line);
    const RouteVerdict v = orbit(method == "WS" ? "GET" : method, example_of(path));
    CHECK(v.known);
    CHECK(to_string(v.request_class) == request_class);
    CHECK(to_string(v.priority) == priority);
    CHECK(to_string(v.replay) == replay);
    CHECK(flags_of(v) == flags);
    ++lines;
  }
  CHECK(lines == 143);
}

TEST_CASE("what ORBIT would answer with 404 or 405 is other, unknown, and keeps the rule of its method") {
  struct Case {
    const char* method;
    const char* path;
  };
  constexpr std::array cases = {
      Case{"POST", "/v1/chat/"},
      Case{"POST", "/v1/chat/completions/"},
      Case{"POST", "/v1/chat/stop/"},
      Case{"POST", "/v1/chat/other"},
      Case{"GET", "/v1/chat"},
      Case{"HEAD", "/v1/chat"},
      Case{"POST", "/v1/embeddings"},
      Case{"POST", "/V1/chat"},
      Case{"POST", "/v1"},
      Case{"POST", "/v1/"},
      Case{"POST", "/v1/chatx"},
      Case{"GET", "/v1/autocomplete/"},
      Case{"POST", "/v1/autocomplete"},
      Case{"GET", "/healthz"},
      Case{"GET", "/health-check"},
      Case{"GET", "/metricsx"},
      Case{"GET", "/mcpx"},
      Case{"GET", "/a2a"},
      Case{"POST", "/a2a/"},
      Case{"GET", "/admin/"},
      Case{"POST", "/admin"},
      Case{"GET", "/administrator"},
      Case{"POST", "/api/files/a/b"},
      Case{"POST", "/api/files/a"},
      Case{"GET", "/api/files/a/query"},
      Case{"POST", "/api/files//query"},
      Case{"POST", "/api/files/a/query/"},
      Case{"GET", "/api"},
      Case{"GET", "/api/filesystem"},
      Case{"GET", "/ws"},
      Case{"GET", "/ws/other"},
      Case{"GET", "/ws/voice/"},
      Case{"GET", "/ws/voice/a/b"},
      Case{"POST", "/ws/voice"},
      Case{"GET", "/voice"},
      Case{"GET", "/voice/status/"},
      Case{"GET", "/.well-known/x"},
      Case{"GET", "/static"},
      Case{"GET", "/docs/"},
      Case{"GET", "/"},
      Case{"GET", ""},
      Case{"OPTIONS", "*"},
      Case{"GET", "/auth"},
      Case{"BREW", "/pot"},
  };
  for (const Case& c : cases) {
    INFO(c.method << ' ' << c.path);
    const RouteVerdict v = orbit(c.method, c.path);
    CHECK_FALSE(v.known);
    CHECK(v.request_class == RequestClass::other);
    CHECK(v.priority == Priority::normal);
    CHECK_FALSE(v.outside_slots);
    CHECK(v.stream_look == StreamLook::none);
    const bool safe = std::string_view(c.method) == "GET" || std::string_view(c.method) == "HEAD" ||
                      std::string_view(c.method) == "OPTIONS";
    CHECK(v.replay == (safe ? Replay::idempotent : Replay::unsent));
  }
}

TEST_CASE("the critical lane is small: health and metrics, stop, pause, resume, GET /admin/info") {
  CHECK(orbit("HEAD", "/health").outside_slots);
  CHECK(orbit("GET", "/health/").outside_slots);
  CHECK(orbit("POST", "/v1/chat/stop").outside_slots);
  CHECK_FALSE(orbit("GET", "/admin/pause").outside_slots);
  CHECK_FALSE(orbit("POST", "/admin/pause/").outside_slots);
  CHECK_FALSE(orbit("POST", "/admin/info").outside_slots);
  CHECK_FALSE(orbit("GET", "/admin/info/x").outside_slots);
  CHECK_FALSE(orbit("POST", "/admin/shutdown").outside_slots);
  CHECK_FALSE(orbit("GET", "/ws/metrics").outside_slots);
}

TEST_CASE("a stream may be sent again until its head came, and only where ORBIT promises what a head means") {
  const RouteVerdict chat = orbit("POST", "/v1/chat");
  CHECK(effective_replay(chat, false) == Replay::unsent);
  CHECK(effective_replay(chat, true) == Replay::no_head);
  CHECK(effective_replay(orbit("POST", "/a2a"), true) == Replay::no_head);
  CHECK(effective_replay(orbit("GET", "/mcp"), true) == Replay::idempotent);
  const RouteVerdict elsewhere = classify("POST", "/v1/chat/completions", WorkerKind::http);
  CHECK(elsewhere.stream_look == StreamLook::stream_field);
  CHECK(effective_replay(elsewhere, true) == Replay::unsent);
}

TEST_CASE("in front of other workers all is other, normal, by method") {
  for (const char* path : {"/health", "/v1/chat", "/admin/pause", "/mcp", "/ws/voice", "/v1/autocomplete"}) {
    for (const char* method : {"GET", "HEAD", "OPTIONS", "DELETE", "POST", "PUT", "PATCH"}) {
      INFO(method << ' ' << path);
      const RouteVerdict v = classify(method, path, WorkerKind::http);
      CHECK(v.request_class == RequestClass::other);
      CHECK(v.priority == Priority::normal);
      CHECK_FALSE(v.outside_slots);
      CHECK_FALSE(v.rewrite_host);
      CHECK_FALSE(v.websocket);
      const bool changes = method[0] == 'P';
      CHECK(v.replay == (changes ? Replay::unsent : Replay::idempotent));
    }
  }
}

TEST_CASE("an operator's routes are told from those of clients, under whatever spelling the worker would take") {
  struct Case {
    const char* method;
    const char* path;
  };
  for (const Case& c : {Case{"POST", "/admin/pause"}, Case{"POST", "/admin/pause/"}, Case{"POST", "/admin/resume"},
                        Case{"POST", "/admin/shutdown"}, Case{"POST", "/admin/restart"}, Case{"GET", "/admin/info"},
                        Case{"HEAD", "/admin/info"}, Case{"GET", "/admin/api-keys"}, Case{"POST", "/admin/api-keys"},
                        Case{"GET", "/admin/adapters/config"}, Case{"PUT", "/admin/config"}, Case{"GET", "/admin/jobs/1"},
                        Case{"DELETE", "/admin/api-keys/x"}, Case{"DELETE", "/admin/chat-history"},
                        Case{"GET", "/admin/chat-history/s"}, Case{"DELETE", "/admin/chat-history/s/t"},
                        Case{"POST", "/health/adapters/a/reset"}, Case{"BREW", "/admin/pot"}}) {
    INFO(c.method << ' ' << c.path);
    CHECK(orbit(c.method, c.path).operators_only);
    CHECK_FALSE(classify(c.method, c.path, WorkerKind::http).operators_only);
  }
  for (const Case& c : {Case{"GET", "/admin"}, Case{"GET", "/admin/login"}, Case{"GET", "/admin/models"},
                        Case{"GET", "/admin/adapters/info"}, Case{"GET", "/admin/api-keys/info"},
                        Case{"GET", "/admin/adapters/a/models"}, Case{"DELETE", "/admin/chat-history/s"},
                        Case{"DELETE", "/admin/conversations/s"}, Case{"POST", "/v1/chat/stop"}, Case{"POST", "/auth/login"},
                        Case{"GET", "/health/ready"}, Case{"POST", "/administrator"}}) {
    INFO(c.method << ' ' << c.path);
    CHECK_FALSE(orbit(c.method, c.path).operators_only);
  }
}

TEST_CASE("a preflight needs no ticket, a plain OPTIONS does") {
  CHECK(classify("OPTIONS", "/v1/chat", WorkerKind::orbit, true).no_ticket);
  CHECK(classify("OPTIONS", "/anything", WorkerKind::http, true).no_ticket);
  CHECK_FALSE(classify("OPTIONS", "/v1/chat", WorkerKind::orbit, false).no_ticket);
  CHECK_FALSE(classify("POST", "/v1/chat", WorkerKind::orbit, true).no_ticket);
}

TEST_CASE("a worker of unknown kind is taken for ORBIT") {
  CHECK(classify("POST", "/v1/chat", WorkerKind::unknown).request_class == RequestClass::chat);
}
