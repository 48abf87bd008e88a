#include "perigee/coro/scope.h"

#include <stdexcept>
#include <string>

#include "coro_test.h"

namespace perigee::coro {
namespace {

using namespace perigee::test;

Task<void> count_down(Duration d, int& left) {
  co_await nap(d);
  --left;
}
Task<void> nothing() {
  co_return;
}
Task<void> explode(Duration d) {
  co_await nap(d);
  throw std::runtime_error("child");
}

CORO_TEST("scope: a child runs at once, up to its first wait") {
  Scope scope(loop.executor());
  scope.spawn(nothing());
  CHECK(scope.live() == 0);
  int left = 1;
  scope.spawn(count_down(1ms, left));
  CHECK(scope.live() == 1);
  co_await scope.join();
  CHECK(left == 0);
}

CORO_TEST("scope: join waits for all, those spawned meanwhile included") {
  struct Body {
    static Task<void> parent(Scope& scope, int& left) {
      co_await nap(10ms);
      scope.spawn(count_down(50ms, left));
    }
  };
  Scope scope(loop.executor());
  int left = 3;
  scope.spawn(count_down(5ms, left));
  scope.spawn(count_down(20ms, left));
  scope.spawn(Body::parent(scope, left));
  co_await scope.join();
  CHECK(left == 0);
  CHECK(scope.live() == 0);
  co_await scope.join();  // again, at once
}

CORO_TEST("scope: several may join") {
  struct Body {
    static Task<void> joiner(Scope& scope, int& joined) {
      co_await scope.join();
      ++joined;
    }
  };
  Scope worked(loop.executor());
  Scope joining(loop.executor());
  int left = 1;
  int joined = 0;
  worked.spawn(count_down(10ms, left));
  joining.spawn(Body::joiner(worked, joined));
  joining.spawn(Body::joiner(worked, joined));
  CHECK(joined == 0);
  co_await joining.join();
  CHECK(joined == 2);
}

CORO_TEST("scope: what a child threw is thrown by join, once, when all have ended") {
  Scope scope(loop.executor());
  int left = 1;
  scope.spawn(explode(1ms));
  scope.spawn(explode(2ms));
  scope.spawn(count_down(10ms, left));
  bool caught = false;
  try {
    co_await scope.join();
  } catch (const std::runtime_error&) {
    caught = true;
  }
  CHECK(caught);
  CHECK(left == 0);
  co_await scope.join();
}

CORO_TEST("scope: cancelling the parent cancels the children") {
  CancelSource parent;
  Scope scope(loop.executor(), &parent);
  int left = 1;
  scope.spawn(count_down(1h, left));
  const TimePoint begun = loop.now();
  parent.cancel(kStop);
  co_await scope.join();
  CHECK(loop.now() == begun);
  scope.spawn(count_down(1h, left));  // under a cancelled source every wait fails at once
  CHECK(scope.live() == 0);
}

CORO_TEST("scope: a hundred thousand children") {
  Scope scope(loop.executor());
  int left = 100'000;
  for (int i = 0; i < 100'000; ++i)
    scope.spawn(count_down(std::chrono::milliseconds(i % 50), left));
  co_await scope.join();
  CHECK(left == 0);
}

}  // namespace
}  // namespace perigee::coro
