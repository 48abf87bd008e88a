#include "perigee/coro/cancel.h"

#include <functional>
#include <string>
#include <vector>

#include "coro_test.h"
#include "perigee/coro/channel.h"
#include "perigee/coro/event.h"
#include "perigee/coro/timeout.h"

namespace perigee::coro {
namespace {

using namespace perigee::test;

Task<Result<void>> sleeper(Duration d) {
  const auto me = co_await here();
  co_return co_await sleep_for(me, d);
}

Task<void> keep(Task<Result<void>> task, Result<void>& into) {
  auto r = co_await task;
  into = r;
}

CORO_TEST("cancel: before the wait it fails at once, with the first reason") {
  CancelSource source;
  source.cancel(kLate);
  source.cancel(kStop);
  const TimePoint begun = loop.now();
  auto r = co_await under(source, sleeper(1s));
  REQUIRE_FALSE(r.has_value());
  CHECK(std::string(r.error().detail) == "late");
  CHECK(loop.now() == begun);
}

CORO_TEST("cancel: during the wait it wakes through the ready queue, not inside cancel()") {
  Scope scope(loop.executor());
  Result<void> r;
  scope.spawn(keep(sleeper(1s), r));
  scope.cancel(kStop);
  CHECK(r.has_value());  // not yet told
  co_await scope.join();
  REQUIRE_FALSE(r.has_value());
  CHECK(r.error().kind == ErrorKind::cancelled);
}

CORO_TEST("cancel: after the end it changes nothing") {
  Scope scope(loop.executor());
  Result<void> r = fail(ErrorKind::io, "unset");
  scope.spawn(keep(sleeper(10ms), r));
  co_await nap(20ms);
  scope.cancel(kStop);
  co_await scope.join();
  CHECK(r.has_value());
}

CORO_TEST("cancel: in the turn in which the wait was completed the completion stands") {
  Event event;
  CancelSource source;
  struct Waiting {
    static Task<void> run(Event& e, Result<void>& into) {
      auto r = co_await e.wait();
      into = r;
    }
    static Task<void> outer(CancelSource& s, Event& e, Result<void>& into) {
      co_await under(s, run(e, into));
    }
  };
  Result<void> first = fail(ErrorKind::io, "unset");
  Scope scope(loop.executor());
  scope.spawn(Waiting::outer(source, event, first));
  event.set();
  source.cancel(kStop);
  co_await scope.join();
  CHECK(first.has_value());
}

CORO_TEST("cancel: a cancelled source can be made fresh again") {
  CancelSource source;
  source.cancel(kStop);
  source.reset();
  auto r = co_await under(source, sleeper(10ms));
  CHECK(r.has_value());
}

CORO_TEST("cancel: a child source follows its parent and not the other way") {
  CancelSource parent;
  ChildCancelSource child(&parent);
  {
    ChildCancelSource sibling(&parent);
    sibling.cancel(kStop);
  }
  CHECK_FALSE(parent.cancelled());
  CHECK_FALSE(child.cancelled());
  parent.cancel(kLate);
  CHECK(child.cancelled());
  const ChildCancelSource late(&parent);
  CHECK(late.cancelled());
  const ChildCancelSource orphan(nullptr);
  CHECK_FALSE(orphan.cancelled());
  co_return;
}

CORO_TEST("shielded: runs to its end though the caller has been cancelled") {
  struct Body {
    static Task<void> run(bool& cleaned, Result<void>& own) {
      const auto me = co_await here();
      auto r = co_await sleep_for(me, 1s);
      own = r;
      auto cleaning = co_await shielded(sleeper(50ms));
      cleaned = cleaning.has_value();
    }
  };
  Scope scope(loop.executor());
  bool cleaned = false;
  Result<void> own;
  scope.spawn(Body::run(cleaned, own));
  scope.cancel(kStop);
  const TimePoint begun = loop.now();
  co_await scope.join();
  CHECK_FALSE(own.has_value());
  CHECK(cleaned);
  CHECK(loop.now() - begun >= 50ms);
}

CORO_TEST("under: only the given source stops the task") {
  CancelSource own;
  Result<void> r = fail(ErrorKind::io, "unset");
  struct Body {
    static Task<void> run(CancelSource& s, Result<void>& into) {
      auto got = co_await under(s, sleeper(100ms));
      into = got;
    }
  };
  Scope scope(loop.executor());
  scope.spawn(Body::run(own, r));
  scope.cancel(kStop);
  co_await nap(10ms);
  CHECK(scope.live() == 1);
  own.cancel(kLate);
  co_await scope.join();
  REQUIRE_FALSE(r.has_value());
  CHECK(std::string(r.error().detail) == "late");
}

// A story with every kind of wait in it, which can be stopped at each of them.
struct Story {
  Event event;
  Channel<int> channel{1};
  int steps = 0;
};

Task<Result<void>> tell(Story& s) {
  ++s.steps;
  auto slept = co_await sleeper(5ms);
  CO_TRY_VOID(slept);
  ++s.steps;
  auto seen = co_await s.event.wait();
  CO_TRY_VOID(seen);
  ++s.steps;
  auto got = co_await s.channel.receive();
  CO_TRY(const int x, std::move(got));
  ++s.steps;
  auto sent = co_await s.channel.send(x);
  CO_TRY_VOID(sent);
  ++s.steps;
  auto full = co_await s.channel.send(x);
  CO_TRY_VOID(full);
  ++s.steps;
  auto bounded = co_await with_timeout(50ms, kLate, sleeper(5ms));
  CO_TRY_VOID(bounded);
  ++s.steps;
  co_await yield();
  co_return Result<void>{};
}

Task<void> drive(Story& s) {
  co_await nap(10ms);
  s.event.set();
  co_await nap(10ms);
  int one = 1;
  s.channel.try_send(one);
  co_await nap(10ms);
  (void)co_await s.channel.receive();
}

CORO_TEST("cancel: at every millisecond of a story it ends in order and nothing is left") {
  int last = 0;
  for (int stop_ms = 0; stop_ms < 60; ++stop_ms) {
    Story story;
    Scope driver(loop.executor());
    Scope scope(loop.executor());
    Result<void> r = fail(ErrorKind::io, "unset");
    driver.spawn(drive(story));
    scope.spawn(keep(tell(story), r));
    co_await nap(stop_ms * 1ms);
    scope.cancel(kStop);
    co_await scope.join();
    driver.cancel(kStop);
    co_await driver.join();
    CHECK((r.has_value() || r.error().kind == ErrorKind::cancelled));
    CHECK(story.steps >= last);
    last = story.steps;
  }
  CHECK(last == 7);
}

}  // namespace
}  // namespace perigee::coro
