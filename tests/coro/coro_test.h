// CORO_TEST("…") { … }: a test whose body is a coroutine on a ManualLoop called `loop`.
//
// It fails if the body does not end within an hour of the loop's time, if the loop is not idle afterwards,
// or if a coroutine frame is left. A failed REQUIRE ends the body and the test, as in any other test.
// Never CHECK(co_await …): name the result first (docs/architecture.md says why).
#pragma once

#include <doctest/doctest.h>

#include "perigee/coro/manual_loop.h"
#include "perigee/coro/sleep.h"

namespace perigee::test {

using namespace std::chrono_literals;

inline constexpr Error kStop{ErrorKind::cancelled, Side::internal, Sent::maybe, 0, "stop"};
inline constexpr Error kLate{ErrorKind::timeout, Side::internal, Sent::maybe, 0, "late"};

// Whatever is done meanwhile leaves no frame behind.
class FrameCheck {
 public:
  FrameCheck() = default;
  FrameCheck(const FrameCheck&) = delete;
  FrameCheck& operator=(const FrameCheck&) = delete;
  ~FrameCheck() { CHECK(coro::live_frames() == before_); }

 private:
  std::int64_t before_ = coro::live_frames();
};

inline void run_coro_test(coro::Task<void> (*body)(coro::ManualLoop&)) {
  const FrameCheck frames;
  coro::ManualLoop loop;
  const bool ended = loop.run_task(body(loop));
  CHECK(ended);
  CHECK_FALSE(loop.executor().has_ready());
  CHECK(loop.executor().next_due() == kNever);
}

// Sleeps without a care for cancellation.
inline coro::Task<void> nap(Duration d) {
  const auto me = co_await coro::here();
  (void)co_await coro::sleep_for(me, d);
}

}  // namespace perigee::test

#define CORO_TEST_IMPL(name, body)                                            \
  static ::perigee::coro::Task<void> body(::perigee::coro::ManualLoop& loop); \
  TEST_CASE(name) {                                                           \
    ::perigee::test::run_coro_test(&body);                                    \
  }                                                                           \
  static ::perigee::coro::Task<void> body([[maybe_unused]] ::perigee::coro::ManualLoop& loop)
#define CORO_TEST(name) CORO_TEST_IMPL(name, DOCTEST_ANONYMOUS(coro_test_body_))
