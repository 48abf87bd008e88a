// How things end: clients that leave, detached answers, drain and cut.
#include "world.h"

namespace perigee::test {
namespace {

using coro::Task;
using telemetry::Count;
using telemetry::Reason;

TEST_CASE("farewell: a client that leaves a stream: the worker gets FIN at once, the slot is free at once") {
  World w;
  w.workers[0]->handler = &never_answer;
  for (const bool after_head : {false, true}) {
    if (after_head) {
      w.workers[0]->handler = [](Worker& self, WorkerConnection& c, const Message& r) -> Task<bool> {
        c.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        co_return co_await never_answer(self, c, r);
      };
    }
    auto c = w.connect();
    c->send(chat_request());
    w.pass(10ms);
    CHECK(w.tickets() == 1);
    c->close();
    w.settle();
    CHECK(w.tickets() == 0);
    CHECK(w.workers[0]->connections == 0);
    CHECK(w.workers[0]->ended_by_peer == (after_head ? 2 : 1));
    CHECK(w.workers[0]->reset_by_peer == 0);
    CHECK(w.logged("reason") == "client_gone");
    CHECK(w.count(Count::detached) == 0);
  }
}

TEST_CASE("farewell: a worker that ignores the FIN is read for five seconds and then closed") {
  World w;
  w.workers[0]->handler = [](Worker&, WorkerConnection& c, const Message&) -> Task<bool> {
    c.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 100; ++i) {
      co_await nap(100ms);
      c.send(chunk("data: {\"response\": \"x\", \"done\": false}\n\n"));
      if (c.link.closed(0)) co_return false;
    }
    co_return false;
  };
  auto c = w.connect();
  c->send(chat_request());
  w.pass(500ms);
  c->close();
  w.pass(4500ms);
  CHECK(w.tickets() == 0);
  CHECK(w.workers[0]->connections == 1);
  w.pass(1s);
  CHECK(w.workers[0]->connections == 0);
}

TEST_CASE(
    "farewell: a client that leaves what the worker will finish anyway: the ticket stays until it has") {
  World w;
  w.workers[0]->handler = &wait_then_ok;
  auto c = w.connect();
  c->send(post("/v1/chat", "{}"));
  w.settle();
  c->close();
  w.pass(60s);
  CHECK(w.tickets() == 1);
  CHECK(w.workers[0]->ended_by_peer == 0);
  CHECK(w.count(Count::detached) == 1);
  CHECK(w.logged("detached") == "true");
  CHECK(w.proxy->exchanges() == 1);
  w.workers[0]->go.set();
  w.settle();
  CHECK(w.tickets() == 0);
  CHECK(w.proxy->exchanges() == 0);
  // The answer was read to its end: the connection serves the next request, with its own answer.
  CHECK(w.ask(get("/next")).body == "w0 GET /next ");
  CHECK(w.workers[0]->accepted == 1);
}

TEST_CASE("farewell: a detached answer that is cut anywhere, or split anywhere") {
  for (const bool bytewise : {false, true}) {
    WorldOptions o;
    if (bytewise) o.worker_rules = net::byte_by_byte();
    World w(o);
    w.workers[0]->handler = [](Worker& self, WorkerConnection& c, const Message&) -> Task<bool> {
      c.send("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encod");
      const auto said = co_await self.go.wait();
      if (!said) co_return false;
      c.send("ing: chunked\r\n\r\n" + chunk("abc"));
      co_await nap(10ms);
      c.send(chunk("def").append(kLastChunk));
      co_return true;
    };
    auto c = w.connect();
    c->send(post("/v1/chat", "{}"));
    w.pass(1s);
    c->close();
    w.pass(1s);
    CHECK(w.tickets() == 1);
    w.workers[0]->go.set();
    w.pass(1s);
    CHECK(w.tickets() == 0);
    w.workers[0]->handler = &say_ok;
    CHECK(w.ask(get("/next")).body == "w0 GET /next ");
    CHECK(w.workers[0]->accepted == 1);
  }
}

TEST_CASE("farewell: a client that leaves while the last of its answer is written leaves no ticket behind") {
  for (const std::string_view head :
       {"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"}) {
    static std::string_view say;
    say = head;
    WorldOptions o;
    o.client_rules.capacity = 1000;
    World w(o);
    w.workers[0]->handler = [](Worker&, WorkerConnection& c, const Message&) -> Task<bool> {
      c.send(std::string(say) + std::string(300'000, 'x'));
      const auto out = co_await c.stream->drained(0);
      co_return out.has_value() && say.find("Length") != std::string_view::npos;
    };
    auto c = w.connect();
    c->read(false);
    c->send(get("/a"));
    w.pass(100ms);
    CHECK(w.tickets() == 1);
    c->close(true);
    w.pass(100ms);
    CHECK(w.tickets() == 0);
  }
}

TEST_CASE("farewell: what is read on when the client has left, by kind of worker and answer, and by class") {
  struct Row {
    const char* what;
    WorkerKind kind;
    bool streamed;
    Duration read_on;  // written for this kind of request
    Duration holds;    // how long the ticket stays at least, and not two seconds longer
  };
  for (const Row& row : {Row{"a stream, closed at once", WorkerKind::orbit, true, 0s, 0s},
                         Row{"a stream, read on for a while", WorkerKind::orbit, true, 4s, 4s},
                         Row{"a stream, to its end within detached_max", WorkerKind::orbit, true, config::kNoClock, 9s},
                         Row{"ORBIT, closed at once", WorkerKind::orbit, false, 0s, 0s},
                         Row{"ORBIT, to its end", WorkerKind::orbit, false, config::kNoClock, 9s},
                         Row{"another worker, read on for a while", WorkerKind::http, false, 4s, 4s}}) {
    for (const bool of_class : {false, true}) {
      WorldOptions o;
      o.kind = row.kind;
      o.config.process.detached_max = 9s;
      if (of_class) {
        const RequestClass c = row.kind == WorkerKind::orbit ? RequestClass::chat : RequestClass::other;
        auto own = o.config.classes.at(c);
        own.abandoned = row.read_on;
        o.config.classes.set(c, own);
      } else {
        o.config.abandoned = {row.read_on, row.read_on, row.read_on};
      }
      World w(o);
      w.workers[0]->handler = &never_answer;
      auto c = w.connect();
      c->send(row.streamed ? chat_request() : post("/v1/chat", "{}"));
      w.settle();
      c->close();
      w.settle();
      INFO((std::string(row.what) + (of_class ? ", of the class" : "")));
      CHECK(w.tickets() == (row.holds > 0s ? 1 : 0));
      if (row.holds == 0s) continue;
      w.pass(row.holds - 100ms);
      CHECK(w.tickets() == 1);
      w.pass(2s);
      CHECK(w.tickets() == 0);
    }
  }
}

TEST_CASE("farewell: a detached answer holds its ticket for detached_max from dispatch and no longer") {
  World w;
  w.workers[0]->handler = &never_answer;
  auto c = w.connect();
  c->send(post("/v1/chat", "{}"));
  w.pass(100s);
  c->close();
  w.pass(199s);
  CHECK(w.tickets() == 1);
  w.pass(2s);
  CHECK(w.tickets() == 0);
  w.pass(6s);
  CHECK(w.workers[0]->connections == 0);
}

TEST_CASE("farewell: after our 504 the worker goes on and keeps its slot") {
  WorldOptions o;
  o.config.clocks.head = 10s;
  World w(o);
  w.workers[0]->handler = &wait_then_ok;
  auto c = w.connect();
  c->send(post("/v1/chat", "{}"));
  w.pass(11s);
  CHECK(c->answer().status() == 504);
  CHECK(w.tickets() == 1);
  w.workers[0]->go.set();
  w.settle();
  CHECK(w.tickets() == 0);
}

TEST_CASE(
    "farewell: drain: running and waiting requests finish, kept connections end, new ones are refused") {
  WorldOptions o;
  o.slots = 1;
  World w(o);
  w.workers[0]->handler = &wait_then_ok;
  auto idle = w.connect();
  idle->send(get("/health"));
  w.workers[0]->go.set();
  w.settle();
  w.workers[0]->go.reset();
  auto running = w.connect();
  auto waiting = w.connect();
  running->send(get("/a"));
  waiting->send(get("/b"));
  w.settle();
  w.dispatcher.set_draining(true);
  w.proxy->drain();
  idle->send(get("/c"));
  w.pass(1s);
  REQUIRE(idle->answers().size() == 2);
  CHECK(idle->answers()[1].status() == 503);
  CHECK(idle->answers()[1].field("x-perigee-reason") == "draining");
  CHECK(idle->answers()[1].field("connection") == "close");
  w.workers[0]->go.set();
  w.pass(10s);
  CHECK(running->answer().status() == 200);
  CHECK(waiting->answer().status() == 200);
  CHECK(running->end() == ErrorKind::eof);
  CHECK(w.proxy->connections() == 0);
}

TEST_CASE("farewell: drain: who is idle and stays silent is let go after five seconds") {
  World w;
  auto idle = w.connect();
  idle->send(get("/a"));
  w.pass(1s);
  w.proxy->drain();
  w.pass(4s);
  CHECK_FALSE(idle->end());
  w.pass(2s);
  CHECK(idle->end() == ErrorKind::eof);
}

TEST_CASE("farewell: cut ends everything at once, visibly") {
  WorldOptions o;
  o.slots = 2;
  World w(o);
  w.workers[0]->handler = &chat;
  auto streaming = w.connect();
  streaming->send(chat_request());
  w.pass(25ms);
  w.workers[0]->handler = &never_answer;
  auto detached = w.connect();
  detached->send(post("/v1/chat", "{}"));
  w.settle();
  auto waiting = w.connect();
  waiting->send(get("/b"));
  auto idle = w.connect();
  auto half = w.connect();
  half->send("GET /a HT");
  w.settle();
  detached->close();
  w.settle();
  CHECK(w.tickets() == 2);
  w.proxy->cut();
  w.settle();
  CHECK(w.proxy->connections() == 0);
  CHECK(w.proxy->exchanges() == 0);
  CHECK(w.tickets() == 0);
  CHECK(streaming->end().has_value());
  CHECK_FALSE(parse_message(streaming->received())->whole);
  CHECK(waiting->answer().status() == 503);
  CHECK(idle->end().has_value());
  CHECK(half->end().has_value());
}

TEST_CASE("farewell: a connection that comes after the cut is not served") {
  World w;
  w.proxy->cut();
  auto late = w.connect();
  w.settle();
  CHECK(w.proxy->connections() == 0);
  CHECK(late->end().has_value());
}

}  // namespace
}  // namespace perigee::test
