// After a 101 bytes go both ways and belong to nobody else.
#include "world.h"

namespace perigee::test {
namespace {

using coro::Task;
using telemetry::Count;
using telemetry::Reason;

const std::string kUpgrade = get("/ws/voice",
                                 "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                                 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n");
constexpr std::string_view kSwitch =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

// Greets, then sends back what it gets, in brackets.
Task<bool> parrot(Worker& w, WorkerConnection& c, const Message& r) {
  CHECK(r.field("upgrade") == "websocket");
  c.send(std::string(kSwitch) + "hello");
  std::string in = std::exchange(c.in, {});
  for (;;) {
    if (!in.empty()) c.send("[" + in + "]");
    auto got = co_await c.stream->read();
    if (!got) {
      if (got.error().kind == ErrorKind::eof) ++w.ended_by_peer;
      if (got.error().kind == ErrorKind::reset) ++w.reset_by_peer;
      c.send("bye");
      co_return false;
    }
    in = std::string(got->data(), got->size());
  }
}

TEST_CASE("tunnel: bytes both ways, also those that came with the heads; its ticket is given back") {
  World w;
  w.workers[0]->handler = &parrot;
  auto c = w.connect();
  c->send(kUpgrade + "early");
  w.settle();
  CHECK(c->received().starts_with("HTTP/1.1 101 Switching Protocols\r\n"));
  CHECK(c->received().ends_with("hello[early]"));
  CHECK(w.tickets() == 0);
  CHECK(w.backend(0).tunnels == 1);
  c->send("more");
  w.pass(600s);  // silence ends no tunnel
  CHECK(c->received().ends_with("[more]"));
  CHECK_FALSE(c->end());
  c->shut_down();
  w.settle();
  CHECK(c->received().ends_with("bye"));
  CHECK(c->end() == ErrorKind::eof);
  CHECK(w.workers[0]->ended_by_peer == 1);
  CHECK(w.backend(0).tunnels == 0);
  CHECK(w.workers[0]->connections == 0);
  CHECK(w.logged("status") == "101");
  CHECK(w.logged("reason") == "served");
}

TEST_CASE("tunnel: either side may vanish") {
  for (const bool client : {true, false}) {
    World w;
    w.workers[0]->handler = &parrot;
    auto c = w.connect();
    c->send(kUpgrade);
    w.settle();
    if (client) {
      c->close(true);
    } else {
      w.workers[0]->scope.cancel(kStop);
    }
    w.pass(10s);
    CHECK(w.backend(0).tunnels == 0);
    CHECK(w.workers[0]->connections == 0);
    CHECK(w.proxy->exchanges() == 0);
    c->close();
  }
}

TEST_CASE("tunnel: before the 101 nothing of what the client sends early reaches the worker as a request") {
  World w;
  w.workers[0]->handler = [](Worker&, WorkerConnection& c, const Message&) -> Task<bool> {
    co_await nap(10ms);
    CHECK(c.in.empty());
    c.send("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno");
    co_return true;
  };
  auto c = w.connect();
  c->send(kUpgrade + "GET /smuggled HTTP/1.1\r\nHost: o\r\n\r\n");
  w.pass(100ms);
  const auto first = parse_message(c->received());
  REQUIRE(first.has_value());
  CHECK(first->status() == 426);
  for (const auto& r : w.workers[0]->requests)
    CHECK(r.field("upgrade") == (r.target() == "/ws/voice" ? "websocket" : ""));
}

TEST_CASE("tunnel: a slow side holds the other back") {
  World w;
  w.workers[0]->handler = [](Worker& self, WorkerConnection& c, const Message&) -> Task<bool> {
    c.send(kSwitch);
    for (int i = 0; i < 1000; ++i) {
      c.send(std::string(16 * 1024, 'x'));
      self.received += 16UL * 1024;
      if (c.stream->backlog() > net::kBacklogHigh) {
        const auto drained = co_await c.stream->drained();
        if (!drained) co_return false;
      }
    }
    co_return false;
  };
  auto c = w.connect();
  c->read(false);
  c->send(kUpgrade);
  w.pass(1s);
  CHECK(w.workers[0]->received < 1024 * 1024);
  c->read(true);
  w.pass(1s);
  CHECK(c->received().size() > 15UL * 1024 * 1024);
}

TEST_CASE("tunnel: what was said before the end arrives before the end, however slowly it is read") {
  WorldOptions o;
  o.client_rules.capacity = 1000;
  World w(o);
  w.workers[0]->handler = [](Worker&, WorkerConnection& c, const Message&) -> Task<bool> {
    c.send(kSwitch);
    (void)co_await c.more();
    c.send(std::string(60'000, 'x') + "last");
    co_return false;
  };
  auto c = w.connect();
  c->send(kUpgrade);
  w.settle();
  c->read(false);
  c->shut_down();
  w.pass(1s);
  c->read(true);
  w.pass(1s);
  CHECK(c->received().size() > 60'000);
  CHECK(c->received().ends_with("last"));
  CHECK(c->end() == ErrorKind::eof);
}

TEST_CASE("tunnel: the same towards a worker that ended its own side first") {
  WorldOptions o;
  o.worker_rules.capacity = 1000;
  World w(o);
  w.workers[0]->handler = [](Worker& self, WorkerConnection& c, const Message&) -> Task<bool> {
    c.link.stall(1, true);
    c.send(kSwitch);
    c.stream->shutdown();
    co_await nap(1s);
    c.link.stall(1, false);
    for (;;) {
      auto got = co_await c.stream->read();
      if (!got) {
        if (got.error().kind == ErrorKind::eof) ++self.ended_by_peer;
        co_return false;
      }
      self.received += got->size();
    }
  };
  auto c = w.connect();
  c->send(kUpgrade + std::string(50'000, 'x'));
  w.pass(2s);
  CHECK(w.workers[0]->received == 50'000);
  CHECK(w.workers[0]->ended_by_peer == 1);
}

TEST_CASE("tunnel: a worker that is full of tunnels refuses") {
  WorldOptions o;
  o.policy.tunnels = 1;
  World w(o);
  w.workers[0]->handler = &parrot;
  auto a = w.connect();
  a->send(kUpgrade);
  w.settle();
  auto b = w.connect();
  b->send(kUpgrade + get("/smuggled"));
  w.pass(1s);
  CHECK(b->answer().status() == 503);  // and what came behind it is not read as a request
  CHECK(b->answer().field("connection") == "close");
  CHECK(b->end() == ErrorKind::eof);
  CHECK(w.tickets() == 0);
}

TEST_CASE("tunnel: a GET /mcp without end gives its ticket back at its head") {
  World w;
  w.workers[0]->handler = [](Worker&, WorkerConnection& c, const Message& r) -> Task<bool> {
    CHECK(r.field("host") == "localhost");
    c.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
    co_await nap(1h);
    c.send(chunk("data: late\n\n"));
    c.send(kLastChunk);
    co_return true;
  };
  auto c = w.connect();
  c->send(get("/mcp", "Accept: text/event-stream\r\n"));
  w.pass(1s);
  CHECK(w.tickets() == 0);
  CHECK(w.backend(0).tunnels == 1);
  w.pass(61min);
  CHECK(c->answer().body == "data: late\n\n");
  CHECK(w.backend(0).tunnels == 0);
}

}  // namespace
}  // namespace perigee::test
