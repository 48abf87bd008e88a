// Where a request comes from and who may ask for what: PROXY headers in and out, trusted hops, traces, routes of
// operators, preflights.
#include "world.h"

namespace perigee::test {
namespace {

using coro::Task;
using telemetry::Count;

constexpr const char* kHeader = "PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n";

std::string seen(World& w, const std::string& field, std::size_t n = 0) {
  REQUIRE(w.workers[0]->requests.size() > n);
  return w.workers[0]->requests[n].field(field);
}

TEST_CASE("edges: a listed balancer that sends no PROXY header, or a broken one, is closed without a word") {
  for (const std::string& bytes : {get("/a"), "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n" + get("/a"), std::string("\x16\x03\x01")}) {
    World w;
    w.entrance.proxy_header = true;
    auto c = w.connect();
    c->send(bytes);
    w.pass(1s);
    CHECK(c->received().empty());
    CHECK(c->end().has_value());
    CHECK(w.workers[0]->accepted == 0);
    CHECK(w.count(Count::proxy_headers_refused) == 1);
    CHECK(w.proxy->connections() == 0);
  }
}

TEST_CASE("edges: a PROXY header that does not come has the clock of a head; a look at the port is no fault") {
  World w;
  w.entrance.proxy_header = true;
  auto slow = w.connect();
  slow->send("PROXY TCP4 1.2");
  auto look = w.connect();
  look->close();
  w.pass(9s);
  CHECK_FALSE(slow->end());
  CHECK(w.count(Count::proxy_headers_refused) == 0);
  w.pass(2s);
  CHECK(slow->end().has_value());
  CHECK(w.count(Count::proxy_headers_refused) == 1);
}

TEST_CASE("edges: the address of a PROXY header is the client's, in log, fields and trust") {
  for (const bool one_by_one : {false, true}) {
    WorldOptions o;
    o.config.trusted = {*config::parse_cidr("203.0.113.7")};
    if (one_by_one) o.client_rules = net::byte_by_byte();
    World w(o);
    w.entrance.proxy_header = true;
    w.client_peer = peer_at("10.0.0.1");
    auto c = w.connect();
    c->send(kHeader + get("/a") + get("/b", "X-Forwarded-For: 198.51.100.1\r\n"));
    w.pass(100ms);
    REQUIRE(c->answers().size() == 2);
    CHECK(seen(w, "x-forwarded-for") == "203.0.113.7");
    CHECK(seen(w, "x-real-ip") == "203.0.113.7");
    CHECK(seen(w, "x-forwarded-for", 1) == "198.51.100.1, 203.0.113.7");
    CHECK(w.logged("client") == "198.51.100.1");
    CHECK(w.logged("bytes_in") == std::to_string(get("/b", "X-Forwarded-For: 198.51.100.1\r\n").size()));
  }
}

TEST_CASE("edges: UNKNOWN leaves the balancer's address, and nobody trusts it") {
  WorldOptions o;
  o.config.trusted = {*config::parse_cidr("10.0.0.0/8")};
  World w(o);
  w.entrance.proxy_header = true;
  w.client_peer = peer_at("10.0.0.1");
  auto c = w.connect();
  c->send("PROXY UNKNOWN\r\n" + get("/a", "X-Forwarded-For: 198.51.100.1\r\n"));
  w.pass(100ms);
  CHECK(c->answer().status() == 200);
  CHECK(seen(w, "x-forwarded-for") == "10.0.0.1");
  CHECK(w.logged("client") == "10.0.0.1");
}

TEST_CASE("edges: where no header is expected its bytes are a malformed request like any other") {
  World w;
  auto c = w.connect();
  c->send(kHeader + get("/a"));
  w.pass(100ms);
  CHECK(c->answer().status() == 400);
  CHECK(w.workers[0]->accepted == 0);
}

TEST_CASE("edges: a shut-down does not wait for a PROXY header") {
  World w;
  w.entrance.proxy_header = true;
  auto c = w.connect();
  w.settle();
  w.proxy->cut();
  w.settle();
  CHECK(w.proxy->connections() == 0);
}

// Reads a PROXY line, then requests, each answered with the line that its connection began with.
Task<void> tell_header(Worker& w, WorkerConnection& c) {
  while (c.in.find("\r\n") == std::string::npos) {
    const bool more = co_await c.more();
    if (!more) co_return;
  }
  std::string line = "nothing";
  if (c.in.starts_with("PROXY ")) {
    const std::size_t end = c.in.find("\r\n");
    line = c.in.substr(0, end);
    c.in.erase(0, end + 2);
  }
  for (;;) {
    while (c.in.find("\r\n\r\n") == std::string::npos) {
      const bool more = co_await c.more();
      if (!more) {
        ++w.ended_by_peer;
        co_return;
      }
    }
    c.in.clear();
    c.send("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(line.size()) + "\r\n\r\n" + line);
  }
}

TEST_CASE("edges: a worker that is told of clients gets a connection for each request, and never another's") {
  WorldOptions o;
  o.config.trusted = {*config::parse_cidr("10.0.0.0/8")};
  World w(o);
  w.workers[0]->script = tell_header;
  CHECK(w.ask(get("/before")).body == "nothing");
  CHECK(w.workers[0]->connections == 1);  // kept, and never used again after the reload
  w.workers[0]->config.proxy_protocol = config::ProxyProtocolOut::v1;
  w.proxy->adopt(w.plan_of(o.config));
  CHECK(w.ask(get("/a")).body == "PROXY TCP4 127.0.0.1 127.0.0.1 40000 3000");
  w.client_peer = peer_at("2001:db8::7", 99);
  CHECK(w.ask(get("/b")).body == "PROXY TCP6 2001:db8::7 ::ffff:127.0.0.1 99 3000");
  w.client_peer = peer_at("10.0.0.1");
  CHECK(w.ask(get("/c", "X-Forwarded-For: 198.51.100.1\r\n")).body == "PROXY TCP4 198.51.100.1 127.0.0.1 0 3000");
  w.client_peer = {};  // over a Unix socket
  CHECK(w.ask(get("/d")).body == "PROXY UNKNOWN");
  w.pass(100ms);
  CHECK(w.workers[0]->accepted == 5);
  CHECK(w.workers[0]->connections == 1);
  w.pass(5s);
  CHECK(w.workers[0]->connections == 0);
  CHECK(w.workers[0]->ended_by_peer == 5);
  CHECK(w.workers[0]->reset_by_peer == 0);
  CHECK(w.count(Count::upstream_reuses) == 0);
}

TEST_CASE("edges: the client is the right-most hop that nobody trusts") {
  WorldOptions o;
  o.config.trusted = {*config::parse_cidr("127.0.0.1"), *config::parse_cidr("10.0.0.0/8")};
  World w(o);
  struct Case {
    const char* fields;
    const char* client;
  };
  const Case cases[] = {
      {"", "127.0.0.1"},
      {"X-Forwarded-For: 198.51.100.1\r\n", "198.51.100.1"},
      {"X-Forwarded-For: 1.1.1.1, 198.51.100.1, 10.1.1.1\r\nX-Forwarded-For: 10.2.2.2:80\r\n", "198.51.100.1"},
      {"X-Forwarded-For: 10.3.3.3, 10.2.2.2\r\n", "10.3.3.3"},
      {"X-Forwarded-For: 1.1.1.1, unknown, 10.2.2.2\r\n", "10.2.2.2"},
      {"X-Forwarded-For: 1.1.1.1, \"; drop, 10.2.2.2\r\n", "10.2.2.2"},
      {"X-Forwarded-For: nonsense\r\n", "127.0.0.1"},
      {"Forwarded: for=\"[2001:db8::5]\", for=10.2.2.2\r\n", "2001:db8::5"},
      {"Forwarded: for=1.1.1.1\r\nX-Forwarded-For: 198.51.100.1\r\n", "198.51.100.1"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.fields);
    CHECK(w.ask(get("/a", c.fields)).status() == 200);
    CHECK(w.logged("client") == c.client);
    CHECK(w.workers[0]->requests.back().field("x-real-ip") == c.client);
  }
  w.client_peer = peer_at("198.51.100.9");  // a stranger
  CHECK(w.ask(get("/a", "X-Forwarded-For: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\n")).status() == 200);
  CHECK(w.logged("client") == "198.51.100.9");
  CHECK(w.workers[0]->requests.back().field("forwarded").empty());
}

TEST_CASE("edges: traces pass when they are good, and begin only where the operator says so") {
  const std::string good = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
  for (const bool start : {false, true}) {
    WorldOptions o;
    o.config.tracing.start = start;
    World w(o);
    (void)w.ask(get("/a", good + "tracestate: a=b\r\n"));
    CHECK(seen(w, "traceparent") == "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    CHECK(seen(w, "tracestate") == "a=b");
    CHECK(w.logged("trace_id") == "0af7651916cd43dd8448eb211c80319c");
    (void)w.ask(get("/b", good + good + "tracestate: a=b\r\n"));
    (void)w.ask(get("/c"));
    CHECK(seen(w, "tracestate", 1).empty());
    for (const std::size_t n : {1U, 2U}) {
      const std::string parent = seen(w, "traceparent", n);
      CHECK(parent.empty() == !start);
      if (start) CHECK(parent.substr(0, 3) == "00-");
      if (start) CHECK(parent.substr(parent.size() - 3) == "-01");
    }
    if (start) {
      CHECK(w.logged("trace_id") == seen(w, "traceparent", 2).substr(3, 32));
      CHECK(seen(w, "traceparent", 1) != seen(w, "traceparent", 2));
    } else {
      CHECK(w.logged("trace_id").empty());
    }
  }
}

TEST_CASE("edges: an operator's routes are closed to strangers, and open to trusted peers") {
  WorldOptions o;
  o.config.admin_routes = config::AdminRoutes::trusted;
  o.config.trusted = {*config::parse_cidr("10.0.0.1")};
  World w(o);
  for (const std::string& request :
       {post("/admin/pause", ""), post("/admin/shutdown", "{}"), post("/%61dmin/restart", ""), post("/admin%2Fpause", ""),
        get("/admin/info"), post("/admin/api-keys", "{}"), post("/health/adapters/a/reset", "")}) {
    CAPTURE(request);
    const Message m = w.ask(request);
    CHECK(m.status() == 403);
    CHECK(m.field("x-perigee-reason") == "forbidden");
    CHECK(m.body == R"({"detail":"This route is reserved for operators; it is not open to clients."})");
    CHECK(w.logged("reason") == "forbidden");
  }
  CHECK(w.workers[0]->accepted == 0);
  CHECK(w.ask(post("/admin/pause", "", "Origin: http://page\r\n")).field("access-control-allow-origin") == "*");
  CHECK(w.ask(get("/admin/models")).status() == 200);
  CHECK(w.ask(get("/health")).status() == 200);
  w.client_peer = peer_at("10.0.0.1");
  CHECK(w.ask(post("/admin/pause", "")).status() == 200);
}

TEST_CASE("edges: by default ORBIT's own rule holds") {
  World w;
  CHECK(w.ask(post("/admin/pause", "")).status() == 200);
}

TEST_CASE("edges: a preflight takes no slot and waits for none") {
  WorldOptions o;
  o.slots = 1;
  World w(o);
  w.workers[0]->handler = [](Worker& self, WorkerConnection& c, const Message& r) -> Task<bool> {
    if (r.method() == "OPTIONS") co_return co_await say_ok(self, c, r);
    co_return co_await never_answer(self, c, r);
  };
  auto busy = w.connect();
  busy->send(post("/v1/chat", "{}"));
  w.settle();
  REQUIRE(w.tickets() == 1);
  const Message m = w.ask("OPTIONS /v1/chat HTTP/1.1\r\nHost: o\r\nOrigin: http://page\r\nAccess-Control-Request-Method: POST\r\n\r\n");
  CHECK(m.status() == 200);
  busy->close();
  w.pass(400s);
}

}  // namespace
}  // namespace perigee::test
