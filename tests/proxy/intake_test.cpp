// From the first byte to "enough to go on": slow, broken, oversized and vanishing clients.
#include "world.h"

namespace perigee::test {
namespace {

using coro::Task;
using telemetry::Reason;

// Reads everything and counts it; answers when the body is whole.
Task<void> count_upload(Worker& w, WorkerConnection& c) {
  for (;;) {
    auto got = co_await c.stream->read();
    if (!got) {
      if (got.error().kind == ErrorKind::eof) ++w.ended_by_peer;
      co_return;
    }
    w.received += got->size();
  }
}

TEST_CASE("intake: a malformed head is 400 and the end, and no worker hears of it") {
  for (const std::string_view bad :
       {"GET / HTTP/1.1\r\nHost: o\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: o\r\n\r\n", "\x16\x03\x01\x02garbage\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: o\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"}) {
    World w;
    auto c = w.connect();
    c->send(bad);
    w.pass(5s);
    CHECK(c->answer().status() == 400);
    CHECK(c->answer().field("connection") == "close");
    CHECK(c->answer().field("x-perigee-reason") == "bad_request");
    CHECK(c->end() == ErrorKind::eof);
    CHECK(w.workers[0]->accepted == 0);
    CHECK(w.logged("reason") == "bad_request");
  }
}

TEST_CASE("intake: a pipelined request behind a malformed one is not served") {
  World w;
  auto c = w.connect();
  c->send("BROKEN\r\n\r\n" + get("/secret"));
  w.pass(5s);
  CHECK(c->answer().status() == 400);
  CHECK(w.workers[0]->accepted == 0);
}

TEST_CASE("intake: a head that comes too slowly is 408 after its bound") {
  World w;
  auto c = w.connect();
  c->send("GET /a HTTP/1.1\r\n");
  w.pass(9s);
  CHECK(c->received().empty());
  w.pass(2s);
  CHECK(c->answer().status() == 408);
  CHECK(c->answer().field("x-perigee-reason") == "request_timeout");
  w.pass(5s);
  CHECK(c->end().has_value());
}

TEST_CASE("intake: the second head of a connection has its own bound, from its first byte on") {
  World w;
  auto c = w.connect();
  c->send(get("/a"));
  w.pass(60s);
  CHECK_FALSE(c->end());
  c->send("GET /b HT");
  w.pass(9s);
  CHECK(c->answers().size() == 1);
  w.pass(2s);
  REQUIRE(c->answers().size() == 2);
  CHECK(c->answers()[1].status() == 408);
}

TEST_CASE("intake: who says nothing is let go without a word, first after 10 s, later after 75 s") {
  World w;
  auto silent = w.connect();
  w.pass(9s);
  CHECK_FALSE(silent->end());
  w.pass(2s);
  CHECK(silent->end() == ErrorKind::eof);
  CHECK(silent->received().empty());
  auto idle = w.connect();
  idle->send(get("/a"));
  w.pass(74s);
  CHECK_FALSE(idle->end());
  w.pass(2s);
  CHECK(idle->end() == ErrorKind::eof);
  CHECK(idle->answers().size() == 1);
  CHECK(w.log_lines.size() == 1);
}

TEST_CASE("intake: a body that comes too slowly is 408; one at the least rate is not") {
  World w;
  auto slow = w.connect();
  slow->send("POST /v1/embeddings HTTP/1.1\r\nHost: o\r\nContent-Length: 100000\r\n\r\nabc");
  w.pass(9s);
  CHECK(slow->received().empty());
  w.pass(2s);
  CHECK(slow->answer().status() == 408);
  auto steady = w.connect();
  steady->send("POST /v1/embeddings HTTP/1.1\r\nHost: o\r\nContent-Length: 40960\r\n\r\n");
  for (int i = 0; i < 20; ++i) {
    steady->send(std::string(2048, 'x'));
    w.pass(1s);
  }
  CHECK(steady->answer().status() == 200);
}

TEST_CASE("intake: a client that leaves in the middle of its head or body is gone, nothing else") {
  for (const bool reset : {false, true}) {
    for (const std::string_view part :
         {"GET /a HT", "POST /v1/embeddings HTTP/1.1\r\nHost: o\r\nContent-Length: 9\r\n\r\nabc"}) {
      World w;
      auto c = w.connect();
      c->send(part);
      w.settle();
      c->close(reset);
      w.settle();
      CHECK(w.logged("reason") == "client_gone");
      CHECK(w.outcomes(Reason::client_gone) == 1);
      CHECK(w.workers[0]->accepted == 0);
    }
  }
}

TEST_CASE("intake: bounds: body 413, target 414, head 431") {
  World w;
  auto a = w.connect();
  a->send("POST /v1/embeddings HTTP/1.1\r\nHost: o\r\nContent-Length: 99999999\r\n\r\n");
  w.settle();
  CHECK(a->answer().status() == 413);
  auto b = w.connect();
  b->send(get("/" + std::string(17000, 'x')));
  w.settle();
  CHECK(b->answer().status() == 414);
  auto c = w.connect();
  c->send("GET / HTTP/1.1\r\nHost: o\r\nX-Long: " + std::string(70000, 'x'));
  w.settle();
  CHECK(c->answer().status() == 431);
  CHECK(w.outcomes(Reason::too_large) == 3);
  CHECK(w.workers[0]->accepted == 0);
}

TEST_CASE("intake: a chunked body over its bound is 413 though it never said how long it is") {
  WorldOptions o;
  o.config.bodies.json = 100;
  World w(o);
  auto c = w.connect();
  c->send("POST /v1/embeddings HTTP/1.1\r\nHost: o\r\nTransfer-Encoding: chunked\r\n\r\n");
  c->send(chunk(std::string(60, 'a')) + chunk(std::string(60, 'b')));
  w.settle();
  CHECK(c->answer().status() == 413);
  CHECK(w.workers[0]->accepted == 0);
}

TEST_CASE(
    "intake: a fault in the first 64 KiB of a body reaches no worker; a later one ends both connections") {
  World w;
  auto early = w.connect();
  early->send("POST /v1/embeddings HTTP/1.1\r\nHost: o\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcdeXX");
  w.settle();
  CHECK(early->answer().status() == 400);
  CHECK(w.workers[0]->accepted == 0);

  w.workers[0]->script = &count_upload;
  auto late = w.connect();
  late->send("POST /v1/embeddings HTTP/1.1\r\nHost: o\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (int i = 0; i < 10; ++i)
    late->send(chunk(std::string(10'000, 'x')));
  w.pass(10ms);
  CHECK(w.workers[0]->received > 64 * 1024);
  late->send("zz\r\n");
  w.pass(10s);
  CHECK(late->answer().status() == 400);
  CHECK(late->end().has_value());
  CHECK(w.workers[0]->connections == 0);
  CHECK(w.tickets() == 0);
}

TEST_CASE("intake: a large upload goes on only as fast as the worker takes it") {
  WorldOptions o;
  o.kind = WorkerKind::http;
  World w(o);
  w.workers[0]->script = [](Worker& worker, WorkerConnection& c) -> Task<void> {
    const auto said = co_await worker.go.wait();
    if (!said) co_return;
    co_await count_upload(worker, c);
  };
  constexpr std::size_t kSize = 8UL * 1024 * 1024;
  auto c = w.connect();
  c->send("POST /up HTTP/1.1\r\nHost: o\r\nContent-Length: " + std::to_string(kSize) + "\r\n\r\n" +
          std::string(kSize, 'x'));
  w.pass(100ms);
  // What is neither in the pipes nor with the client is ours: bounded whatever the upload's size.
  const std::size_t held = kSize - c->unsent();
  CHECK(held < 1024 * 1024);
  w.workers[0]->go.set();
  w.pass(1s);
  CHECK(c->unsent() == 0);
  CHECK(w.workers[0]->received > kSize);
  c->close();
}

TEST_CASE("intake: a client that pipelines and reads nothing is held back") {
  WorldOptions o;
  o.client_rules.capacity = 4096;
  o.kind = WorkerKind::http;
  World w(o);
  auto c = w.connect();
  c->read(false);
  std::string many;
  for (int i = 0; i < 5000; ++i)
    many += get("/x");
  c->send(many);
  w.pass(1s);
  // Our backlog towards it is bounded, so not all of its requests were taken.
  CHECK(c->unsent() > 0);
  CHECK(c->link.in_flight(0) < 256 * 1024);
  c->read(true);
  w.pass(5s);
  CHECK(c->answers().size() == 5000);
}

TEST_CASE("intake: priority and identity that a stranger claims are not believed") {
  World w;
  (void)w.ask(get("/v1/models", "X-Forwarded-For: 6.6.6.6\r\nX-Priority: critical\r\n"));
  CHECK(w.logged("priority") == "normal");
  CHECK(w.workers[0]->requests[0].field("x-forwarded-for") == "127.0.0.1");
  CHECK(w.workers[0]->requests[0].field("x-priority").empty());
}

}  // namespace
}  // namespace perigee::test
