// What a request belongs to: turns and names of sessions, workers that know an id, stops that reach their stream.
#include <map>
#include <set>

#include "world.h"

namespace perigee::test {
namespace {

using coro::Task;

std::string turn(std::string_view session, std::string_view key = "orbit_one", std::string_view more = {}) {
  return chat_request("X-Session-ID: " + std::string(session) + "\r\nX-API-Key: " + std::string(key) + "\r\n" + std::string(more));
}
std::string plain_turn(std::string_view session) {
  return post("/v1/chat", R"({"messages":[{"role":"user","content":"hi"}]})", "X-Session-ID: " + std::string(session) + "\r\n");
}

// Head and request id at once, then nothing until `go`; then the rest.
Task<bool> slow_stream(Worker& w, WorkerConnection& c, const Message&) {
  c.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n" +
         chunk("data: {\"request_id\": \"r-7\"}\n\n") + chunk("data: {\"response\": \"alpha \", \"done\": false}\n\n"));
  const auto went = co_await w.go.wait();
  if (!went) co_return false;
  c.send(chunk("data: {\"done\": true}\n\n") + std::string(kLastChunk));
  co_return true;
}

std::size_t seen(const World& w) {
  std::size_t n = 0;
  for (const auto& worker : w.workers) n += worker->requests.size();
  return n;
}

}  // namespace

TEST_CASE("turns: the next one waits without a ticket until the stream of the last has ended") {
  World w;
  w.workers[0]->handler = &slow_stream;
  auto a = w.connect();
  auto b = w.connect();
  a->send(turn("s"));
  w.settle();
  b->send(turn("s"));
  w.pass(5s);
  CHECK(seen(w) == 1);
  CHECK(w.tickets() == 1);
  CHECK(w.sessions.status().waiting == 1);
  w.workers[0]->go.set();
  w.settle();
  CHECK(seen(w) == 2);
  CHECK(a->answer().whole);
  CHECK(b->answer().whole);
  CHECK(w.count(telemetry::Count::turn_waits) == 1);
  // What it waited for is in the log as time in the queue.
  CHECK(std::stod(w.logged("queue_ms")) >= 5000);
}

TEST_CASE("turns: another key, another session, or no chat waits for nobody") {
  World w;
  w.workers[0]->handler = &slow_stream;
  std::vector<std::unique_ptr<TestClient>> clients;
  for (const std::string& request : {turn("s"), turn("s", "orbit_two"), turn("t"), get("/api/files", "X-Session-ID: s\r\nX-API-Key: orbit_one\r\n")}) {
    clients.push_back(w.connect());
    clients.back()->send(request);
    w.pass(10ms);
  }
  CHECK(seen(w) == 4);
  // The key is found where ORBIT finds it.
  clients.push_back(w.connect());
  clients.back()->send(chat_request("X-Session-ID: s\r\nAuthorization: Bearer orbit_one\r\n"));
  w.settle();
  CHECK(seen(w) == 4);
  w.workers[0]->go.set();
  w.settle();
  CHECK(seen(w) == 5);
}

TEST_CASE("turns: off, nobody waits") {
  WorldOptions o;
  o.config.sessions.turns = false;
  World w(o);
  w.workers[0]->handler = &slow_stream;
  auto a = w.connect();
  auto b = w.connect();
  a->send(turn("s"));
  b->send(turn("s"));
  w.settle();
  CHECK(seen(w) == 2);
}

TEST_CASE("turns: who leaves the line is gone at once, and the order of the others stands") {
  World w;
  w.workers[0]->handler = &slow_stream;
  auto a = w.connect();
  auto b = w.connect();
  auto c = w.connect();
  for (auto* client : {a.get(), b.get(), c.get()}) {
    client->send(turn("s"));
    w.settle();
  }
  CHECK(w.sessions.status().waiting == 2);
  b->close();
  w.settle();
  CHECK(w.sessions.status().waiting == 1);
  CHECK(w.logged("reason") == "client_gone");
  w.workers[0]->go.set();
  w.settle();
  CHECK(seen(w) == 2);
  CHECK(c->answer().whole);
}

