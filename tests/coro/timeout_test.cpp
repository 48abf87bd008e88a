#include "perigee/coro/timeout.h"

#include <string>

#include "coro_test.h"

namespace perigee::coro {
namespace {

using namespace perigee::test;

constexpr Error kOuter{ErrorKind::timeout, Side::client, Sent::maybe, 0, "outer"};
constexpr Error kInner{ErrorKind::timeout, Side::upstream, Sent::maybe, 0, "inner"};

Task<Result<int>> work(Duration d) {
  const auto me = co_await here();
  auto slept = co_await sleep_for(me, d);
  CO_TRY_VOID(slept);
  co_return 1;
}

// Clean-up that takes its time although it was asked to stop.
Task<Result<int>> slow_to_stop(Duration d, bool& cleaned) {
  auto r = co_await work(1h);
  (void)co_await shielded(work(d));
  cleaned = true;
  co_return r;
}

Task<Result<int>> nested(Duration outer, Duration inner, Duration takes) {
  struct Middle {
    static Task<Result<int>> run(Duration limit, Duration takes_) {
      co_return co_await with_timeout(limit, kInner, work(takes_));
    }
  };
  co_return co_await with_timeout(outer, kOuter, Middle::run(inner, takes));
}

CORO_TEST("timeout: the task's own result when it is in time") {
  auto r = co_await with_timeout(1s, kLate, work(10ms));
  REQUIRE(r.has_value());
  CHECK(*r == 1);
}

CORO_TEST("timeout: the error when it is not, and the task has ended by then") {
  const TimePoint begun = loop.now();
  auto r = co_await with_timeout(10ms, kLate, work(1h));
  REQUIRE_FALSE(r.has_value());
  CHECK(r.error().kind == ErrorKind::timeout);
  CHECK(loop.now() - begun <= 11ms);
  bool cleaned = false;
  r = co_await with_timeout(10ms, kLate, slow_to_stop(100ms, cleaned));
  CHECK_FALSE(r.has_value());
  CHECK(cleaned);
}

CORO_TEST("timeout: nested, the earlier one wins and says its own name") {
  auto r = co_await nested(50ms, 10ms, 1h);
  CHECK(std::string(r.error().detail) == "inner");
  r = co_await nested(10ms, 50ms, 1h);
  CHECK(std::string(r.error().detail) == "outer");
  r = co_await nested(50ms, 50ms, 10ms);
  CHECK(r.has_value());
}

CORO_TEST("timeout: in the tick of the completion whoever was armed first wins, and nothing is left") {
  // The bound is armed before the sleep, so that a tie is a timeout.
  auto tie = co_await with_timeout(10ms, kLate, work(10ms));
  REQUIRE_FALSE(tie.has_value());
  CHECK(tie.error().kind == ErrorKind::timeout);
  // Completed in an earlier step of the same tick: a success stays one.
  struct Early {
    static Task<Result<int>> run(Event& e) {
      auto r = co_await e.wait();
      CO_TRY_VOID(r);
      co_return 2;
    }
    static Task<void> set_later(Event& e) {
      co_await nap(10ms);
      e.set();
    }
  };
  Event event;
  Scope scope(loop.executor());
  scope.spawn(Early::set_later(event));
  auto r = co_await with_timeout(11ms, kLate, Early::run(event));
  REQUIRE(r.has_value());
  CHECK(*r == 2);
  co_await scope.join();
}

CORO_TEST("timeout: the caller's cancel reaches the task") {
  Result<int> r = 0;
  struct Body {
    static Task<void> run(Result<int>& into) {
      auto got = co_await with_timeout(1h, kLate, work(1h));
      into = got;
    }
  };
  Scope scope(loop.executor());
  scope.spawn(Body::run(r));
  scope.cancel(kStop);
  co_await scope.join();
  REQUIRE_FALSE(r.has_value());
  CHECK(r.error().kind == ErrorKind::cancelled);
}

CORO_TEST("timeout: no limit") {
  auto r = co_await with_timeout(Duration::max(), kLate, work(10min));
  CHECK(r.has_value());
}

}  // namespace
}  // namespace perigee::coro
