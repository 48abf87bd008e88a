// One request on one connection: the clock of the head, nonsense, answers that come too early or twice.
#include "world.h"

namespace perigee::test {
namespace {

using coro::Task;
using telemetry::Count;
using telemetry::Reason;

TEST_CASE("attempt: no head in time is 504: 60 s for a stream, 300 s for anything else") {
  for (const bool stream : {true, false}) {
    World w;
    w.workers[0]->handler = &never_answer;
    auto c = w.connect();
    c->send(stream ? chat_request() : post("/v1/chat", "{}"));
    w.pass(stream ? 59s : 299s);
    CHECK(c->received().empty());
    w.pass(2s);
    CHECK(c->answer().status() == 504);
    CHECK(c->answer().field("x-perigee-reason") == "upstream_timeout");
    CHECK(w.backend(0).failures == 1);
    CHECK_FALSE(c->end());
    c->send(get("/health"));  // the connection is good for another
    w.settle();
  }
}

struct Nonsense {
  std::string what;
  std::string_view bytes;
};

TEST_CASE("attempt: nonsense from a worker is 502, and that connection is never used again") {
  const Nonsense cases[] = {
      {"garbage", "SSH-2.0-OpenSSH_9.2\r\n\r\n"},
      {"both lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
      {"unequal lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc"},
      {"bare line feeds", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok"},
      {"a 101 that nobody asked for",
       "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"},
      {"status 99", "HTTP/1.1 99 No\r\nContent-Length: 0\r\n\r\n"},
  };
  for (const Nonsense& n : cases) {
    CAPTURE(n.what);
    World w;
    static std::string_view say;
    say = n.bytes;
    w.workers[0]->handler = [](Worker& self, WorkerConnection& c, const Message& r) -> Task<bool> {
      if (self.requests.size() > 1) co_return co_await say_ok(self, c, r);
      c.send(say);
      co_return true;
    };
    CHECK(w.ask(post("/v1/chat", "{}")).status() == 502);
    CHECK(w.ask(post("/v1/chat", "{}")).status() == 200);
    CHECK(w.workers[0]->accepted == 2);
    CHECK(w.count(Count::upstream_reuses) == 0);
  }
}

TEST_CASE("attempt: bytes behind an answer never reach anybody") {
  static constexpr std::string_view kStray = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen";
  for (const bool later : {false, true}) {
    for (const bool bytewise : {false, true}) {
      WorldOptions o;
      if (bytewise) o.worker_rules = net::byte_by_byte();
      World w(o);
      static bool wait;
      wait = later;
      w.workers[0]->handler = [](Worker& self, WorkerConnection& c, const Message& r) -> Task<bool> {
        (void)co_await say_ok(self, c, r);
        if (self.requests.size() > 1) co_return true;
        if (wait) co_await nap(100ms);
        c.send(kStray);
        co_return true;
      };
      auto a = w.connect();
      a->send(get("/a"));
      w.pass(500ms);
      auto b = w.connect();
      b->send(get("/b"));
      w.pass(500ms);
      CHECK(a->answer().body == "w0 GET /a ");
      CHECK(b->answer().body == "w0 GET /b ");
    }
  }
}

TEST_CASE("attempt: an answer before the request ended goes out, and then both connections end") {
  WorldOptions o;
  o.kind = WorkerKind::http;
  World w(o);
  w.workers[0]->script = [](Worker& self, WorkerConnection& c) -> Task<void> {
    (void)co_await c.more();
    c.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\nno way");
    for (;;) {
      auto got = co_await c.stream->read();
      if (!got) {
        if (got.error().kind == ErrorKind::eof) ++self.ended_by_peer;
        co_return;
      }
    }
  };
  constexpr std::size_t kSize = 1024UL * 1024;
  auto c = w.connect();
  c->send("POST /up HTTP/1.1\r\nHost: o\r\nContent-Length: " + std::to_string(kSize) + "\r\n\r\n" +
          std::string(100'000, 'x'));
  c->link.stall(0, true);  // the answer is on its way for a while
  w.pass(10ms);
  // The client goes on sending meanwhile, as clients do; the answer must survive that.
  c->send(std::string(300'000, 'x'));
  w.pass(10ms);
  c->link.stall(0, false);
  w.pass(10s);
  CHECK(c->answer().status() == 403);
  CHECK(c->answer().body == "no way");
  CHECK(c->answer().field("connection") == "close");
  CHECK(c->end() == ErrorKind::eof);
  CHECK(w.workers[0]->connections == 0);
  CHECK(w.workers[0]->ended_by_peer == 1);
  CHECK(w.tickets() == 0);
}

TEST_CASE("attempt: the worker resets in the middle of an upload: one 502") {
  WorldOptions o;
  o.kind = WorkerKind::http;
  World w(o);
  w.workers[0]->script = [](Worker&, WorkerConnection& c) -> Task<void> {
    (void)co_await c.more();
    c.stream->reset_on_close();
  };
  auto c = w.connect();
  c->send("POST /up HTTP/1.1\r\nHost: o\r\nContent-Length: 1000000\r\n\r\n" + std::string(200'000, 'x'));
  w.pass(10s);
  CHECK(c->answer().status() == 502);
  CHECK(c->end().has_value());
  CHECK(w.workers[0]->accepted == 1);
}

TEST_CASE("attempt: the head of an answer in two parts, with its body behind it") {
  World w;
  w.workers[0]->handler = [](Worker&, WorkerConnection& c, const Message&) -> Task<bool> {
    c.send("HTTP/1.1 200 OK\r\nContent-Le");
    co_await nap(10ms);
    c.send("ngth: 5\r\n\r\nhel");
    co_await nap(10ms);
    c.send("lo");
    co_return true;
  };
  CHECK(w.ask(get("/a")).body == "hello");
  CHECK(w.ask(get("/b")).body == "hello");
  CHECK(w.workers[0]->accepted == 1);
}

TEST_CASE("attempt: an interim answer without end is bounded by the clock of the head") {
  World w;
  w.workers[0]->handler = [](Worker&, WorkerConnection& c, const Message&) -> Task<bool> {
    for (;;) {
      c.send("HTTP/1.1 102 Processing\r\n\r\n");
      const auto me = co_await coro::here();
      const auto slept = co_await coro::sleep_for(me, 1s);
      if (!slept || c.link.closed(0)) co_return false;
    }
  };
  auto c = w.connect();
  c->send(chat_request());
  w.pass(70s);
  CHECK(parse_message(c->received())->status() == 504);
}

}  // namespace
}  // namespace perigee::test
