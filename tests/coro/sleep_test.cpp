#include "perigee/coro/sleep.h"

#include <string>

#include "coro_test.h"

namespace perigee::coro {
namespace {

using namespace perigee::test;

Task<void> note_after(Duration d, char c, std::string& log) {
  co_await nap(d);
  log.push_back(c);
}

Task<void> note_turns(char c, std::string& log) {
  for (int i = 0; i < 3; ++i) {
    log.push_back(c);
    co_await yield();
  }
}

CORO_TEST("sleep: in order of due time, equal times in order of arming") {
  std::string log;
  Scope scope(loop.executor());
  scope.spawn(note_after(30ms, 'd', log));
  scope.spawn(note_after(10ms, 'a', log));
  scope.spawn(note_after(20ms, 'b', log));
  scope.spawn(note_after(20ms, 'c', log));
  co_await scope.join();
  CHECK(log == "abcd");
}

CORO_TEST("sleep: never early, at most a millisecond late") {
  const TimePoint begun = loop.now();
  co_await nap(1500us);
  const Duration slept = loop.now() - begun;
  CHECK(slept >= 1500us);
  CHECK(slept <= 2500us);
}

CORO_TEST("sleep: for no time at all still lets others run and returns") {
  const TimePoint begun = loop.now();
  co_await nap(0ns);
  CHECK(loop.now() - begun <= 1ms);
  const auto past = co_await sleep_until(begun - 5s);
  CHECK(past.has_value());
}

CORO_TEST("yield: the others take their turns, in order") {
  std::string log;
  Scope scope(loop.executor());
  scope.spawn(note_turns('a', log));
  scope.spawn(note_turns('b', log));
  co_await scope.join();
  CHECK(log == "ababab");
}

CORO_TEST("here: the executor and the source that the coroutine runs under") {
  const auto me = co_await here();
  CHECK(me.executor == &loop.executor());
  CHECK(me.cancel != nullptr);
  struct Child {
    static Task<void> run(CancelSource& expected) {
      const auto child = co_await here();
      CHECK(child.cancel == &expected);
    }
  };
  CancelSource other;
  co_await under(other, Child::run(other));
  co_await Child::run(*me.cancel);
}

}  // namespace
}  // namespace perigee::coro
