// Whole requests from the first byte to the log line: the shapes of messages, and one connection after another.
#include "world.h"

namespace perigee::test {
namespace {

using coro::Task;
using telemetry::Count;
using telemetry::Reason;

TEST_CASE("life: one request") {
  World w;
  const Message m = w.ask(get("/v1/models"));
  CHECK(m.status() == 200);
  CHECK(m.body == "w0 GET /v1/models ");
  CHECK_FALSE(m.field("x-request-id").empty());
  REQUIRE(w.workers[0]->requests.size() == 1);
  CHECK(w.workers[0]->requests[0].field("x-forwarded-for") == "127.0.0.1");
  CHECK(w.logged("reason") == "served");
  CHECK(w.logged("status") == "200");
  CHECK(w.logged("backend") == "w0");
  CHECK(w.tickets() == 0);
}

TEST_CASE("life: keep-alive and pipelining, in order, over one connection to the worker") {
  World w;
  auto c = w.connect();
  c->send(get("/a"));
  w.settle();
  c->send(get("/b") + get("/c") + post("/v1/embeddings", "{}") + get("/d"));
  w.pass(50ms);  // an ORBIT worker's starts are paced
  const auto all = c->answers();
  REQUIRE(all.size() == 5);
  CHECK(all[0].body == "w0 GET /a ");
  CHECK(all[1].body == "w0 GET /b ");
  CHECK(all[2].body == "w0 GET /c ");
  CHECK(all[3].body == "w0 POST /v1/embeddings {}");
  CHECK(all[4].body == "w0 GET /d ");
  CHECK_FALSE(c->end());
  CHECK(w.workers[0]->accepted == 1);
  CHECK(w.count(Count::upstream_reuses) == 4);
}

TEST_CASE("life: the same bytes, one at a time both ways, give the same answers") {
  WorldOptions o;
  o.client_rules = net::byte_by_byte();
  o.worker_rules = net::byte_by_byte();
  World w(o);
  auto c = w.connect();
  c->send(get("/a") + post("/v1/embeddings", R"({"input":"x"})") + get("/b"));
  w.pass(10ms);
  const auto all = c->answers();
  REQUIRE(all.size() == 3);
  CHECK(all[0].body == "w0 GET /a ");
  CHECK(all[1].body == R"(w0 POST /v1/embeddings {"input":"x"})");
  CHECK(all[2].body == "w0 GET /b ");
}

TEST_CASE("life: Connection: close, HTTP/1.0, and HTTP/1.0 that stays") {
  World w;
  {
    auto c = w.connect();
    c->send(get("/a", "Connection: close\r\n"));
    w.settle();
    CHECK(c->answer().field("connection") == "close");
    CHECK(c->end() == ErrorKind::eof);
  }
  {
    auto c = w.connect();
    c->send("GET /b HTTP/1.0\r\n\r\n");
    w.settle();
    CHECK(c->answer().body == "w0 GET /b ");
    CHECK(c->end() == ErrorKind::eof);
  }
  {
    auto c = w.connect();
    c->send("GET /c HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    w.settle();
    CHECK(c->answer().field("connection") == "keep-alive");
    CHECK_FALSE(c->end());
  }
}

TEST_CASE("life: chunked both ways, with chunks cut anywhere") {
  static constexpr std::string_view kBody = R"({"input":"0123456789 0123456789 0123456789"})";
  for (const bool bytewise : {false, true}) {
    WorldOptions o;
    if (bytewise) o.client_rules = o.worker_rules = net::byte_by_byte();
    World w(o);
    w.workers[0]->handler = [](Worker&, WorkerConnection& c, const Message& r) -> Task<bool> {
      c.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
      c.send(chunk("[") + chunk(r.body));
      co_await nap(1ms);
      c.send(chunk("]").append(kLastChunk));
      co_return true;
    };
    auto c = w.connect();
    c->send("POST /v1/embeddings HTTP/1.1\r\nHost: orbit\r\nTransfer-Encoding: chunked\r\n\r\n");
    w.settle();
    c->send(chunk(kBody.substr(0, 7)));
    w.settle();
    c->send(chunk(kBody.substr(7)));
    w.settle();
    CHECK(w.workers[0]->requests.empty());  // no ticket for an upload that is not whole
    c->send(kLastChunk);
    w.pass(10ms);
    const Message m = c->answer();
    CHECK(m.body == "[" + std::string(kBody) + "]");
    REQUIRE(w.workers[0]->requests.size() == 1);
    CHECK(w.workers[0]->requests[0].body == kBody);
  }
}

TEST_CASE("life: HEAD, 204 and 304 have no body, and the next answer is the next answer") {
  World w;
  w.workers[0]->handler = [](Worker&, WorkerConnection& c, const Message& r) -> Task<bool> {
    if (r.method() == "HEAD") c.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
    if (r.target() == "/204") c.send("HTTP/1.1 204 No Content\r\n\r\n");
    if (r.target() == "/304")
      c.send("HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\nETag: \"x\"\r\n\r\n");
    if (r.target() == "/last") c.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    co_return true;
  };
  auto c = w.connect();
  c->send("HEAD /head HTTP/1.1\r\nHost: o\r\n\r\n" + get("/204") + get("/304") + get("/last"));
  w.pass(50ms);
  const auto head = parse_message(c->received(), true);
  REQUIRE(head.has_value());
  CHECK(head->field("content-length") == "1000");
  const auto rest = parse_messages(std::string_view(c->received()).substr(head->bytes));
  REQUIRE(rest.size() == 3);
  CHECK(rest[0].status() == 204);
  CHECK(rest[1].status() == 304);
  CHECK(rest[2].body == "ok");
  CHECK(w.workers[0]->accepted == 1);
}

TEST_CASE(
    "life: Expect: 100-continue is answered by us and not forwarded; 103 passes, the worker's 100 does not") {
  World w;
  w.workers[0]->handler = [](Worker& worker, WorkerConnection& c, const Message& r) -> Task<bool> {
    c.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
    co_return co_await say_ok(worker, c, r);
  };
  auto c = w.connect();
  c->send("POST /v1/embeddings HTTP/1.1\r\nHost: o\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  w.settle();
  CHECK(c->received() == "HTTP/1.1 100 Continue\r\n\r\n");
  CHECK(w.workers[0]->requests.empty());
  c->send("{}");
  w.settle();
  const auto m = parse_message(c->received());
  REQUIRE(m.has_value());
  CHECK(m->status() == 200);
  REQUIRE(m->interim.size() == 2);
  CHECK(m->interim[1] == "HTTP/1.1 103 Early Hints");
  CHECK(w.workers[0]->requests[0].field("expect").empty());
}

TEST_CASE("life: no worker is up: a client that waits for leave is told so at once, without its body") {
  World w;
  w.probe(0, balancing::ProbeResult::refused);
  auto c = w.connect();
  c->send("POST /v1/embeddings HTTP/1.1\r\nHost: o\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
  w.settle();
  const Message m = c->answer();
  CHECK(m.status() == 503);
  CHECK(m.field("x-perigee-reason") == "no_backend");
  CHECK_FALSE(m.field("retry-after").empty());
}

TEST_CASE("life: a stream passes event by event, in the turn in which it arrives") {
  World w;
  w.workers[0]->handler = &chat;
  auto c = w.connect();
  c->send(chat_request());
  w.settle();
  CHECK(parse_message(c->received())->status() == 200);
  CHECK(w.tickets() == 1);
  for (int i = 0; i < 5; ++i) {
    CHECK(c->received().find("token " + std::to_string(i)) == std::string::npos);
    w.pass(10ms + (i == 0 ? 1ms : 0ms));
    CHECK(c->received().find("token " + std::to_string(i)) != std::string::npos);
  }
  const Message m = c->answer();
  CHECK(m.body.ends_with("data: {\"done\": true}\n\n"));
  CHECK(w.logged("stream") == "completed");
  CHECK(w.logged("reason") == "served");
  CHECK(w.tickets() == 0);
}

TEST_CASE("life: a configuration that was adopted holds for the next request of an idle connection") {
  World w;
  auto c = w.connect();
  c->send(get("/a"));
  w.settle();
  config::Config config;
  config.bodies.json = 4;
  w.proxy->adopt(w.plan_of(config));
  c->send(post("/v1/embeddings", "12345"));
  w.settle();
  const auto all = c->answers();
  REQUIRE(all.size() == 2);
  CHECK(all[1].status() == 413);
}

TEST_CASE("life: a long stream lets go of the plan it began with") {
  World w;
  w.workers[0]->handler = &chat;
  auto plan = w.plan_of(config::Config{});
  const std::weak_ptr<const proxy::Plan> watched = plan;
  w.proxy->adopt(std::move(plan));
  auto c = w.connect();
  c->send(chat_request());
  w.pass(20ms);
  w.proxy->adopt(w.plan_of(config::Config{}));
  CHECK(watched.expired());
  w.pass(100ms);
  CHECK(c->answer().whole);
}

TEST_CASE("life: every reason is logged once, and path and id with it, never the query") {
  World w;
  (void)w.ask(get("/v1/models?key=secret", "X-Request-ID: my-id-1\r\n"));
  REQUIRE(w.log_lines.size() == 1);
  CHECK(w.logged("id") == "my-id-1");
  CHECK(w.logged("path") == "/v1/models");
  CHECK(w.log_lines[0].find("secret") == std::string::npos);
}

}  // namespace
}  // namespace perigee::test
