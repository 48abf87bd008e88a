#include "perigee/coro/channel.h"

#include <memory>
#include <string>
#include <vector>

#include "coro_test.h"

namespace perigee::coro {
namespace {

using namespace perigee::test;

Task<void> send_all(Channel<int>& c, int from, int to, int& sent) {
  for (int i = from; i < to; ++i) {
    const auto r = co_await c.send(i);
    if (!r) co_return;
    ++sent;
  }
}

Task<void> receive_all(Channel<int>& c, std::vector<int>& got, ErrorKind& end) {
  for (;;) {
    const auto r = co_await c.receive();
    if (!r) {
      end = r.error().kind;
      co_return;
    }
    got.push_back(*r);
  }
}

CORO_TEST("channel: a full one makes its senders wait, and keeps their order") {
  Channel<int> c(2);
  int sent = 0;
  Scope scope(loop.executor());
  scope.spawn(send_all(c, 0, 5, sent));
  CHECK(sent == 2);
  CHECK(c.size() == 2);
  int more = 9;
  CHECK_FALSE(c.try_send(more));
  CHECK(more == 9);
  for (int i = 0; i < 5; ++i) {
    const auto r = co_await c.receive();
    REQUIRE(r.has_value());
    CHECK(*r == i);
  }
  co_await scope.join();
  CHECK(sent == 5);
}

CORO_TEST("channel: an empty one makes its receivers wait; each item goes to one of them") {
  Channel<int> c(4);
  std::vector<int> a;
  std::vector<int> b;
  ErrorKind ea{};
  ErrorKind eb{};
  int sent = 0;
  Scope scope(loop.executor());
  scope.spawn(receive_all(c, a, ea));
  scope.spawn(receive_all(c, b, eb));
  scope.spawn(send_all(c, 0, 1000, sent));
  co_await nap(1ms);
  CHECK(sent == 1000);
  c.close();
  co_await scope.join();
  CHECK(a.size() + b.size() == 1000);
  CHECK(ea == ErrorKind::eof);
  CHECK(eb == ErrorKind::eof);
}

CORO_TEST("channel: closed, it is drained and then ends; senders fail") {
  Channel<int> c(2);
  int sent = 0;
  Scope scope(loop.executor());
  scope.spawn(send_all(c, 0, 3, sent));
  c.close();
  co_await scope.join();
  CHECK(sent == 2);
  std::vector<int> got;
  ErrorKind end{};
  co_await receive_all(c, got, end);
  CHECK(got == std::vector<int>{0, 1});
  CHECK(end == ErrorKind::eof);
  auto late = co_await c.send(7);
  REQUIRE_FALSE(late.has_value());
  CHECK(late.error().kind == ErrorKind::eof);
  CHECK(c.closed());
}

CORO_TEST("channel: cancelled in send and in receive") {
  Channel<int> full(0);
  Channel<int> empty(1);
  int sent = 0;
  std::vector<int> got;
  ErrorKind end{};
  Scope scope(loop.executor());
  scope.spawn(send_all(full, 0, 1, sent));
  scope.spawn(receive_all(empty, got, end));
  scope.cancel(kStop);
  co_await scope.join();
  CHECK(sent == 0);
  CHECK(end == ErrorKind::cancelled);
}

CORO_TEST("channel: a receiver that was woken and then cancelled loses nothing") {
  Channel<int> c(1);
  std::vector<int> first;
  std::vector<int> second;
  ErrorKind e1{};
  ErrorKind e2{};
  Scope leaving(loop.executor());
  Scope staying(loop.executor());
  leaving.spawn(receive_all(c, first, e1));
  int x = 5;
  CHECK(c.try_send(x));
  leaving.cancel(kStop);
  co_await leaving.join();
  staying.spawn(receive_all(c, second, e2));
  c.close();
  co_await staying.join();
  CHECK(first.size() + second.size() == 1);
}

CORO_TEST("channel: items that can only be moved") {
  Channel<std::unique_ptr<int>> c(1);
  auto item = std::make_unique<int>(3);
  const auto sent = co_await c.send(std::move(item));
  CHECK(sent.has_value());
  auto got = co_await c.receive();
  REQUIRE(got.has_value());
  CHECK(**got == 3);
}

}  // namespace
}  // namespace perigee::coro
