// Kept connections towards workers: how long, which one, and what may not be used again.
#include "world.h"

namespace perigee::test {
namespace {

using coro::Task;
using telemetry::Count;

TEST_CASE("pool: an idle connection is closed after four seconds, with FIN") {
  World w;
  (void)w.ask(get("/a"));
  w.pass(3900ms);
  CHECK(w.workers[0]->connections == 1);
  w.pass(200ms);
  CHECK(w.workers[0]->connections == 0);
  CHECK(w.workers[0]->ended_by_peer == 1);
  CHECK(w.workers[0]->reset_by_peer == 0);
}

TEST_CASE("pool: a request that cannot be repeated takes only what was in use within a second") {
  World w;
  (void)w.ask(get("/a"));
  w.pass(900ms);
  (void)w.ask(post("/v1/chat", "{}"));
  CHECK(w.workers[0]->accepted == 1);
  w.pass(1100ms);
  (void)w.ask(post("/v1/chat", "{}"));
  CHECK(w.workers[0]->accepted == 2);
  w.pass(1100ms);
  (void)w.ask(get("/b"));
  CHECK(w.workers[0]->accepted == 2);
}

TEST_CASE("pool: a connection that the worker ended, or spoke on, is not used again") {
  for (const bool speaks : {false, true}) {
    World w;
    static bool spoken;
    spoken = speaks;
    w.workers[0]->handler = [](Worker& self, WorkerConnection& c, const Message& r) -> Task<bool> {
      (void)co_await say_ok(self, c, r);
      if (self.requests.size() > 1) co_return true;
      co_await nap(100ms);
      if (spoken) c.send("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
      co_return spoken;
    };
    CHECK(w.ask(get("/a")).status() == 200);
    w.pass(200ms);
    CHECK(w.ask(get("/b")).body == "w0 GET /b ");
    CHECK(w.workers[0]->accepted == 2);
    CHECK(w.count(Count::upstream_reuses) == 0);
  }
}

TEST_CASE("pool: a worker that says close is not kept") {
  World w;
  w.workers[0]->handler = [](Worker&, WorkerConnection& c, const Message&) -> Task<bool> {
    c.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    co_return true;
  };
  CHECK(w.ask(get("/a")).body == "ok");
  CHECK(w.ask(get("/b")).body == "ok");
  CHECK(w.workers[0]->accepted == 2);
}

TEST_CASE("pool: the number of idle ones is bounded") {
  WorldOptions o;
  o.config.upstream.idle_per_worker = 2;
  World w(o);
  w.workers[0]->handler = &wait_then_ok;
  std::vector<std::unique_ptr<TestClient>> clients;
  for (int i = 0; i < 5; ++i) {
    clients.push_back(w.connect());
    clients.back()->send(get("/a"));
  }
  w.pass(50ms);  // an ORBIT worker's starts are paced
  CHECK(w.workers[0]->connections == 5);
  w.workers[0]->go.set();
  w.settle();
  CHECK(w.workers[0]->connections == 2);
}

}  // namespace
}  // namespace perigee::test
