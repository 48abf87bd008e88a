// What random_test.cpp does to single requests, done to whole connections, at every state they can be in: kept and
// pipelined requests, tunnels, uploads, workers that refuse, hang, stall and vanish, links that break, reloads, drains
// and a cut in the midst of it. In the end every request was answered once or its connection ended, in order,
// was accounted for exactly once, and no ticket, waiter, connection or frame is left.
#include <algorithm>
#include <map>

#include "perigee/base/sanitizer.h"
#include "world.h"

namespace perigee::test {
namespace {

using coro::Task;

constexpr std::uint64_t kSeeds = kSanitized ? 60 : 600;
constexpr int kSteps = 220;
constexpr std::size_t kClients = 10;

Rng* rng = nullptr;                         // of the seed in hand; handlers are plain functions
std::vector<net::MemoryLink>* links = nullptr;  // of the workers' connections

Duration some(double mean_ms) {
  return from_seconds(rng->exponential(mean_ms) * 1e-3);
}

Task<bool> echo(WorkerConnection& c) {
  c.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
  std::string in = std::exchange(c.in, {});
  for (;;) {
    if (!in.empty()) c.send(in);
    auto got = co_await c.stream->read();
    if (!got) co_return false;
    in.assign(got->data(), got->size());
  }
}

Task<bool> answer(Worker& w, WorkerConnection& c, const Message& r) {
  links->push_back(c.link);
  const auto me = co_await coro::here();
  if (rng->below(3) == 0) {
    const auto slept = co_await coro::sleep_for(me, some(30));
    if (!slept) co_return false;
  }
  if (r.field("upgrade") == "websocket" && rng->below(5) != 0) co_return co_await echo(c);
  const std::string id = r.field("x-request-id");
  switch (rng->below(24)) {
    case 0: co_return co_await reset_at_once(w, c, r);
    case 1: co_return co_await never_answer(w, c, r);
    case 2: co_return false;
    case 3: c.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi"); co_return true;
    case 4: c.send("HTTP/1.1 103 Early Hints\r\n\r\n"); break;
    default: break;
  }
  if (r.body.find("\"stream\":true") == std::string::npos) {
    c.send("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(id.size()) + "\r\n\r\n" + id);
    co_return true;
  }
  c.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (std::uint32_t i = rng->below(8); i > 0; --i) {
    const auto slept = co_await coro::sleep_for(me, some(8));
    if (!slept || c.link.closed(0)) co_return false;
    c.send(chunk("data: {\"response\": \"" + id + "\", \"done\": false}\n\n"));
    if (rng->below(40) == 0) co_return false;
  }
  c.send(chunk("data: {\"done\": true}\n\n").append(kLastChunk));
  co_return true;
}

struct Guest {
  std::unique_ptr<TestClient> client;
  std::vector<std::string> ids;  // of its requests, in order
  bool tunnel = false;           // its last request asks for one
  std::string poured;            // into the tunnel, perhaps before it stood
  bool left = false;             // closed by itself
};

void send_request(Guest& g, int number) {
  const std::string id = "id-" + std::to_string(number) + "-end";
  const std::string field = "X-Request-ID: " + id + "\r\n";
  g.ids.push_back(id);
  std::string bytes;
  switch (rng->below(8)) {
    case 0: bytes = get("/v1/models", field); break;
    case 1: bytes = post("/v1/chat", "{}", field); break;
    case 2: bytes = post("/up", std::string(rng->below(rng->below(6) == 0 ? 120'000 : 500), 'u'), field); break;
    case 3:
      bytes = "POST /v1/chat HTTP/1.1\r\nHost: o\r\nTransfer-Encoding: chunked\r\n" + field + "\r\n" +
              chunk(R"({"stream":true)") + chunk("}") + std::string(kLastChunk);
      break;
    case 4:
      bytes = get("/ws/x", field + "Connection: Upgrade\r\nUpgrade: websocket\r\n");
      g.tunnel = true;
      break;
    case 5: bytes = get("/x", field + (rng->below(3) == 0 ? "Connection: close\r\n" : "")); break;
    case 6: bytes = chat_request(field + "X-Session-ID: s" + std::to_string(rng->below(3)) + "\r\n"); break;  // turns of few sessions
    default: bytes = chat_request(field); break;
  }
  g.client->send(bytes);
}

// One or more things happen to the world.
void disturb(World& w, std::vector<Guest>& guests, int& number, bool may_drain) {
  Guest& g = guests[rng->below(static_cast<std::uint32_t>(guests.size()))];
  Worker& worker = *w.workers[rng->below(static_cast<std::uint32_t>(w.workers.size()))];
  const std::uint32_t what = rng->below(100);
  if (what < 60) {
    if (g.tunnel) {
      const std::string more = "t" + std::to_string(number) + ";";
      g.poured += more;
      g.client->send(more);
    } else if (!g.left) {
      for (std::uint32_t n = rng->below(4) == 0 ? 3 : 1; n > 0 && !g.tunnel; --n) send_request(g, number++);
    }
  } else if (what < 68) {
    g.client->link.stall(rng->below(2), true);
  } else if (what < 76) {
    g.client->link.stall(0, false);
    g.client->link.stall(1, false);
  } else if (what < 80) {
    g.left = true;
    g.client->close(rng->below(2) == 0);
  } else if (what < 82) {
    g.left = true;
    g.client->link.break_off();
  } else if (what < 84) {
    g.left = true;
    g.client->shut_down();
  } else if (what < 88 && !links->empty()) {
    net::MemoryLink& link = (*links)[rng->below(static_cast<std::uint32_t>(links->size()))];
    link.stall(rng->below(2), rng->below(2) == 0);
  } else if (what < 91 && !links->empty()) {
    (*links)[rng->below(static_cast<std::uint32_t>(links->size()))].break_off();
  } else if (what < 94) {
    using Answer = net::MemoryNetwork::Answer;
    worker.host().answer = std::array{Answer::accept, Answer::refuse, Answer::hang}[rng->below(3)];
  } else if (what < 96) {
    w.probe(worker.index, rng->below(3) == 0 ? balancing::ProbeResult::refused : balancing::ProbeResult::ok);
  } else if (what < 99) {
    w.proxy->adopt(w.plan_of(w.options.config));
  } else if (may_drain) {
    w.proxy->drain();
  }
}

// Answers in the order of the requests, each at most once and about its own; then perhaps a tunnel's bytes.
// Returns how many requests were answered whole.
std::size_t judge(const Guest& g) {
  std::string_view got = g.client->received();
  std::size_t answered = 0;
  while (!got.empty()) {
    const auto m = parse_message(got);
    if (!m) break;  // cut in a head
    REQUIRE(answered < g.ids.size());
    const std::string& own = g.ids[answered];
    CHECK((m->status() >= 400 || m->status() == 101 || m->field("x-request-id") == own));
    if (m->status() < 400 && m->status() != 101) {
      for (std::size_t at = 0; (at = m->body.find("id-", at)) != std::string::npos; at += 3) {
        const std::string_view named = std::string_view(m->body).substr(at, own.size());
        CHECK(own.starts_with(named));
      }
    }
    if (m->status() == 101) {
      CHECK(g.tunnel);
      CHECK(answered + 1 == g.ids.size());
      CHECK(g.poured.starts_with(got.substr(m->bytes)));  // its own bytes, in order
      return answered + 1;
    }
    if (!m->whole) break;
    ++answered;
    got.remove_prefix(m->bytes);
  }
  return answered;
}

void run_seed(std::uint64_t seed) {
  CAPTURE(seed);
  Rng random(seed);
  rng = &random;
  std::vector<net::MemoryLink> wires;
  links = &wires;
  WorldOptions o;
  o.workers = 1 + static_cast<int>(random.below(3));
  o.slots = 1 + random.below(4);
  o.kind = random.below(3) == 0 ? WorkerKind::http : WorkerKind::orbit;
  o.config.clocks.connect = 500ms;
  o.config.clocks.head = 2s;
  o.config.clocks.head_stream = 1s;
  o.config.clocks.silence = 1s;
  o.config.process.detached_max = 3s;
  o.policy.breaker.ratio = 0;
  o.policy.breaker.consecutive = 1000;
  const auto split = [](std::size_t available) {
    return std::size_t{1 + rng->below(static_cast<std::uint32_t>(available))};
  };
  o.client_rules.split = o.worker_rules.split = split;
  o.client_rules.capacity = o.worker_rules.capacity = std::size_t{1} << (10 + random.below(7));
  World w(o);
  for (auto& worker : w.workers) worker->handler = &answer;

  std::vector<Guest> guests(kClients);
  std::vector<net::MemoryLink> client_wires;  // of those too that have left: what is stalled has to be let go on
  const auto enter = [&](Guest& g) {
    g = Guest{};
    g.client = w.connect();
    client_wires.push_back(g.client->link);
  };
  for (Guest& g : guests) enter(g);
  int number = 0;
  const bool drains = random.below(4) == 0;
  const int cut_at = random.below(5) == 0 ? static_cast<int>(random.below(kSteps)) : kSteps;
  for (int step = 0; step < cut_at; ++step) {
    disturb(w, guests, number, drains && step > kSteps / 2);
    if (random.below(3) != 0) w.pass(some(12));
    // Who left, or was left, is followed by somebody new.
    for (Guest& g : guests) {
      if (random.below(20) != 0 || (!g.left && !g.client->end())) continue;
      judge(g);
      enter(g);
    }
  }
  if (cut_at < kSteps) w.proxy->cut();

  // Everything is let go on; what can end, ends.
  for (auto& worker : w.workers) worker->host().answer = net::MemoryNetwork::Answer::accept;
  for (auto* some_wires : {&wires, &client_wires}) {
    for (net::MemoryLink& link : *some_wires) {
      link.stall(0, false);
      link.stall(1, false);
    }
  }
  w.pass(5min);
  std::map<std::string, int> answered_ids;
  std::size_t tunnels = 0;
  for (const Guest& g : guests) {
    const std::size_t answered = judge(g);
    for (std::size_t i = 0; i < answered; ++i) ++answered_ids[g.ids[i]];
    const bool tunnel = g.tunnel && answered == g.ids.size() && !g.client->end() && !g.left;
    tunnels += tunnel ? 1 : 0;
    // Answered, or told by the connection's end that it never will be.
    CHECK((g.left || g.client->end().has_value() || answered == g.ids.size()));
  }
  CHECK(w.tickets() == 0);
  const dispatch::Status status = w.dispatcher.snapshot();
  for (const auto& lanes : status.waiting) {
    for (const auto waiting : lanes) CHECK(waiting == 0);
  }
  CHECK(w.proxy->exchanges() <= tunnels);

  for (Guest& g : guests) g.client->close();
  w.pass(5min);
  CHECK(w.proxy->exchanges() == 0);
  CHECK(w.proxy->connections() == 0);
  for (const auto& worker : w.workers) CHECK(worker->connections == 0);

  // Each in the log once; all that were answered are there.
  if (cut_at < kSteps) return;
  w.proxy->tick();
  w.pass(2s);
  w.proxy->tick();
  std::map<std::string, int> logged;
  for (const std::string& line : w.log_lines) {
    const std::size_t at = line.find("\"id-");
    if (at != std::string::npos) ++logged[line.substr(at + 1, line.find('"', at + 1) - at - 1)];
  }
  for (const auto& [id, times] : logged) {
    CAPTURE(id);
    CHECK(times == 1);
  }
  for (const auto& [id, times] : answered_ids) {
    CAPTURE(id);
    CHECK(times == 1);
    CHECK(logged.contains(id));
  }
}

TEST_CASE("random: kept connections, pipelines and tunnels with every kind of misfortune at every state") {
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) run_seed(seed);
}

}  // namespace
}  // namespace perigee::test
