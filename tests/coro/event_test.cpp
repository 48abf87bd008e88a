#include "perigee/coro/event.h"

#include <string>

#include "coro_test.h"

namespace perigee::coro {
namespace {

using namespace perigee::test;

Task<void> note_when_set(Event& e, char c, std::string& log) {
  const auto r = co_await e.wait();
  log.push_back(r ? c : '!');
}

CORO_TEST("event: set before the wait it does not suspend") {
  Event e;
  e.set();
  const auto r = co_await e.wait();
  CHECK(r.has_value());
  CHECK(e.is_set());
}

CORO_TEST("event: wakes all who wait, in order, and stays set until reset") {
  Event e;
  std::string log;
  Scope scope(loop.executor());
  scope.spawn(note_when_set(e, 'a', log));
  scope.spawn(note_when_set(e, 'b', log));
  e.set();
  CHECK(log.empty());
  co_await scope.join();
  CHECK(log == "ab");
  scope.spawn(note_when_set(e, 'c', log));
  CHECK(log == "abc");
  e.reset();
  scope.spawn(note_when_set(e, 'd', log));
  CHECK(scope.live() == 1);
  e.set();
  co_await scope.join();
  CHECK(log == "abcd");
}

CORO_TEST("event: a pulse wakes those who wait though it is reset at once") {
  Event e;
  std::string log;
  Scope scope(loop.executor());
  scope.spawn(note_when_set(e, 'a', log));
  e.set();
  e.reset();
  co_await scope.join();
  CHECK(log == "a");
}

CORO_TEST("event: a cancelled waiter leaves the line, the others stay") {
  Event e;
  std::string log;
  Scope leaving(loop.executor());
  Scope staying(loop.executor());
  leaving.spawn(note_when_set(e, 'x', log));
  staying.spawn(note_when_set(e, 'a', log));
  leaving.cancel(kStop);
  co_await leaving.join();
  CHECK(log == "!");
  e.set();
  co_await staying.join();
  CHECK(log == "!a");
}

}  // namespace
}  // namespace perigee::coro
