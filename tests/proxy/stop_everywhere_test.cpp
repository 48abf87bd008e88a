// POST /v1/chat/stop: all workers are asked, the one that cancelled wins.
#include "world.h"

namespace perigee::test {
namespace {

using coro::Task;

const std::string kStopRequest = post("/v1/chat/stop", R"({"session_id":"s","request_id":"r-7"})");

Task<bool> knows_it(Worker&, WorkerConnection& c, const Message&) {
  const std::string body = R"({"status":"cancelled","request_id":"r-7"})";
  c.send("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  co_return true;
}
Task<bool> knows_nothing(Worker&, WorkerConnection& c, const Message&) {
  const std::string body = R"({"status":"not_found"})";
  c.send("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  co_return true;
}

WorldOptions three() {
  WorldOptions o;
  o.workers = 3;
  return o;
}

TEST_CASE("stop: `cancelled` wins, whichever worker says it and however late the others are") {
  for (std::size_t who = 0; who < 3; ++who) {
    World w(three());
    for (std::size_t i = 0; i < 3; ++i)
      w.workers[i]->handler = i == who ? &knows_it : i == 1 ? &never_answer : &knows_nothing;
    const Message m = w.ask(kStopRequest);
    CHECK(m.status() == 200);
    CHECK(m.body.find("cancelled") != std::string::npos);
    for (const auto& worker : w.workers)
      CHECK(worker->requests.size() == 1);
    CHECK(w.tickets() == 0);
    CHECK(w.stopped.contains(proxy::stream_id_hash("r-7")));
  }
}

TEST_CASE("stop: nobody knows it: their answer; everybody fails: 502; one hangs: ten seconds") {
  {
    World w(three());
    for (auto& worker : w.workers)
      worker->handler = &knows_nothing;
    CHECK(w.ask(kStopRequest).body.find("not_found") != std::string::npos);
  }
  {
    World w(three());
    for (auto& worker : w.workers)
      worker->handler = &reset_at_once;
    CHECK(w.ask(kStopRequest).status() == 502);
  }
  {
    World w(three());
    for (auto& worker : w.workers)
      worker->handler = &knows_nothing;
    w.workers[2]->handler = &never_answer;
    auto c = w.connect();
    c->send(kStopRequest);
    w.pass(9s);
    CHECK(c->received().empty());
    w.pass(2s);
    CHECK(c->answer().status() == 200);
    CHECK(w.tickets() == 0);
  }
}

TEST_CASE("stop: full workers are asked too, and no worker at all is 503") {
  WorldOptions o = three();
  o.slots = 1;
  World w(o);
  std::vector<std::unique_ptr<TestClient>> busy;
  for (auto& worker : w.workers)
    worker->handler = &never_answer;
  for (int i = 0; i < 6; ++i) {
    busy.push_back(w.connect());
    busy.back()->send(chat_request());
    w.settle();
  }
  for (auto& worker : w.workers)
    worker->handler = &knows_it;
  CHECK(w.ask(kStopRequest).status() == 200);
  for (int i = 0; i < 3; ++i)
    w.probe(i, balancing::ProbeResult::refused);
  const Message m = w.ask(kStopRequest);
  CHECK(m.status() == 503);
  CHECK(m.field("x-perigee-reason") == "no_backend");
}

TEST_CASE("stop: the client leaves meanwhile") {
  World w(three());
  for (auto& worker : w.workers)
    worker->handler = &never_answer;
  auto c = w.connect();
  c->send(kStopRequest);
  w.settle();
  CHECK(w.tickets() == 3);
  c->close();
  w.settle();
  CHECK(w.tickets() == 0);
  CHECK(w.logged("reason") == "client_gone");
}

}  // namespace
}  // namespace perigee::test
