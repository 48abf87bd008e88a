// Heart-beats: comments to a client of a stream that hears nothing; what becomes of an answer that cannot
// follow them.
#include "world.h"

namespace perigee::test {
namespace {

using coro::Task;

constexpr std::string_view kBeat = ": heart-beat\n\n";

WorldOptions beating(std::uint32_t slots = 48) {
  WorldOptions o;
  o.slots = slots;
  o.config.heart_beats = 2s;
  return o;
}

std::size_t beats(std::string_view text, std::string_view beat = kBeat) {
  std::size_t n = 0;
  for (std::size_t at = text.find(beat); at != std::string_view::npos; at = text.find(beat, at + 1)) ++n;
  return n;
}

// After `go` the head, then a token every three seconds, the second in two halves a long way apart.
Task<bool> slow_chat(Worker& w, WorkerConnection& c, const Message&) {
  const auto may = co_await w.go.wait();
  if (!may) co_return false;
  c.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
  co_await nap(3s);
  c.send(chunk("data: {\"response\": \"a\", \"done\": false}\n\n"));
  co_await nap(1s);
  c.send(chunk("data: {\"response\": \"b\", "));
  co_await nap(5s);
  c.send(chunk("\"done\": false}\n\n"));
  co_await nap(1s);
  c.send(chunk("data: {\"done\": true}\n\n") + std::string(kLastChunk));
  co_return true;
}

Task<bool> refuse_after_go(Worker& w, WorkerConnection& c, const Message&) {
  const auto may = co_await w.go.wait();
  if (!may) co_return false;
  c.send("HTTP/1.1 429 Too Many Requests\r\nContent-Length: 4\r\n\r\nslow");
  co_return true;
}

TEST_CASE("heart-beats: none unless written") {
  World w;
  w.workers[0]->handler = &slow_chat;
  auto c = w.connect();
  c->send(chat_request());
  w.pass(20s);
  CHECK(c->received().empty());
  w.workers[0]->go.set();
  w.pass(20s);
  CHECK(beats(c->answer().body) == 0);
}

TEST_CASE("heart-beats: while a worker is silent, before its head and between its events") {
  World w(beating());
  w.workers[0]->handler = &slow_chat;
  auto c = w.connect();
  c->send(chat_request());
  w.pass(1900ms);
  CHECK(c->received().empty());
  w.pass(3s);
  CHECK(beats(c->received()) == 2);
  CHECK(c->received().starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream"));
  w.workers[0]->go.set();
  w.pass(20s);
  const Message answer = c->answer();
  CHECK(answer.status() == 200);
  CHECK(answer.body.find("HTTP/1.1") == std::string::npos);  // no second head
  CHECK(answer.body.ends_with("data: {\"done\": true}\n\n"));
  // Never inside an event.
  CHECK(answer.body.find("data: {\"response\": \"b\", \"done\": false}\n\n") != std::string::npos);
  CHECK(w.logged("stream") == "completed");
  CHECK(w.logged("reason") == "served");
  // The connection goes on.
  c->send(chat_request());
  w.pass(20s);
  CHECK(c->answers().size() == 2);
}

TEST_CASE("heart-beats: in the queue, and a retry behind them") {
  World w(beating(1));
  w.workers[0]->handler = &slow_chat;
  auto first = w.connect();
  first->send(chat_request());
  w.settle();
  auto second = w.connect();
  second->send(chat_request());
  w.pass(5s);
  CHECK(w.tickets() == 1);
  // While it waits they tell its place; an ORBIT worker's pace says how long that takes.
  CHECK(beats(second->received()) == 0);
  CHECK(beats(second->received(), ": position 1, about 1 s\n\n\r\n") == 2);
  // The first attempt of the second dies before its head; the next one serves it.
  w.workers[0]->handler = &reset_at_once;
  first->close();
  w.settle();
  w.workers[0]->handler = &chat;
  w.pass(5s);
  const Message answer = second->answer();
  CHECK(answer.whole);
  CHECK(answer.body.find("\"done\": true") != std::string::npos);
  CHECK(w.logged("stream") == "completed");
}

TEST_CASE("heart-beats: an answer that is no stream becomes an event, and the stream ends in order") {
  struct Row {
    const char* target;
    const char* says;
  };
  for (const Row& row : {Row{"/v1/chat", "data: {\"error\": \"The worker answered 429.\", \"done\": true}\n\n"},
                         Row{"/v1/chat/completions", "The worker answered 429."}}) {
    World w(beating());
    w.workers[0]->handler = &refuse_after_go;
    auto c = w.connect();
    c->send(post(row.target, R"({"messages":[],"stream":true})"));
    w.pass(3s);
    w.workers[0]->go.set();
    w.pass(1s);
    const Message answer = c->answer();
    CHECK(answer.whole);
    CHECK(answer.status() == 200);
    CHECK(answer.body.find(row.says) != std::string::npos);
    CHECK(w.logged("reason") == "upstream_failed");
    CHECK(w.logged("stream") == "failed");
    CHECK(w.tickets() == 0);
    CHECK(w.workers[0]->requests.size() == 1);  // a refusal is not tried again
  }
}

TEST_CASE("heart-beats: a wait that ends in a refusal is told by an event") {
  WorldOptions o = beating(1);
  o.config.queue_wait.by_class.set(RequestClass::chat, 5s);
  World w(o);
  w.workers[0]->handler = &never_answer;
  auto first = w.connect();
  first->send(chat_request());
  w.settle();
  auto second = w.connect();
  second->send(chat_request());
  w.pass(6s);
  const Message answer = second->answer();
  CHECK(answer.whole);
  CHECK(answer.body.find("\"error\"") != std::string::npos);
  CHECK(w.logged("reason") == "queue_timeout");
}

TEST_CASE("heart-beats: only where the answer is sure to be an event stream that may have chunks") {
  struct Row {
    std::string request;
    bool beats;
  };
  const std::string http10 = "POST /v1/chat HTTP/1.0\r\nContent-Length: 15\r\n\r\n{\"stream\":true}";
  for (const Row& row : {Row{post("/v1/chat", "{}"), false}, Row{http10, false}, Row{get("/api/skills"), false},
                         Row{get("/api/events", "Accept: text/event-stream\r\n"), true},
                         Row{post("/a2a", R"({"method":"tasks/sendSubscribe"})"), false}}) {
    World w(beating());
    w.workers[0]->handler = &never_answer;
    auto c = w.connect();
    c->send(row.request);
    w.pass(5s);
    INFO(row.request);
    CHECK((beats(c->received()) > 0) == row.beats);
  }
}

TEST_CASE("heart-beats: a client that leaves between them") {
  World w(beating());
  w.workers[0]->handler = &never_answer;
  auto c = w.connect();
  c->send(chat_request());
  w.pass(5s);
  c->close();
  w.settle();
  CHECK(w.tickets() == 0);
  CHECK(w.logged("reason") == "client_gone");
}

}  // namespace
}  // namespace perigee::test