TEST_CASE("turns: a client that leaves its stream frees the turn with it") {
  World w;
  w.workers[0]->handler = &slow_stream;
  auto a = w.connect();
  auto b = w.connect();
  a->send(turn("s"));
  w.settle();
  b->send(turn("s"));
  w.settle();
  a->close();
  w.settle();
  CHECK(seen(w) == 2);
}

TEST_CASE("turns: an answer that goes on without its client keeps the turn until the worker is done") {
  World w;
  w.workers[0]->handler = &wait_then_ok;
  auto a = w.connect();
  auto b = w.connect();
  a->send(plain_turn("s"));
  w.settle();
  b->send(plain_turn("s"));
  w.settle();
  a->close();
  w.pass(5s);
  CHECK(seen(w) == 1);
  CHECK(w.tickets() == 1);
  w.workers[0]->go.set();
  w.settle();
  CHECK(seen(w) == 2);
  CHECK(b->answer().status() == 200);
}

TEST_CASE("turns: an attempt that fails, and is answered 502, ends the turn") {
  World w;
  w.workers[0]->handler = &reset_at_once;
  auto a = w.connect();
  auto b = w.connect();
  a->send(plain_turn("s"));
  b->send(plain_turn("s"));
  w.pass(1s);
  CHECK(a->answer().status() == 502);
  CHECK(b->answer().status() == 502);
}

TEST_CASE("turns: the wait for one is bounded by queue_wait, and what is left of it is for the ticket") {
  WorldOptions o;
  o.slots = 1;
  o.config.queue_wait.by_class.set(RequestClass::chat, 10s);
  World w(o);
  w.workers[0]->handler = &slow_stream;
  auto a = w.connect();
  a->send(turn("s"));
  w.settle();
  auto late = w.connect();
  late->send(turn("s"));
  w.pass(9s);
  CHECK(late->received().empty());
  w.pass(2s);
  const Message m = late->answer();
  CHECK(m.status() == 503);
  CHECK(m.field("x-perigee-reason") == "queue_timeout");
  CHECK(std::stoi(m.field("retry-after")) >= 1);
  CHECK(m.body.find("earlier turn") != std::string::npos);
  CHECK(w.count(telemetry::Count::turn_refusals) == 1);
  // Six seconds for the turn leave four for the ticket, which somebody else's stream has.
  auto b = w.connect();
  b->send(turn("s"));
  w.pass(6s);
  auto other = w.connect();
  other->send(turn("t"));
  w.settle();
  a->close();
  w.pass(3s);
  CHECK(b->received().empty());
  w.pass(2s);
  CHECK(b->answer().field("x-perigee-reason") == "queue_timeout");
}

TEST_CASE("turns: too many in one line are refused at once") {
  WorldOptions o;
  o.config.sessions.waiting = 1;
  World w(o);
  w.workers[0]->handler = &slow_stream;
  std::vector<std::unique_ptr<TestClient>> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(w.connect());
    clients.back()->send(turn("s"));
    w.settle();
  }
  CHECK(clients[2]->answer().status() == 503);
  CHECK(clients[2]->answer().field("x-perigee-reason") == "queue_full");
  w.workers[0]->go.set();
  w.settle();
  CHECK(clients[1]->answer().whole);
}

TEST_CASE("turns: who waits for one when the process begins to stop still gets it; who comes then does not") {
  World w;
  w.workers[0]->handler = &slow_stream;
  auto a = w.connect();
  auto b = w.connect();
  auto c = w.connect();
  a->send(turn("s"));
  w.settle();
  b->send(turn("s"));
  w.settle();
  w.dispatcher.set_draining(true);
  c->send(turn("s"));
  w.settle();
  w.workers[0]->go.set();
  w.settle();
  CHECK(b->answer().status() == 200);
  CHECK(c->answer().field("x-perigee-reason") == "draining");
}

