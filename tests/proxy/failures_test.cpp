// Every operation of a request fails in turn: nothing leaks, and the client gets one well-formed answer or a
// visible cut. (World's destructor does the looking for what is left.)
#include "world.h"

namespace perigee::test {
namespace {

using coro::Task;

struct Scene {
  std::string name;
  std::string request;
  Handler handler;
  WorkerKind kind = WorkerKind::orbit;
};

Task<bool> chunks(Worker&, WorkerConnection& c, const Message&) {
  c.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (int i = 0; i < 3; ++i) {
    co_await nap(1ms);
    c.send(chunk(std::string(20'000, 'x')));
  }
  c.send(kLastChunk);
  co_return true;
}

std::vector<Scene> scenes() {
  return {
      {"a small answer", get("/v1/models"), &say_ok},
      {"a post", post("/v1/chat", "{}"), &say_ok},
      {"a stream", chat_request(), &chat},
      {"a chunked answer", get("/big"), &chunks},
      {"an upload", post("/up", std::string(200'000, 'u')), &say_ok, WorkerKind::http},
      {"a stop", post("/v1/chat/stop", R"({"request_id":"r"})"), &say_ok},
      {"an old client", "GET /a HTTP/1.0\r\n\r\n", &chunks},
  };
}

void judge(const TestClient& c, const net::FailPoint& point) {
  const auto m = parse_message(c.received());
  CAPTURE(point.count());
  if (!m) {
    CHECK(c.end().has_value());  // not even a head: the connection broke
    return;
  }
  CHECK((m->status() == 200 || m->status() == 502 || m->status() == 503));
  if (m->until_close) {
    CHECK(
        (c.end() == ErrorKind::reset || m->body.size() == 60'000));  // an orderly end only where it is whole
  } else if (m->whole) {
    CHECK(m->bytes == c.received().size());  // one answer, nothing behind it
  } else {
    CHECK(c.end().has_value());  // cut, and visibly so
  }
}

TEST_CASE("failures: at operation 1, 2, 3 … of every kind of exchange") {
  for (const Scene& scene : scenes()) {
    for (const int workers : {1, 2}) {
      CAPTURE(scene.name);
      std::uint64_t whole = 0;
      const std::uint64_t operations = net::for_each_failure([&](net::FailPoint& point) {
        WorldOptions o;
        o.workers = workers;
        o.kind = scene.kind;
        o.fail = o.client_rules.fail = o.worker_rules.fail = &point;
        World w(o);
        for (auto& worker : w.workers)
          worker->handler = scene.handler;
        auto c = w.connect();
        c->send(scene.request);
        w.pass(15s);
        judge(*c, point);
        const auto m = parse_message(c->received());
        if (m && (m->whole || c->end() == ErrorKind::eof) && m->status() == 200) ++whole;
        CHECK(w.tickets() == 0);
        c->close();
        w.pass(1s);
      });
      CHECK(operations >= 6);
      CHECK(whole >= 1);
    }
  }
}

}  // namespace
}  // namespace perigee::test
