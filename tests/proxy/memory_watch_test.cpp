// The bound on all buffers together: who is ended when it is passed, and who is not.
#include "world.h"

namespace perigee::test {
namespace {

using coro::Task;
using telemetry::Count;

constexpr std::uint64_t kMiB = 1024 * 1024;

WorldOptions bounded(std::uint64_t bytes) {
  WorldOptions o;
  o.config.memory.buffers = bytes;
  o.config.client.stalled = std::chrono::hours(1);  // not what ends them here
  o.client_rules.capacity = 4096;
  return o;
}

Task<bool> pour(Worker&, WorkerConnection& c, const Message&) {
  c.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
  const std::string piece(10'000, 'y');
  for (int i = 0; i < 100; ++i) {
    c.send(piece);
    if (c.stream->backlog() > net::kBacklogHigh) {
      const auto drained = co_await c.stream->drained();
      if (!drained) co_return false;
    }
  }
  co_return true;
}

TEST_CASE("memory: slow readers are ended where all of them together hold too much; others go on") {
  World w(bounded(kMiB));
  w.workers[0]->handler = &pour;
  std::vector<std::unique_ptr<TestClient>> deaf;
  for (int i = 0; i < 30; ++i) {
    deaf.push_back(w.connect());
    deaf.back()->read(false);
    deaf.back()->send(get("/big"));
  }
  auto reader = w.connect();
  reader->send(get("/big"));
  w.pass(5s);
  CHECK(reader->answer().body.size() == 1'000'000);
  const std::uint64_t shed = w.count(Count::shed_for_memory);
  CHECK(shed >= 10);
  CHECK(shed <= 25);  // no more than needed
  CHECK(w.logged("status") == "200");
  CHECK(w.outcomes(telemetry::Reason::throttled) == shed);
  // The slots of those who were ended are free, the others still have theirs.
  CHECK(w.tickets() == 30 - shed);
  // A cut answer never looks whole.
  int cut = 0;
  for (auto& c : deaf) {
    c->read(true);
    w.pass(100ms);
    if (c->end().has_value()) {
      ++cut;
      CHECK(c->end() == ErrorKind::reset);
    }
  }
  CHECK(cut == static_cast<int>(shed));
}

TEST_CASE("memory: below the bound nobody is ended") {
  World w(bounded(64 * kMiB));
  w.workers[0]->handler = &pour;
  std::vector<std::unique_ptr<TestClient>> deaf;
  for (int i = 0; i < 30; ++i) {
    deaf.push_back(w.connect());
    deaf.back()->read(false);
    deaf.back()->send(get("/big"));
  }
  w.pass(60s);
  CHECK(w.count(Count::shed_for_memory) == 0);
  CHECK(w.tickets() == 30);
}

TEST_CASE("memory: bodies that wait count, and their senders hear why") {
  WorldOptions o = bounded(kMiB);
  o.slots = 1;
  World w(o);
  w.workers[0]->handler = &never_answer;
  auto first = w.connect();
  first->send(chat_request());
  w.settle();
  std::vector<std::unique_ptr<TestClient>> waiting;
  for (int i = 0; i < 30; ++i) {
    waiting.push_back(w.connect());
    waiting.back()->send(post("/v1/chat", "{\"messages\":\"" + std::string(60'000, 'x') + "\"}"));
  }
  w.pass(2s);
  CHECK(w.count(Count::shed_for_memory) > 5);
  int told = 0;
  for (auto& c : waiting) {
    if (c->received().empty()) continue;
    ++told;
    CHECK(c->answer().status() == 503);
    CHECK(c->answer().field("x-perigee-reason") == "throttled");
    CHECK_FALSE(c->answer().field("retry-after").empty());
  }
  CHECK(told == static_cast<int>(w.count(Count::shed_for_memory)));
  CHECK(w.workers[0]->requests.size() == 1);
}

}  // namespace
}  // namespace perigee::test