TEST_CASE("turns: heart-beats go to who waits for one") {
  WorldOptions o;
  o.config.heart_beats = 2s;
  World w(o);
  w.workers[0]->handler = &slow_stream;
  auto a = w.connect();
  auto b = w.connect();
  a->send(turn("s"));
  w.settle();
  b->send(turn("s"));
  w.pass(5s);
  CHECK(b->received().find(": heart-beat\n\n") != std::string::npos);
  w.workers[0]->go.set();
  w.settle();
  CHECK(b->answer().whole);
  CHECK(b->answer().body.find("alpha") != std::string::npos);
}

// --- affinity --------------------------------------------------------------------------------------------------------

namespace {

WorldOptions four() {
  WorldOptions o;
  o.workers = 4;
  return o;
}

Task<bool> say_unavailable(Worker&, WorkerConnection& c, const Message&) {
  c.send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
  co_return true;
}

std::size_t home_of(World& w, std::string_view session) {
  w.pass(10ms);  // for its pace
  const std::size_t before = seen(w);
  std::vector<std::size_t> counts;
  for (const auto& worker : w.workers) counts.push_back(worker->requests.size());
  CHECK(w.ask(plain_turn(session)).status() == 200);
  CHECK(seen(w) == before + 1);
  for (std::size_t i = 0; i < counts.size(); ++i) {
    if (w.workers[i]->requests.size() != counts[i]) return i;
  }
  return counts.size();
}

}  // namespace

TEST_CASE("affinity: chats of a session find its worker, sessions spread, a lost worker moves only its own") {
  for (const auto affinity : {config::Affinity::session, config::Affinity::hash}) {
    CAPTURE(static_cast<int>(affinity));
    WorldOptions o = four();
    o.config.balancing.affinity = affinity;
    World w(o);
    std::map<std::string, std::size_t> home;
    std::set<std::size_t> used;
    for (int i = 0; i < 40; ++i) {
      const std::string session = "session-" + std::to_string(i);
      home[session] = home_of(w, session);
      used.insert(home[session]);
    }
    CHECK(used.size() == 4);
    for (const auto& [session, worker] : home) CHECK(home_of(w, session) == worker);
    w.probe(2, balancing::ProbeResult::refused);
    for (const auto& [session, worker] : home) {
      const std::size_t now = home_of(w, session);
      CHECK(now != 2);
      if (worker != 2) CHECK(now == worker);
    }
  }
}

TEST_CASE("affinity: first turns go to the workers with least to do, and the next ones where those were served") {
  World w(four());
  for (auto& worker : w.workers) worker->handler = &wait_then_ok;
  std::vector<std::unique_ptr<TestClient>> clients;
  std::map<std::string, std::size_t> home;
  for (int i = 0; i < 8; ++i) {
    clients.push_back(w.connect());
    clients.back()->send(plain_turn("s" + std::to_string(i)));
    w.pass(10ms);
  }
  for (std::size_t i = 0; i < 4; ++i) {
    REQUIRE(w.workers[i]->requests.size() == 2);  // by hash it would be luck
    for (const Message& m : w.workers[i]->requests) home[m.field("x-session-id")] = i;
    w.workers[i]->go.set();
  }
  CHECK(w.sessions.status().homes == 0);  // nothing was served yet
  w.settle();
  CHECK(w.sessions.status().homes == 8);
  for (const auto& [session, worker] : home) CHECK(home_of(w, session) == worker);
  CHECK(w.count(telemetry::Count::sessions_moved) == 0);
}

TEST_CASE("affinity: a session that had to move stays where it moved to") {
  World w(four());
  const std::size_t first = home_of(w, "s");
  w.probe(static_cast<int>(first), balancing::ProbeResult::refused);
  const std::size_t second = home_of(w, "s");
  CHECK(second != first);
  CHECK(w.count(telemetry::Count::sessions_moved) == 1);
  for (int i = 0; i < 3; ++i) w.probe(static_cast<int>(first), balancing::ProbeResult::ok);
  for (int i = 0; i < 8; ++i) CHECK(home_of(w, "s") == second);
  CHECK(w.count(telemetry::Count::sessions_moved) == 1);
}

