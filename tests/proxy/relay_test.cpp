// The body of an answer: back-pressure, clocks of silence, how streams end, and that a cut one never looks whole.
#include "world.h"

namespace perigee::test {
namespace {

using coro::Task;
using telemetry::Reason;

constexpr std::size_t kBig = 16UL * 1024 * 1024;

// 16 MiB as fast as they are taken.
Task<bool> pour_out(Worker& w, WorkerConnection& c, const Message& r) {
  std::string head = "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(kBig) + "\r\n\r\n";
  if (r.target() == "/close") head = "HTTP/1.1 200 OK\r\n\r\n";
  c.send(head);
  const std::string piece(16 * 1024, 'y');
  for (std::size_t sent = 0; sent < kBig; sent += piece.size()) {
    c.send(piece);
    w.received += piece.size();
    if (c.stream->backlog() > net::kBacklogHigh) {
      const auto drained = co_await c.stream->drained();
      if (!drained) co_return false;
    }
  }
  if (r.target() != "/close") co_return true;
  const auto drained = co_await c.stream->drained();
  co_return drained.has_value() && c.stream->backlog() > 0;
}

TEST_CASE("relay: a large answer goes on only as fast as the client takes it") {
  World w;
  w.workers[0]->handler = &pour_out;
  auto c = w.connect();
  c->read(false);
  c->send(get("/big"));
  w.pass(1s);
  CHECK(w.workers[0]->received < 1024 * 1024);  // pipes, backlogs and ours together
  c->read(true);
  w.pass(1s);
  CHECK(c->answer().body.size() == kBig);
}

TEST_CASE("relay: a client that takes nothing for a minute is cut off") {
  World w;
  w.workers[0]->handler = &pour_out;
  auto c = w.connect();
  c->read(false);
  c->send(get("/big"));
  w.pass(55s);
  CHECK(w.tickets() == 1);
  w.pass(10s);
  CHECK(w.tickets() == 0);
  CHECK(w.logged("reason") == "request_timeout");
  c->read(true);
  w.pass(1s);
  CHECK(c->end().has_value());
  CHECK_FALSE(parse_message(c->received())->whole);
}

TEST_CASE("relay: the last answer of a connection is whole for a slow reader") {
  for (const std::string& request :
       {get("/big", "Connection: close\r\n"), std::string("GET /close HTTP/1.0\r\n\r\n")}) {
    WorldOptions o;
    o.client_rules.capacity = 4096;
    o.client_rules.split = [](std::size_t) { return std::size_t{1000}; };
    World w(o);
    w.workers[0]->handler = [](Worker&, WorkerConnection& c, const Message&) -> Task<bool> {
      c.send("HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + std::string(60'000, 'z'));
      co_return true;
    };
    auto c = w.connect();
    c->read(false);
    c->send(request);
    w.pass(1s);
    c->read(true);
    w.pass(1s);
    CHECK(parse_message(c->received())->body.size() == 60'000);
    CHECK(c->end() == ErrorKind::eof);
  }
}

// A worker that begins an answer and breaks off.
struct Cut {
  std::string what;
  std::string_view head;
  std::string_view part;
  bool reset;
};

TEST_CASE("relay: an answer that breaks off never looks whole") {
  const Cut cuts[] = {
      {"length, closed", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", "only this", false},
      {"length, reset", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", "only this", true},
      {"chunked, closed", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "9\r\nonly this\r\n",
       false},
      {"chunked, reset", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "9\r\nonly this\r\n", true},
      {"chunked, nonsense", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
       "9\r\nonly this\r\nxyz\r\n", false},
      {"until close, reset", "HTTP/1.1 200 OK\r\n\r\n", "only this", true},
  };
  for (const Cut& cut : cuts) {
    for (const bool old_client : {false, true}) {
      CAPTURE(cut.what);
      CAPTURE(old_client);
      World w;
      static Cut now;
      now = cut;
      w.workers[0]->handler = [](Worker&, WorkerConnection& c, const Message&) -> Task<bool> {
        c.send(std::string(now.head).append(now.part));
        co_await nap(10ms);
        if (now.reset) c.stream->reset_on_close();
        co_return false;
      };
      auto c = w.connect();
      c->send(old_client ? "GET /a HTTP/1.0\r\n\r\n" : get("/a"));
      w.pass(10s);
      const auto m = parse_message(c->received());
      REQUIRE(c->end().has_value());
      if (m) CHECK_FALSE(m->whole);
      if (!m || m->until_close) CHECK(c->end() == ErrorKind::reset);
      CHECK(w.logged("reason") == "upstream_failed");
      CHECK(w.tickets() == 0);
    }
  }
}

TEST_CASE("relay: an answer without a length ends with its connection and goes on chunked") {
  World w;
  w.workers[0]->handler = [](Worker&, WorkerConnection& c, const Message&) -> Task<bool> {
    c.send("HTTP/1.1 200 OK\r\n\r\nsome ");
    co_await nap(1ms);
    c.send("thing");
    co_return false;
  };
  const Message m = w.ask(get("/a"));
  CHECK(m.body == "some thing");
  CHECK(m.field("transfer-encoding") == "chunked");
}

// A stream whose events a test gives, then an orderly or a hard end.
struct Script {
  std::vector<std::string> events;
  Duration between = 1ms;
  bool orderly = true;
};
Script script;

Task<bool> tell(Worker&, WorkerConnection& c, const Message&) {
  c.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (const std::string& event : script.events) {
    const auto me = co_await coro::here();
    const auto slept = co_await coro::sleep_for(me, script.between);
    if (!slept) co_return false;
    c.send(chunk(event));
  }
  if (script.orderly) c.send(kLastChunk);
  co_return script.orderly;
}

std::string openai_request() {
  return post("/v1/chat/completions", R"({"stream":true,"messages":[]})");
}
const std::string kToken = "data: {\"response\": \"x\", \"done\": false}\n\n";
const std::string kOpenAiToken = R"(data: {"choices":[{"delta":{"content":"x"},"finish_reason":null}]})"
                                 "\n\n";

TEST_CASE("relay: how a stream ended is known though its status was 200") {
  struct Case {
    std::string request;
    Script script;
    const char* verdict;
    const char* reason;
  };
  const Case cases[] = {
      {chat_request(), {{kToken, "data: {\"done\": true}\n\n"}, 1ms, true}, "completed", "served"},
      {chat_request(), {{kToken, kToken}, 1ms, true}, "unterminated", "served"},
      {chat_request(),
       {{kToken, "data: {\"error\": \"provider\", \"done\": true}\n\n"}, 1ms, true},
       "failed",
       "served"},
      {chat_request(), {{kToken}, 1ms, false}, "failed", "upstream_failed"},
      {openai_request(), {{kOpenAiToken, "data: [DONE]\n\n"}, 1ms, true}, "unterminated", "served"},
      {openai_request(),
       {{R"(data: {"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]})"
         "\n\n",
         "data: [DONE]\n\n"},
        1ms,
        true},
       "completed",
       "served"},
  };
  for (const Case& k : cases) {
    World w;
    w.workers[0]->handler = &tell;
    script = k.script;
    auto c = w.connect();
    c->send(k.request);
    w.pass(10s);
    CHECK(w.logged("stream") == k.verdict);
    CHECK(w.logged("reason") == k.reason);
    CHECK(w.tickets() == 0);
  }
}

TEST_CASE("relay: a stream that ended because it was asked to stop is stopped, not failed") {
  World w;
  w.workers[0]->handler = &tell;
  script = {{"data: {\"request_id\": \"r-1\"}\n\n", kToken, kToken}, 10ms, true};
  auto c = w.connect();
  c->send(chat_request());
  w.pass(15ms);
  w.stopped.note(proxy::stream_id_hash("r-1"));
  w.pass(100ms);
  CHECK(w.logged("stream") == "stopped");
}

TEST_CASE("relay: a broken stream of OpenAI's shape says why, between two events only") {
  for (const bool at_boundary : {true, false}) {
    World w;
    w.workers[0]->handler = &tell;
    script = {{at_boundary ? kOpenAiToken : kOpenAiToken.substr(0, 20)}, 1ms, false};
    auto c = w.connect();
    c->send(openai_request());
    w.pass(10s);
    const auto m = parse_message(c->received());
    REQUIRE(m.has_value());
    CHECK_FALSE(m->whole);
    CHECK((m->body.find("\"error\"") != std::string::npos) == at_boundary);
    CHECK(c->end().has_value());
  }
}

TEST_CASE("relay: a stream may be silent for its bound, before its first event and later; then it is cut") {
  for (const bool before_first : {true, false}) {
    WorldOptions o;
    o.config.clocks.first_event = before_first ? 20s : 300s;
    o.config.clocks.silence = 30s;
    World w(o);
    w.workers[0]->handler = [](Worker&, WorkerConnection& c, const Message&) -> Task<bool> {
      c.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
      for (const std::string& event : script.events)
        c.send(chunk(event));
      auto got = co_await c.stream->read();
      co_return got.has_value();
    };
    script.events.clear();
    if (!before_first) script.events.push_back(kToken);
    auto c = w.connect();
    c->send(chat_request());
    w.pass(before_first ? 19s : 29s);
    CHECK_FALSE(c->end());
    CHECK(w.tickets() == 1);
    w.pass(2s);
    CHECK(c->end().has_value());
    CHECK_FALSE(parse_message(c->received())->whole);
    CHECK(w.logged("reason") == "upstream_timeout");
    CHECK(w.tickets() == 0);
  }
}

TEST_CASE("relay: a stream with a token every ten seconds outlives every clock but silence") {
  World w;
  w.workers[0]->handler = &tell;
  script = {std::vector<std::string>(100, kToken), 10s, true};
  script.events.emplace_back("data: {\"done\": true}\n\n");
  auto c = w.connect();
  c->send(chat_request());
  w.pass(1100s);
  CHECK(c->answer().whole);
  CHECK(w.logged("stream") == "completed");
}

TEST_CASE("relay: the clock of the whole exchange, where it is written") {
  WorldOptions o;
  o.config.clocks.total = 5s;
  World w(o);
  w.workers[0]->handler = &tell;
  script = {std::vector<std::string>(100, kToken), 1s, true};
  auto c = w.connect();
  c->send(chat_request());
  w.pass(6s);
  CHECK(c->end().has_value());
  CHECK(w.logged("reason") == "upstream_timeout");
  CHECK(w.tickets() == 0);
}

}  // namespace
}  // namespace perigee::test
