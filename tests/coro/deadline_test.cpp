#include "perigee/coro/deadline.h"

#include <string>

#include "coro_test.h"

namespace perigee::coro {
namespace {

using namespace perigee::test;

struct Rig {
  ManualLoop loop;
  CancelSource source;
  Deadline deadline{loop.executor(), source};
};

TEST_CASE("deadline: fires once due, with its error") {
  Rig r;
  r.deadline.set_after(10ms, kLate);
  r.loop.advance(9ms);
  CHECK_FALSE(r.source.cancelled());
  r.loop.advance(2ms);
  REQUIRE(r.source.cancelled());
  CHECK(std::string(r.source.reason().detail) == "late");
  CHECK(r.deadline.due() == kNever);
}

TEST_CASE("deadline: moved later ten thousand times it arms no timer for it") {
  Rig r;
  r.deadline.set_after(10ms, kLate);
  const TimePoint armed_for = r.loop.executor().next_due();
  for (int i = 1; i <= 10'000; ++i) {
    r.deadline.extend(r.loop.now() + 10ms + i * 1us);
    CHECK(r.loop.executor().next_due() == armed_for);
  }
  // The old timer looks, and arms itself for the rest.
  r.loop.advance(11ms);
  CHECK_FALSE(r.source.cancelled());
  CHECK(r.loop.executor().next_due() > armed_for);
  r.loop.advance(20ms);
  CHECK(r.source.cancelled());
}

TEST_CASE("deadline: moved earlier it fires earlier") {
  Rig r;
  r.deadline.set_after(1h, kLate);
  r.deadline.extend(r.loop.now() + 5ms);
  r.loop.advance(6ms);
  CHECK(r.source.cancelled());
}

TEST_CASE("deadline: cleared it does not fire; set again it does") {
  Rig r;
  r.deadline.set_after(5ms, kLate);
  r.deadline.clear();
  r.loop.advance(10ms);
  CHECK_FALSE(r.source.cancelled());
  r.deadline.set_after(5ms, kStop);
  r.loop.advance(10ms);
  REQUIRE(r.source.cancelled());
  CHECK(r.source.reason().kind == ErrorKind::cancelled);
}

TEST_CASE("deadline: cleared and set again before the old timer looked, earlier and later") {
  for (const Duration again : {Duration(2ms), Duration(20ms)}) {
    Rig r;
    r.deadline.set_after(10ms, kLate);
    r.loop.advance(1ms);
    r.deadline.clear();
    r.deadline.set_after(again, kLate);
    r.loop.advance(again - 1ms);
    CHECK_FALSE(r.source.cancelled());
    r.loop.advance(2ms);
    CHECK(r.source.cancelled());
  }
}

TEST_CASE("deadline: without a limit nothing is armed") {
  Rig r;
  r.deadline.set_after(Duration::max(), kLate);
  CHECK(r.loop.executor().next_due() == kNever);
}

TEST_CASE("deadline: due in the past fires with the next tick") {
  Rig r;
  r.deadline.set(r.loop.now() - 1s, kLate);
  r.loop.advance(1ms);
  CHECK(r.source.cancelled());
}

TEST_CASE("deadline: destroyed while armed it leaves no timer") {
  ManualLoop loop;
  CancelSource source;
  {
    Deadline d(loop.executor(), source);
    d.set_after(5ms, kLate);
  }
  CHECK(loop.executor().next_due() == kNever);
  loop.advance(10ms);
  CHECK_FALSE(source.cancelled());
}

}  // namespace
}  // namespace perigee::coro