TEST_CASE("affinity: a worker that answered with an error keeps no session") {
  World w(four());
  for (auto& worker : w.workers) worker->handler = &say_unavailable;
  CHECK(w.ask(plain_turn("s")).status() == 503);
  CHECK(w.sessions.status().homes == 0);
}

TEST_CASE("affinity: neither remembered nor looked for where it is off, by hash, or without a session") {
  for (const auto affinity : {config::Affinity::none, config::Affinity::hash, config::Affinity::session}) {
    WorldOptions o = four();
    o.config.balancing.affinity = affinity;
    World w(o);
    CHECK(w.ask(get("/api/files", "X-Session-ID: s\r\n")).status() == 200);
    CHECK(w.sessions.status().homes == 0);
    home_of(w, "s");
    CHECK(w.sessions.status().homes == (affinity == config::Affinity::session ? 1 : 0));
  }
}

TEST_CASE("affinity: a reload keeps what was learnt") {
  World w(four());
  const std::size_t first = home_of(w, "s");
  WorldOptions changed = four();
  changed.config.balancing.load_bound = 3;
  w.proxy->adopt(w.plan_of(changed.config));
  for (int i = 0; i < 8; ++i) CHECK(home_of(w, "s") == first);
}

TEST_CASE("affinity: a full worker, or one with too much to do, is passed by; `none` spreads one session") {
  {
    WorldOptions o = four();
    o.config.sessions.turns = false;
    o.slots = 1;
    World w(o);
    for (auto& worker : w.workers) worker->handler = &never_answer;
    std::vector<std::unique_ptr<TestClient>> clients;
    for (int i = 0; i < 4; ++i) {
      clients.push_back(w.connect());
      clients.back()->send(plain_turn("s"));
      w.settle();
    }
    for (const auto& worker : w.workers) CHECK(worker->requests.size() == 1);
  }
  WorldOptions o = four();
  o.config.balancing.affinity = config::Affinity::none;
  World w(o);
  std::set<std::size_t> used;
  for (int i = 0; i < 60; ++i) used.insert(home_of(w, "s"));
  CHECK(used.size() == 4);
}

