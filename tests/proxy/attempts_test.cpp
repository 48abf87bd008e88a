// Tickets, connections, and when another try is safe.
#include "world.h"

namespace perigee::test {
namespace {

using coro::Task;
using telemetry::Count;
using telemetry::Reason;
using Answer = net::MemoryNetwork::Answer;

WorldOptions with_workers(int n) {
  WorldOptions o;
  o.workers = n;
  return o;
}

// How many requests both workers have had.
std::size_t seen(const World& w) {
  std::size_t n = 0;
  for (const auto& worker : w.workers)
    n += worker->requests.size();
  return n;
}

TEST_CASE("attempts: who finds no free slot waits, in order, and gets the one that is given back") {
  WorldOptions o;
  o.slots = 1;
  World w(o);
  w.workers[0]->handler = &wait_then_ok;
  auto a = w.connect();
  auto b = w.connect();
  auto c = w.connect();
  a->send(get("/a"));
  b->send(get("/b"));
  c->send(get("/c"));
  w.settle();
  CHECK(w.workers[0]->requests.size() == 1);
  CHECK(w.tickets() == 1);
  w.workers[0]->go.set();
  w.pass(100ms);
  REQUIRE(w.workers[0]->requests.size() == 3);
  CHECK(w.workers[0]->requests[1].target() == "/b");
  CHECK(w.workers[0]->requests[2].target() == "/c");
  CHECK(c->answer().status() == 200);
}

TEST_CASE("attempts: waiting longer than queue_wait is 503 queue_timeout") {
  WorldOptions o;
  o.slots = 1;
  World w(o);
  w.workers[0]->handler = &never_answer;
  auto a = w.connect();
  auto b = w.connect();
  a->send(post("/v1/embeddings", "{}"));
  w.settle();
  b->send(post("/v1/embeddings", "{}"));
  w.pass(9s);
  CHECK(b->received().empty());
  w.pass(2s);
  CHECK(b->answer().status() == 503);
  CHECK(b->answer().field("x-perigee-reason") == "queue_timeout");
  CHECK_FALSE(b->answer().field("retry-after").empty());
  CHECK_FALSE(b->end());  // the connection goes on
}

TEST_CASE("attempts: a full queue is 503 queue_full at once") {
  WorldOptions o;
  o.slots = 1;
  o.policy.queue.entries = 1;
  o.policy.queue.extra_entries = 0;
  World w(o);
  w.workers[0]->handler = &wait_then_ok;
  auto a = w.connect();
  auto b = w.connect();
  auto c = w.connect();
  for (auto* client : {a.get(), b.get(), c.get()}) {
    client->send(post("/v1/embeddings", "{}"));
    w.settle();
  }
  CHECK(c->answer().status() == 503);
  CHECK(c->answer().field("x-perigee-reason") == "queue_full");
  w.workers[0]->go.set();
  w.pass(1s);
  CHECK(b->answer().status() == 200);
}

TEST_CASE("attempts: a client that leaves while it waits is taken out of the queue at once") {
  WorldOptions o;
  o.slots = 1;
  World w(o);
  w.workers[0]->handler = &wait_then_ok;
  auto a = w.connect();
  auto b = w.connect();
  auto c = w.connect();
  for (auto* client : {a.get(), b.get(), c.get()}) {
    client->send(post("/v1/embeddings", client == b.get() ? "b" : "x"));
    w.settle();
  }
  b->close();
  w.settle();
  CHECK(w.logged("reason") == "client_gone");
  CHECK(w.dispatcher.snapshot().cancelled == 1);
  w.workers[0]->go.set();
  w.pass(1s);
  CHECK(c->answer().status() == 200);
  CHECK(w.workers[0]->requests.size() == 2);
}

TEST_CASE("attempts: with an unread upload in the way a client that left is noticed when its turn comes") {
  WorldOptions o;
  o.slots = 1;
  o.kind = WorkerKind::http;
  World w(o);
  w.workers[0]->handler = &wait_then_ok;
  auto a = w.connect();
  a->send(get("/a"));
  w.settle();
  auto b = w.connect();
  b->send("POST /up HTTP/1.1\r\nHost: o\r\nContent-Length: 500000\r\n\r\n" + std::string(200'000, 'x'));
  w.settle();
  b->close();
  w.workers[0]->go.set();
  w.pass(1s);
  CHECK(w.workers[0]->requests.size() == 1);
  CHECK(w.outcomes(Reason::client_gone) == 1);
}

TEST_CASE("attempts: a refused connect goes to another worker, whatever the request, and never back") {
  for (const std::string& request : {get("/v1/models"), post("/v1/chat", "{}"), chat_request()}) {
    World w(with_workers(2));
    w.workers[0]->host().answer = Answer::refuse;
    w.workers[1]->host().answer = Answer::refuse;
    auto c = w.connect();
    c->send(request);
    w.pass(1s);
    CHECK((c->answer().status() == 502 || c->answer().status() == 503));  // refused, or both known to be down
    CHECK(w.workers[0]->host().connects >= 1);
    CHECK(w.workers[1]->host().connects >= 1);
    // One of them is well again: the request finds it, wherever it is sent first.
    for (const std::size_t well : {0U, 1U}) {
      World v(with_workers(2));
      v.workers[1 - well]->host().answer = Answer::refuse;
      for (int i = 0; i < 4; ++i)
        CHECK(v.ask(request).status() == 200);
      CHECK(v.workers[well]->requests.size() == 4);
    }
  }
}

TEST_CASE("attempts: a worker that does not answer the connect costs its clock and is left out") {
  World w(with_workers(2));
  w.workers[0]->host().answer = Answer::hang;
  auto c = w.connect();
  auto d = w.connect();
  c->send(post("/v1/chat", "{}"));
  d->send(post("/v1/chat", "{}"));
  w.pass(1900ms);
  const auto early = c->answers().size() + d->answers().size();
  CHECK(early == 1);
  w.pass(200ms);
  CHECK(c->answer().status() == 200);
  CHECK(d->answer().status() == 200);
  CHECK(w.workers[1]->requests.size() == 2);
}

TEST_CASE("attempts: only worker hangs in the connect: 502, and nothing was sent") {
  World w;
  w.workers[0]->host().answer = Answer::hang;
  const Message m = w.ask(post("/v1/chat", "{}"), 10s);
  CHECK(m.status() == 502);
  CHECK(m.field("x-perigee-reason") == "upstream_failed");
}

TEST_CASE("attempts: a client that leaves during the connect leaves nothing behind") {
  World w;
  w.workers[0]->host().answer = Answer::hang;
  auto c = w.connect();
  c->send(chat_request());
  w.settle();
  CHECK(w.tickets() == 1);
  c->close();
  w.settle();
  CHECK(w.tickets() == 0);
  CHECK(w.logged("reason") == "client_gone");
}

struct Rule {
  std::string what;
  std::string request;
  bool again;
};

TEST_CASE("attempts: a reset before the head is tried again as the route's replay rule says") {
  const Rule rules[] = {
      {"idempotent", get("/v1/models"), true},
      {"unsent", post("/v1/chat", R"({"messages":[]})"), false},
      {"no_head", chat_request(), true},
  };
  for (const Rule& rule : rules) {
    CAPTURE(rule.what);
    World w(with_workers(2));
    for (auto& worker : w.workers) {
      worker->handler = [](Worker& self, WorkerConnection& c, const Message& r) -> Task<bool> {
        if (seen(self.world) == 1) co_return co_await reset_at_once(self, c, r);
        co_return co_await say_ok(self, c, r);
      };
    }
    const Message m = w.ask(rule.request);
    CHECK(m.status() == (rule.again ? 200 : 502));
    CHECK(seen(w) == (rule.again ? 2U : 1U));
    CHECK(w.count(Count::retries) == (rule.again ? 1U : 0U));
    // The second try was on the other worker, and the request was the same.
    if (rule.again) {
      REQUIRE(w.workers[0]->requests.size() == 1);
      REQUIRE(w.workers[1]->requests.size() == 1);
      CHECK(w.workers[0]->requests[0].body == w.workers[1]->requests[0].body);
    }
  }
}

TEST_CASE("attempts: `never` and the number of tries are kept") {
  WorldOptions o = with_workers(4);
  o.config.classes.at(RequestClass::files).replay = Replay::never;
  World w(o);
  for (auto& worker : w.workers)
    worker->handler = &reset_at_once;
  CHECK(w.ask(get("/api/files")).status() == 502);
  CHECK(seen(w) == 1);
  CHECK(w.ask(get("/api/none")).status() == 502);
  CHECK(seen(w) == 4);  // once and two more
}

TEST_CASE("attempts: a reused connection that dies under the request") {
  World w;
  w.workers[0]->handler = [](Worker& self, WorkerConnection& c, const Message& r) -> Task<bool> {
    if (self.requests.size() == 2) co_return co_await close_at_once(self, c, r);
    co_return co_await say_ok(self, c, r);
  };
  CHECK(w.ask(get("/a")).status() == 200);
  CHECK(w.ask(get("/b")).status() == 200);  // tried again on a fresh one
  CHECK(w.workers[0]->requests.size() == 3);
  CHECK(w.backend(0).failures == 0);
}

TEST_CASE("attempts: 429 and 503 of a worker are its own words: passed on, not tried again") {
  for (const std::string_view status : {"429 Too Many Requests", "503 Service Unavailable"}) {
    World w(with_workers(2));
    static std::string_view say;
    say = status;
    for (auto& worker : w.workers) {
      worker->handler = [](Worker&, WorkerConnection& c, const Message&) -> Task<bool> {
        c.send("HTTP/1.1 " + std::string(say) + "\r\nContent-Length: 2\r\n\r\n{}");
        co_return true;
      };
    }
    const Message m = w.ask(get("/v1/models"));
    CHECK(std::to_string(m.status()) == status.substr(0, 3));
    CHECK(m.field("x-perigee-reason").empty());
    CHECK(seen(w) == 1);
  }
}

TEST_CASE("attempts: no worker is up: 503 no_backend at once, for those who wait as well") {
  WorldOptions o;
  o.slots = 1;
  World w(o);
  w.workers[0]->handler = &never_answer;
  auto a = w.connect();
  a->send(get("/a"));
  w.settle();
  auto b = w.connect();
  b->send(get("/b"));
  w.settle();
  CHECK(b->received().empty());
  w.probe(0, balancing::ProbeResult::refused);
  w.settle();
  CHECK(b->answer().status() == 503);
  CHECK(b->answer().field("x-perigee-reason") == "no_backend");
  CHECK(w.ask(get("/c")).status() == 503);
}

TEST_CASE("attempts: the client leaves between two tries") {
  World w(with_workers(2));
  for (auto& worker : w.workers)
    worker->handler = &reset_at_once;
  auto c = w.connect();
  c->send(get("/v1/models"));
  w.settle();  // the first try has failed; the pause before the second runs
  c->close();
  w.settle();
  CHECK(w.logged("reason") == "client_gone");
  CHECK(seen(w) == 1);
}

}  // namespace
}  // namespace perigee::test
