// How memory connections misbehave on demand, and the fail point.
#include "perigee/net/memory_stream.h"

#include <vector>

#include "worlds.h"

namespace perigee::test {
namespace {

using coro::Task;

net::Endpoint endpoint(std::uint16_t port) {
  config::Address a;
  a.kind = config::Address::Kind::tcp;
  a.host = "127.0.0.1";
  a.port = port;
  return *net::to_endpoint(a);
}

CORO_TEST("memory: reads are split as the rules say") {
  net::MemoryLink link(loop.executor(), net::byte_by_byte());
  auto a = link.take(0);
  auto b = link.take(1);
  (void)a->write(net::Bytes("abc", 3));
  for (const char c : {'a', 'b', 'c'}) {
    auto r = co_await b->read();
    REQUIRE(r.has_value());
    REQUIRE(r->size() == 1);
    CHECK(r->front() == c);
  }
}

CORO_TEST("memory: what is beyond the pipe's capacity is backlog, and moves on as the peer reads") {
  net::LinkRules rules;
  rules.capacity = 10;
  net::MemoryLink link(loop.executor(), rules);
  auto a = link.take(0);
  auto b = link.take(1);
  link.stall(1, true);
  (void)a->write(net::Bytes(std::string(25, 'x')));
  CHECK(a->backlog() == 15);
  CHECK(link.in_flight(1) == 25);
  co_await nap(1ms);
  CHECK(b->bytes_in() == 0);
  link.stall(1, false);
  co_await nap(1ms);
  CHECK(b->bytes_in() == 25);
  CHECK(a->backlog() == 0);
}

CORO_TEST("memory: broken off, both ends hear it, and what was on its way is lost") {
  net::MemoryLink link(loop.executor());
  auto a = link.take(0);
  auto b = link.take(1);
  link.stall(1, true);
  (void)a->write(net::Bytes("x", 1));
  link.break_off();
  for (net::Stream* s : {a.get(), b.get()}) {
    auto r = co_await s->read();
    REQUIRE_FALSE(r.has_value());
    CHECK(r.error().kind == ErrorKind::reset);
  }
  CHECK(link.closed(0));
  CHECK_FALSE(a->write(net::Bytes("x", 1)).has_value());
}

CORO_TEST("memory: closing with bytes unread resets the peer, as a socket would") {
  net::MemoryLink link(loop.executor());
  auto a = link.take(0);
  auto b = link.take(1);
  (void)a->write(net::Bytes("unread", 6));
  b.reset();  // before a turn in which it could have been delivered
  auto r = co_await a->read();
  REQUIRE_FALSE(r.has_value());
  CHECK(r.error().kind == ErrorKind::reset);
}

Task<Result<net::StreamPtr>> connect(net::MemoryNetwork& network, net::Endpoint to) {
  co_return co_await network.connect(to);
}

CORO_TEST("memory network: refuses what it does not know, refuses, hangs, delays, accepts as told") {
  net::MemoryNetwork network(loop.executor());
  const net::Endpoint to = endpoint(1);
  auto unknown = co_await connect(network, to);
  REQUIRE_FALSE(unknown.has_value());
  CHECK(unknown.error().kind == ErrorKind::refused);
  CHECK(unknown.error().sent == Sent::nothing);

  auto& host = network.host(to);
  host.answer = net::MemoryNetwork::Answer::hang;
  auto hanging = co_await coro::with_timeout(2s, kLate, connect(network, to));
  REQUIRE_FALSE(hanging.has_value());
  CHECK(hanging.error().kind == ErrorKind::timeout);
  CHECK(hanging.error().sent == Sent::nothing);

  net::StreamPtr far;
  host.answer = net::MemoryNetwork::Answer::accept;
  host.delay = 5ms;
  host.on_accept = [&](net::StreamPtr s, net::MemoryLink) { far = std::move(s); };
  const TimePoint begun = loop.now();
  auto near = co_await connect(network, to);
  REQUIRE(near.has_value());
  CHECK(loop.now() - begun >= 5ms);
  CHECK(host.connects == 3);
  (void)(*near)->write(net::Bytes("hi", 2));
  auto got = co_await far->read();
  CHECK(got.has_value());
}

TEST_CASE("fail point: the n-th operation fails, for each n") {
  std::vector<int> reached;
  const auto operations = net::for_each_failure([&](net::FailPoint& point) {
    int done = 0;
    while (done < 4 && !point.fails())
      ++done;
    reached.push_back(done);
  });
  CHECK(operations == 4);
  CHECK(reached == std::vector<int>{0, 1, 2, 3, 4});
}

TEST_CASE("fail point: a conversation that fails at each of its operations ends for both sides") {
  struct Side {
    static Task<void> run(net::StreamPtr s, int& rounds) {
      for (int i = 0; i < 3; ++i) {
        if (!s->write(net::Bytes("ping", 4)).has_value()) co_return;
        auto got = co_await read_bytes(*s, 4);
        if (got.size() < 4) co_return;
        ++rounds;
      }
    }
  };
  const auto operations = net::for_each_failure([](net::FailPoint& point) {
    const FrameCheck frames;
    coro::ManualLoop loop;
    net::LinkRules rules;
    rules.fail = &point;
    net::MemoryLink link(loop.executor(), rules);
    int a = 0;
    int b = 0;
    coro::Scope scope(loop.executor());
    scope.spawn(Side::run(link.take(0), a));
    scope.spawn(Side::run(link.take(1), b));
    loop.run();
    CHECK(scope.live() == 0);
    CHECK((point.reached() || (a == 3 && b == 3)));
  });
  CHECK(operations >= 10);
}

}  // namespace
}  // namespace perigee::test