TEST_CASE("affinity: a WebSocket that comes again finds its worker") {
  World w(four());
  const auto upgrade = [&](const std::string& target, const std::string& fields) {
    w.pass(10ms);
    w.ask("GET " + target + " HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + fields + "\r\n");
    for (std::size_t i = 0; i < 4; ++i) {
      if (!w.workers[i]->requests.empty()) return w.workers[i]->requests.clear(), i;
    }
    return std::size_t{4};
  };
  std::set<std::size_t> used;
  for (int i = 0; i < 20; ++i) {
    const std::string voice = "/ws/voice?session_id=v" + std::to_string(i) + "&api_key=orbit_one";
    const std::size_t first = upgrade(voice, {});
    REQUIRE(first < 4);
    used.insert(first);
    CHECK(upgrade(voice, {}) == first);
    const std::string dashboard = "Cookie: dashboard_token=" + std::to_string(i) + "\r\n";
    CHECK(upgrade("/ws/metrics", dashboard) == upgrade("/ws/metrics", dashboard));
  }
  CHECK(used.size() == 4);
}

// --- names ---------------------------------------------------------------------------------------------------------

namespace {

std::string openai(std::string_view messages, std::string_view fields = "Authorization: Bearer orbit_one\r\n") {
  return post("/v1/chat/completions", R"({"model":"orbit","messages":[)" + std::string(messages) + R"(],"stream":false})", fields);
}
constexpr std::string_view kHello = R"({"role":"user","content":"hello"})";

WorldOptions supplying() {
  WorldOptions o;
  o.supply_sessions = true;
  return o;
}

std::string name_given(World& w, const std::string& request) {
  CHECK(w.ask(request).status() == 200);
  return w.workers[0]->requests.back().field("x-session-id");
}

}  // namespace

TEST_CASE("names: a chat without a session gets one that stays through its conversation") {
  World w(supplying());
  const std::string first = name_given(w, openai(kHello));
  CHECK(first.starts_with("pg-"));
  CHECK(first.size() == 35);
  CHECK(w.workers[0]->requests.back().body.find("hello") != std::string::npos);
  const std::string more = std::string(kHello) + R"(,{"role":"assistant","content":"hi"},{"role":"user","content":"and?"})";
  CHECK(name_given(w, openai(more)) == first);
  CHECK(name_given(w, openai(R"({"role":"user","content":"hullo"})")) != first);
  CHECK(name_given(w, openai(R"({"role":"system","content":"x"},)" + std::string(kHello))) != first);
  CHECK(name_given(w, openai(kHello, "Authorization: Bearer orbit_two\r\n")) != first);
  CHECK(name_given(w, openai(kHello, "Authorization: Bearer orbit_one\r\nX-OpenWebUI-Chat-Id: 1\r\n")) != first);
  CHECK(w.count(telemetry::Count::sessions_supplied) == 6);
  w.client_peer = peer_at("10.0.0.9");
  CHECK(name_given(w, openai(kHello)) != first);
}

TEST_CASE("names: people who share an address have one without `by_address`; the client's own is left alone") {
  WorldOptions o = supplying();
  o.config.sessions.by_address = false;
  World w(o);
  const std::string first = name_given(w, openai(kHello));
  w.client_peer = peer_at("10.0.0.9");
  CHECK(name_given(w, openai(kHello)) == first);
  CHECK(name_given(w, openai(kHello, "X-Session-ID: mine\r\n")) == "mine");
  CHECK(w.ask(get("/v1/autocomplete?q=x")).status() == 200);
  CHECK(w.workers[0]->requests.back().field("x-session-id").empty());
}

TEST_CASE("names: nothing is supplied where that is off, nor in front of other workers") {
  World off;
  CHECK(name_given(off, openai(kHello)).empty());
  WorldOptions o = supplying();
  o.kind = WorkerKind::http;
  World http(o);
  CHECK(name_given(http, openai(kHello)).empty());
}

TEST_CASE("names: a body in pieces, a chunked one and one larger than what is looked at have the same name") {
  World w(supplying());
  const std::string whole = openai(kHello);
  const std::string name = name_given(w, whole);
  auto c = w.connect();
  for (const char byte : whole) {
    c->send({&byte, 1});
    w.settle();
  }
  CHECK(w.workers[0]->requests.back().field("x-session-id") == name);
  const std::string body = R"({"messages":[)" + std::string(kHello) + R"(],"x":")" + std::string(200'000, 'x') + "\"}";
  const std::string big = post("/v1/chat/completions", body, "Authorization: Bearer orbit_one\r\n");
  CHECK(name_given(w, big) == name);
  CHECK(w.workers[0]->requests.back().body == body);
  const std::string chunked = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer orbit_one\r\nTransfer-Encoding: chunked\r\n\r\n" +
                              chunk(body.substr(0, 20)) + chunk(body.substr(20)) + std::string(kLastChunk);
  CHECK(name_given(w, chunked) == name);
}

TEST_CASE("names: turns of a supplied session come one after the other too") {
  World w(supplying());
  w.workers[0]->handler = &wait_then_ok;
  auto a = w.connect();
  auto b = w.connect();
  a->send(openai(kHello));
  b->send(openai(kHello));
  w.settle();
  CHECK(seen(w) == 1);
  w.workers[0]->go.set();
  w.settle();
  CHECK(b->answer().status() == 200);
}

// --- workers that know an id -----------------------------------------------------------------------------------------

