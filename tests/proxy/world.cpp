#include "world.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdio>
#include <cstdlib>

namespace perigee::test {

using coro::Task;

// --- HTTP ------------------------------------------------------------------------------------------------------------

namespace {

std::string lower(std::string_view text) {
  std::string s(text);
  std::transform(s.begin(), s.end(), s.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return s;
}

// Takes the chunks off; true when the last one came. A broken chunk ends the world: tests send none.
bool dechunk(std::string_view bytes, Message& m) {
  std::size_t at = 0;
  for (;;) {
    const std::size_t eol = bytes.find("\r\n", at);
    if (eol == std::string_view::npos) return false;
    std::size_t size = 0;
    const auto parsed = std::from_chars(bytes.data() + at, bytes.data() + eol, size, 16);
    REQUIRE(parsed.ec == std::errc{});
    at = eol + 2;
    if (size == 0) {
      if (bytes.size() < at + 2) return false;
      REQUIRE(bytes.substr(at, 2) == "\r\n");
      m.bytes += at + 2;
      return true;
    }
    m.body.append(bytes.substr(at, size));
    if (bytes.size() < at + size + 2) return false;
    REQUIRE(bytes.substr(at + size, 2) == "\r\n");
    at += size + 2;
  }
}

void parse_fields(std::string_view head, Message& m) {
  std::size_t at = head.find("\r\n");
  m.start_line = std::string(head.substr(0, at));
  while (at != std::string_view::npos && at + 2 < head.size()) {
    const std::size_t next = head.find("\r\n", at + 2);
    const std::string_view line = head.substr(at + 2, next == std::string_view::npos ? next : next - at - 2);
    const std::size_t colon = line.find(": ");
    if (colon != std::string_view::npos)
      m.fields.emplace(lower(line.substr(0, colon)), line.substr(colon + 2));
    at = next;
  }
}

}  // namespace

int Message::status() const {
  return start_line.size() < 12 ? 0 : std::atoi(start_line.c_str() + 9);
}
std::string Message::field(const std::string& name) const {
  const auto at = fields.find(name);
  return at == fields.end() ? std::string() : at->second;
}
std::string Message::method() const {
  return start_line.substr(0, start_line.find(' '));
}
std::string Message::target() const {
  const std::size_t from = start_line.find(' ') + 1;
  return start_line.substr(from, start_line.find(' ', from) - from);
}

std::optional<Message> parse_message(std::string_view bytes, bool no_body) {
  Message m;
  for (;;) {
    const std::size_t end = bytes.find("\r\n\r\n", m.bytes);
    if (end == std::string_view::npos) return std::nullopt;
    m.fields.clear();
    parse_fields(bytes.substr(m.bytes, end - m.bytes), m);
    m.bytes = end + 4;
    const bool answer = m.start_line.starts_with("HTTP/");
    if (!answer || m.status() == 101 || m.status() >= 200) break;
    m.interim.push_back(m.start_line);
  }
  const bool answer = m.start_line.starts_with("HTTP/");
  const std::string_view rest = bytes.substr(m.bytes);
  if (no_body || (answer && (m.status() == 204 || m.status() == 304 || m.status() == 101))) {
    m.whole = true;
  } else if (m.fields.contains("transfer-encoding")) {
    m.whole = dechunk(rest, m);
  } else if (m.fields.contains("content-length")) {
    const auto length = static_cast<std::size_t>(std::atoll(m.field("content-length").c_str()));
    m.body = std::string(rest.substr(0, length));
    m.whole = rest.size() >= length;
    m.bytes += m.body.size();
  } else if (answer) {
    m.body = std::string(rest);
    m.until_close = true;
    m.bytes = bytes.size();
  } else {
    m.whole = true;
  }
  return m;
}

std::vector<Message> parse_messages(std::string_view bytes, std::string_view* rest) {
  std::vector<Message> all;
  while (auto m = parse_message(bytes)) {
    if (!m->whole && !m->until_close) break;
    bytes.remove_prefix(m->bytes);
    all.push_back(std::move(*m));
  }
  if (rest != nullptr) *rest = bytes;
  return all;
}

std::string chunk(std::string_view bytes) {
  char size[24];
  std::snprintf(size, sizeof size, "%zx\r\n", bytes.size());
  return std::string(size).append(bytes).append("\r\n");
}

std::string get(std::string_view target, std::string_view more_fields) {
  return std::string("GET ")
      .append(target)
      .append(" HTTP/1.1\r\nHost: orbit\r\n")
      .append(more_fields)
      .append("\r\n");
}
std::string post(std::string_view target, std::string_view body, std::string_view more_fields) {
  return std::string("POST ")
      .append(target)
      .append(" HTTP/1.1\r\nHost: orbit\r\nContent-Type: application/json\r\nContent-Length: ")
      .append(std::to_string(body.size()))
      .append("\r\n")
      .append(more_fields)
      .append("\r\n")
      .append(body);
}

// --- clients -------------------------------------------------------------------------------------------------------------

TestClient::TestClient(World& world, const net::LinkRules& rules)
    : link(world.loop.executor(), rules), world_(world), scope_(world.loop.executor()) {
  may_read_.set();
  scope_.spawn(run(*this, link.take(0)));
  world_.proxy->serve(link.take(1), world_.client_peer, world_.entrance);
}

TestClient::~TestClient() {
  close();
  world_.settle();
}

Task<void> TestClient::run(TestClient& self, net::StreamPtr stream) {
  self.stream_ = stream.get();
  for (;;) {
    const auto may = co_await self.may_read_.wait();
    if (!may) break;
    auto got = co_await stream->read();
    if (!got) {
      if (got.error().kind != ErrorKind::cancelled) self.end_ = got.error().kind;
      break;
    }
    self.received_.append(got->data(), got->size());
  }
  // An ended connection is closed by its client as well, as programs do.
  if (self.reset_) stream->reset_on_close();
  self.stream_ = nullptr;
}

void TestClient::send(std::string_view bytes) {
  if (stream_ != nullptr) (void)stream_->write(net::Bytes(bytes));
}
void TestClient::shut_down() {
  if (stream_ != nullptr) stream_->shutdown();
}
void TestClient::close(bool reset) {
  reset_ = reset;
  scope_.cancel(kStop);
  world_.loop.run();
}
void TestClient::read(bool on) {
  if (on) {
    may_read_.set();
  } else {
    may_read_.reset();
  }
}
Message TestClient::answer() const {
  std::string_view rest;
  auto all = parse_messages(received_, &rest);
  INFO("received: ", received_);
  REQUIRE(all.size() == 1);
  CHECK(rest.empty());
  return all.front();
}

// --- workers ---------------------------------------------------------------------------------------------------------------

Worker::Worker(World& w, int i)
    : world(w), index(i), handler(&say_ok), script(&serve_requests), scope(w.loop.executor()) {
  config.name = "w" + std::to_string(i);
  config.address.kind = config::Address::Kind::tcp;
  config.address.host = "127.0.0.1";
  config.address.port = static_cast<std::uint16_t>(3001 + i);
  endpoint = *net::to_endpoint(config.address);
  struct Connection {
    static Task<void> run(Worker& self, net::StreamPtr stream, net::MemoryLink wire) {
      WorkerConnection c{std::move(stream), std::move(wire), {}};
      ++self.connections;
      ++self.accepted;
      co_await self.script(self, c);
      --self.connections;
    }
  };
  auto& at = host();
  at.answer = net::MemoryNetwork::Answer::accept;
  at.rules = w.options.worker_rules;
  at.on_accept = [this](net::StreamPtr stream, net::MemoryLink wire) {
    scope.spawn(Connection::run(*this, std::move(stream), std::move(wire)));
  };
}

net::MemoryNetwork::Host& Worker::host() {
  return world.network.host(endpoint);
}

Task<bool> WorkerConnection::more() {
  auto got = co_await stream->read();
  if (!got) co_return false;
  in.append(got->data(), got->size());
  co_return true;
}

Task<void> serve_requests(Worker& w, WorkerConnection& c) {
  for (;;) {
    auto request = parse_message(c.in);
    while (!request || !request->whole) {
      auto got = co_await c.stream->read();
      if (!got) {
        if (got.error().kind == ErrorKind::eof) ++w.ended_by_peer;
        if (got.error().kind == ErrorKind::reset) ++w.reset_by_peer;
        co_return;
      }
      c.in.append(got->data(), got->size());
      request = parse_message(c.in);
    }
    c.in.erase(0, request->bytes);
    w.requests.push_back(*request);
    const Message current = *request;
    const bool more = co_await w.handler(w, c, current);
    if (!more) co_return;
  }
}

Task<bool> say_ok(Worker& w, WorkerConnection& c, const Message& request) {
  const std::string body =
      "w" + std::to_string(w.index) + " " + request.method() + " " + request.target() + " " + request.body;
  std::string answer =
      "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " + std::to_string(body.size()) +
      "\r\n\r\n";
  if (request.method() != "HEAD") answer += body;
  c.send(answer);
  co_return true;
}
Task<bool> wait_then_ok(Worker& w, WorkerConnection& c, const Message& request) {
  const auto said = co_await w.go.wait();
  if (!said) co_return false;
  co_return co_await say_ok(w, c, request);
}
Task<bool> reset_at_once(Worker&, WorkerConnection& c, const Message&) {
  c.stream->reset_on_close();
  co_return false;
}
Task<bool> close_at_once(Worker&, WorkerConnection&, const Message&) {
  co_return false;
}
Task<bool> never_answer(Worker& w, WorkerConnection& c, const Message&) {
  for (;;) {
    auto got = co_await c.stream->read();
    if (!got) {
      if (got.error().kind == ErrorKind::eof) ++w.ended_by_peer;
      if (got.error().kind == ErrorKind::reset) ++w.reset_by_peer;
      co_return false;
    }
  }
}
Task<bool> chat(Worker&, WorkerConnection& c, const Message&) {
  c.send(
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: "
      "chunked\r\n\r\n");
  for (int i = 0; i < 5; ++i) {
    co_await nap(10ms);
    c.send(chunk("data: {\"response\": \"token " + std::to_string(i) + "\", \"done\": false}\n\n"));
  }
  c.send(chunk("data: {\"done\": true}\n\n").append(kLastChunk));
  co_return true;
}

// --- the world -----------------------------------------------------------------------------------------------------------------

struct World::Waker final : dispatch::Waker {
  explicit Waker(coro::Executor& e) : executor(e) {}
  struct Deliver : coro::ReadyNode {
    explicit Deliver(Waker& w)
        : ReadyNode([](coro::ReadyNode& n) { static_cast<Deliver&>(n).waker.deliver_all(); }), waker(w) {}
    Waker& waker;
  };
  void wake() noexcept override { executor.post(deliver); }
  void soon() noexcept override { executor.post(deliver); }
  void deliver_all() {
    port->deliver();
    sessions->deliver();
  }
  coro::Executor& executor;
  dispatch::LoopPort* port = nullptr;
  proxy::SessionPort* sessions = nullptr;
  Deliver deliver{*this};
};

struct World::Lines final : telemetry::BlockSink {
  explicit Lines(std::vector<std::string>& l) : lines(l) {}
  void write_block(std::string_view block, std::uint32_t) override {
    while (!block.empty()) {
      const std::size_t end = block.find('\n');
      lines.emplace_back(block.substr(0, end));
      block.remove_prefix(end + 1);
    }
  }
  std::vector<std::string>& lines;
};

// The loop's one timer for the dispatcher.
struct World::Pump : coro::Timer {
  explicit Pump(World& w)
      : Timer([](coro::Timer& t) {
          World& self = static_cast<Pump&>(t).world;
          self.dispatcher.pump(self.now());
        }),
        world(w) {}
  World& world;
};

World::World(const WorldOptions& o) : options(o) {
  dispatch::Setup setup;
  dispatch::PoolSpec pool;
  config::Config config = o.config;
  config.pools.assign(1, config::Pool{});
  for (int i = 0; i < o.workers; ++i) {
    workers.push_back(std::make_unique<Worker>(*this, i));
    const config::Worker& worker = workers.back()->config;
    dispatch::BackendSpec spec;
    spec.name = worker.name;
    spec.address = worker.address.text();
    spec.kind = o.kind;
    spec.orbit_ceiling = spec.http_slots = o.slots;
    setup.backends.push_back(spec);
    pool.backends.push_back(static_cast<std::uint32_t>(i));
    config.workers.push_back(worker);
    config.pools[0].workers.push_back(static_cast<std::uint32_t>(i));
  }
  setup.pools.push_back(pool);
  setup.policy = o.policy;
  setup.policy.steered = false;
  setup.policy.head_lag.start_slots = o.slots;
  setup.policy.head_lag.start_pace = 500;
  REQUIRE(dispatcher.configure(setup, now()).has_value());
  for (int i = 0; i < o.workers; ++i)
    probe(i);
  network.fail_with(o.fail);

  waker_ = std::make_unique<Waker>(loop.executor());
  port_ = std::make_unique<dispatch::LoopPort>(dispatcher, *waker_);
  waker_->port = port_.get();
  session_port_ = std::make_unique<proxy::SessionPort>(sessions, *waker_);
  waker_->sessions = session_port_.get();
  lines_ = std::make_unique<Lines>(log_lines);
  access_log_ = std::make_unique<telemetry::AccessLogBuffer>(*lines_, 1);
  pump_ = std::make_unique<Pump>(*this);
  const proxy::LoopParts parts{loop.executor(), loop.clock(),      network, dispatcher, *port_,
                               metrics,         access_log_.get(), stopped, 42, nullptr, session_port_.get()};
  proxy = std::make_unique<proxy::LoopProxy>(parts, plan_of(std::move(config)));
}

proxy::PlanPtr World::plan_of(config::Config config) const {
  auto plan = std::make_shared<proxy::Plan>();
  if (config.workers.empty()) {
    for (const auto& worker : workers)
      config.workers.push_back(worker->config);
    config.pools.assign(1, config::Pool{});
    for (std::size_t i = 0; i < workers.size(); ++i)
      config.pools[0].workers.push_back(static_cast<std::uint32_t>(i));
  }
  if (!options.supply_sessions) config.sessions.supply = false;
  plan->config = std::make_shared<const config::Config>(std::move(config));
  for (const auto& worker : workers)
    plan->endpoints.push_back(worker->endpoint);
  plan->pools.push_back(*dispatcher.pool("default"));
  return plan;
}

World::~World() {
  // Whatever a test left running ends by itself or is cut; nothing of it may be left.
  proxy->cut();
  for (auto& worker : workers)
    worker->scope.cancel(kStop);
  settle();
  coro::Scope joining(loop.executor());
  joining.spawn(proxy->join());
  settle();
  CHECK(joining.live() == 0);
  for (auto& worker : workers)
    CHECK(worker->scope.live() == 0);
  CHECK(proxy->connections() == 0);
  CHECK(proxy->exchanges() == 0);
  const dispatch::Status status = dispatcher.snapshot();
  for (const auto& b : status.backends) {
    CHECK(b.in_flight == 0);
    CHECK(b.starting == 0);
    CHECK(b.streams == 0);
    CHECK(b.critical == 0);
    CHECK(b.tunnels == 0);
  }
  CHECK(status.streams == 0);
  CHECK(status.waiting_bytes == 0);
  CHECK(sessions.status().turns == 0);
  CHECK(sessions.status().waiting == 0);
  CHECK(sessions.status().streams == 0);
  CHECK(std::string(dispatcher.check_at_rest()).empty());
  CHECK(count(telemetry::Count::connections_accepted) == count(telemetry::Count::connections_closed));
  CHECK(count(telemetry::Count::streams_begun) == count(telemetry::Count::streams_ended));
  CHECK(count(telemetry::Count::tunnels_begun) == count(telemetry::Count::tunnels_ended));
  std::uint64_t finished = 0;
  for (std::size_t r = 0; r < telemetry::kReasonCount; ++r)
    finished += outcomes(static_cast<telemetry::Reason>(r));
  CHECK(finished == log_lines.size());  // each exchange was accounted for exactly once
  proxy.reset();
}

void World::settle() {
  loop.run();
  for (TimePoint due = dispatcher.take_wakeup(); due != kNever; due = dispatcher.take_wakeup()) {
    loop.executor().arm(*pump_, due);
    loop.run();
  }
}

void World::pass(Duration d) {
  const TimePoint end = now() + d;
  settle();
  for (TimePoint next = loop.executor().next_due(); next <= end; next = loop.executor().next_due()) {
    loop.advance(std::max<Duration>(next - now(), Duration::zero()));
    settle();
  }
  loop.advance(end - now());
  settle();
}

net::Peer peer_at(const char* ip, std::uint16_t port) {
  net::Peer peer;
  peer.ip = *config::parse_ip(ip);
  peer.port = port;
  peer.local = {*config::parse_ip("127.0.0.1"), 3000};
  net::write_ip(peer.ip, peer.text);
  return peer;
}

std::unique_ptr<TestClient> World::connect() {
  return std::make_unique<TestClient>(*this, options.client_rules);
}

Message World::ask(std::string_view bytes, Duration limit) {
  auto client = connect();
  client->send(bytes);
  settle();
  const TimePoint end = now() + limit;
  while (now() < end) {
    const auto m = parse_message(client->received(), bytes.starts_with("HEAD"));
    if ((m && m->whole) || client->end()) break;
    pass(1ms);
  }
  const auto m = parse_message(client->received(), bytes.starts_with("HEAD"));
  INFO("received: ", client->received());
  REQUIRE(m.has_value());
  return *m;
}

dispatch::BackendStatus World::backend(int i) const {
  for (auto& b : dispatcher.snapshot().backends) {
    if (b.name == "w" + std::to_string(i)) return b;
  }
  return {};
}
std::uint32_t World::tickets() const {
  std::uint32_t n = 0;
  for (const auto& b : dispatcher.snapshot().backends)
    n += b.in_flight + b.critical;
  return n;
}
std::uint64_t World::count(telemetry::Count c) const {
  telemetry::MetricTotals totals;
  totals.add(metrics);
  return totals.count(c);
}
std::uint64_t World::outcomes(telemetry::Reason r) const {
  telemetry::MetricTotals totals;
  totals.add(metrics);
  std::uint64_t n = 0;
  for (std::size_t c = 0; c < kClassCount; ++c)
    n += totals.outcomes(static_cast<RequestClass>(c), r);
  return n;
}
void World::probe(int i, balancing::ProbeResult result) {
  dispatcher.on_probe(dispatcher.backend("w" + std::to_string(i)), result, options.kind, now());
}

std::string World::logged(const std::string& key) const {
  if (log_lines.empty()) return {};
  const std::string& line = log_lines.back();
  const std::size_t at = line.find("\"" + key + "\":");
  if (at == std::string::npos) return {};
  std::string value = line.substr(at + key.size() + 3);
  value = value.substr(0, value.find_first_of(",}"));
  std::erase(value, '"');
  return value;
}

}  // namespace perigee::test