namespace {

std::string length_answer(int status, const std::string& body, std::string_view fields = {}) {
  return "HTTP/1.1 " + std::to_string(status) + " X\r\n" + std::string(fields) + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

// An ORBIT's memory: what is made here is known only here.
Task<bool> orbit_memory(Worker& w, WorkerConnection& c, const Message& m) {
  const std::string mine = std::to_string(w.index);
  if (m.target() == "/mcp") {
    const std::string id = m.field("mcp-session-id");
    if (id.empty()) c.send(length_answer(200, "{}", "mcp-session-id: m-" + mine + "\r\n"));
    else if (id == "m-" + mine) c.send(length_answer(200, "{}", "mcp-session-id: " + id + "\r\n"));
    else c.send(length_answer(404, R"({"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Session not found"}})"));
  } else if (m.target() == "/admin/reload-adapters/async") {
    c.send(length_answer(200, R"({"status":"accepted","job_id":"j-)" + mine + R"("})"));
  } else if (m.target().starts_with("/admin/jobs/")) {
    c.send(m.target() == "/admin/jobs/j-" + mine ? length_answer(200, "{}") : length_answer(404, R"({"detail":"Job not found"})"));
  } else {
    c.send(length_answer(200, "worker " + mine));
  }
  co_return true;
}

World& remembering(World& w) {
  for (auto& worker : w.workers) worker->handler = &orbit_memory;
  return w;
}

std::string mcp(std::string_view id) {
  return post("/mcp", R"({"jsonrpc":"2.0","id":2,"method":"tools/list"})", id.empty() ? "" : "Mcp-Session-Id: " + std::string(id) + "\r\n");
}
std::string a2a(std::string_view method, std::string_view task) {
  return post("/a2a", R"({"jsonrpc":"2.0","id":1,"method":")" + std::string(method) + R"(","params":{"id":")" + std::string(task) + "\"}}");
}

}  // namespace

TEST_CASE("known ids: an MCP session stays with the worker that made it, GET and DELETE too") {
  World owner(four());
  World& w = remembering(owner);
  for (int i = 0; i < 8; ++i) {
    const std::string id = w.ask(mcp({})).field("mcp-session-id");
    REQUIRE_FALSE(id.empty());
    for (int n = 0; n < 3; ++n) CHECK(w.ask(mcp(id)).status() == 200);
    CHECK(w.ask("DELETE /mcp HTTP/1.1\r\nHost: x\r\nMcp-Session-Id: " + id + "\r\n\r\n").status() == 200);
  }
  CHECK(w.ask(mcp("unheard-of")).status() == 404);
}

TEST_CASE("known ids: without `calls` they go anywhere") {
  WorldOptions o = four();
  o.config.sessions.calls = false;
  World owner(o);
  World& w = remembering(owner);
  const std::string id = w.ask(mcp({})).field("mcp-session-id");
  int lost = 0;
  for (int n = 0; n < 20; ++n) lost += w.ask(mcp(id)).status() == 404 ? 1 : 0;
  CHECK(lost > 0);
}

TEST_CASE("known ids: a job is asked for where it runs") {
  World owner(four());
  World& w = remembering(owner);
  for (int i = 0; i < 8; ++i) {
    const std::string body = w.ask("POST /admin/reload-adapters/async HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").body;
    const std::string id = body.substr(body.find("j-"), 3);
    for (int n = 0; n < 3; ++n) CHECK(w.ask(get("/admin/jobs/" + id)).status() == 200);
  }
}

TEST_CASE("known ids: an A2A task stays with its worker, and by hash one that was forgotten is looked for where it would have begun") {
  for (const auto affinity : {config::Affinity::session, config::Affinity::hash}) {
    WorldOptions o = four();
    o.config.balancing.affinity = affinity;
    World owner(o);
    World& w = remembering(owner);
    std::set<std::string> used;
    for (int i = 0; i < 12; ++i) {
      const std::string task = "task-" + std::to_string(i);
      const std::string first = w.ask(a2a("tasks/send", task)).body;
      used.insert(first);
      CHECK(w.ask(a2a("tasks/get", task)).body == first);
      CHECK(w.ask(a2a("tasks/cancel", task)).body == first);
    }
    CHECK(used.size() > 1);
    if (affinity != config::Affinity::hash) continue;
    const std::string unheard = w.ask(a2a("tasks/get", "unheard-of")).body;
    for (int n = 0; n < 5; ++n) CHECK(w.ask(a2a("tasks/get", "unheard-of")).body == unheard);
  }
}

TEST_CASE("known ids: the worker has gone: another one says, in ORBIT's words, that it knows nothing of it") {
  World owner(four());
  World& w = remembering(owner);
  const std::string id = w.ask(mcp({})).field("mcp-session-id");
  w.probe(id.back() - '0', balancing::ProbeResult::refused);
  const Message m = w.ask(mcp(id));
  CHECK(m.status() == 404);
  CHECK(m.body.find("Session not found") != std::string::npos);
  CHECK(w.count(telemetry::Count::calls_rerouted) == 1);
  // Nobody left: as everywhere.
  for (int i = 0; i < 4; ++i) w.probe(i, balancing::ProbeResult::refused);
  CHECK(w.ask(mcp(id)).field("x-perigee-reason") == "no_backend");
}

TEST_CASE("known ids: a worker that refuses is found gone by the request itself") {
  World owner(four());
  World& w = remembering(owner);
  const std::string id = w.ask(mcp({})).field("mcp-session-id");
  w.workers[static_cast<std::size_t>(id.back() - '0')]->host().answer = net::MemoryNetwork::Answer::refuse;
  w.pass(2s);  // the connection that is kept is too old for what cannot be sent twice
  CHECK(w.ask(mcp(id)).status() == 404);
}

// --- stops ------------------------------------------------------------------------------------------------------------

namespace {

Task<bool> stream_or_stop(Worker& w, WorkerConnection& c, const Message& m) {
  if (m.target() == "/v1/chat/stop") {
    c.send(length_answer(200, R"({"status":"cancelled","request_id":"r-7"})"));
    co_return true;
  }
  const bool more = co_await slow_stream(w, c, m);
  co_return more;
}

Task<bool> stream_or_unknown(Worker& w, WorkerConnection& c, const Message& m) {
  if (m.target() == "/v1/chat/stop") {
    c.send(length_answer(200, R"({"status":"not_found"})"));
    co_return true;
  }
  const bool more = co_await slow_stream(w, c, m);
  co_return more;
}

const std::string kStopIt = post("/v1/chat/stop", R"({"session_id":"s","request_id":"r-7"})");

}  // namespace

TEST_CASE("stop: the worker's connection is closed too, so that its provider stops, and the client's answer ends in order") {
  World w;
  w.workers[0]->handler = &stream_or_stop;
  auto a = w.connect();
  a->send(turn("s"));
  w.settle();
  CHECK(w.sessions.status().streams == 1);
  CHECK(w.ask(kStopIt).body.find("cancelled") != std::string::npos);
  w.settle();
  CHECK(a->answer().whole);
  CHECK(a->answer().body.find("alpha") != std::string::npos);
  CHECK(w.workers[0]->ended_by_peer >= 1);
  CHECK(w.workers[0]->reset_by_peer == 0);
  CHECK(w.tickets() == 0);
  CHECK(w.sessions.status().streams == 0);
  CHECK(w.sessions.status().turns == 0);
  CHECK(w.count(telemetry::Count::streams_stopped) == 1);
  CHECK(w.logged("stream") == "stopped");
  // The client's connection goes on.
  w.workers[0]->handler = &say_ok;
  a->send(turn("s"));
  w.settle();
  CHECK(a->answers().size() == 2);
}

TEST_CASE("stop: what no worker cancels goes on") {
  World w;
  w.workers[0]->handler = &stream_or_unknown;
  auto a = w.connect();
  a->send(turn("s"));
  w.settle();
  CHECK(w.ask(kStopIt).body.find("not_found") != std::string::npos);
  w.settle();
  CHECK(w.tickets() == 1);
  w.workers[0]->go.set();
  w.settle();
  CHECK(a->answer().body.find("done") != std::string::npos);
}

}  // namespace perigee::test
