#include "perigee/coro/task.h"

#include <memory>
#include <stdexcept>
#include <string>

#include "coro_test.h"

namespace perigee::coro {
namespace {

using namespace perigee::test;

Task<int> answer(int x) {
  co_return x;
}

Task<std::unique_ptr<int>> boxed(int x) {
  co_await yield();
  co_return std::make_unique<int>(x);
}

Task<Result<std::unique_ptr<int>>> boxed_or(bool good) {
  co_await yield();
  if (!good) co_return fail(ErrorKind::refused, "no");
  co_return std::make_unique<int>(7);
}

Task<int> thrower(bool after_a_wait) {
  if (after_a_wait) co_await yield();
  throw std::runtime_error("thrown");
}

Task<int> hands_up(bool after_a_wait) {
  co_return co_await thrower(after_a_wait);
}

Task<int> depth(int n) {
  if (n == 0) {
    co_await yield();
    co_return 0;
  }
  const int below = co_await depth(n - 1);
  co_return below + 1;
}

CORO_TEST("task: a result comes back, at once or after a wait") {
  const int x = co_await answer(3);
  CHECK(x == 3);
  const int d = co_await depth(100);
  CHECK(d == 100);
}

CORO_TEST("task: a million awaits of tasks that finish at once take no stack") {
  long sum = 0;
  for (int i = 0; i < 1'000'000; ++i) {
    const int x = co_await answer(1);
    sum += x;
  }
  CHECK(sum == 1'000'000);
}

CORO_TEST("task: a hundred thousand awaits that really wait take no stack") {
  for (int i = 0; i < 100'000; ++i)
    co_await yield();
  auto last = co_await boxed(1);
  CHECK(*last == 1);
}

CORO_TEST("task: results that can only be moved") {
  auto box = co_await boxed(5);
  CHECK(*box == 5);
  auto good = co_await boxed_or(true);
  REQUIRE(good.has_value());
  CHECK(**good == 7);
  auto bad = co_await boxed_or(false);
  REQUIRE_FALSE(bad.has_value());
  CHECK(bad.error().kind == ErrorKind::refused);
}

CORO_TEST("task: an exception goes up to whoever awaits, at once or after a wait") {
  for (const bool late : {false, true}) {
    bool caught = false;
    try {
      (void)co_await hands_up(late);
    } catch (const std::runtime_error& e) {
      caught = std::string(e.what()) == "thrown";
    }
    CHECK(caught);
  }
}

TEST_CASE("task: one that is never awaited is destroyed unstarted") {
  const FrameCheck frames;
  auto witness = std::make_shared<int>(1);
  struct Body {
    static Task<void> run(std::shared_ptr<int> w) {
      *w = 2;
      co_return;
    }
  };
  {
    const Task<void> idle = Body::run(witness);
    CHECK(witness.use_count() == 2);
  }
  CHECK(witness.use_count() == 1);
  CHECK(*witness == 1);
}

TEST_CASE("task: moving one leaves the other empty, assigning destroys the old one") {
  const FrameCheck frames;
  Task<int> a = answer(1);
  Task<int> b = std::move(a);
  b = answer(2);
  a = std::move(b);
  ManualLoop loop;
  struct Body {
    static Task<void> run(Task<int> t) {
      const int x = co_await t;
      CHECK(x == 2);
    }
  };
  CHECK(loop.run_task(Body::run(std::move(a))));
}

TEST_CASE("task: a root that throws hands the exception to the driver") {
  const FrameCheck frames;
  ManualLoop loop;
  struct Body {
    static Task<void> run() {
      co_await yield();
      throw std::runtime_error("root");
    }
  };
  CHECK_THROWS_AS(loop.run_task(Body::run()), std::runtime_error);
}

TEST_CASE("task: a root that never ends is reported, cancelled and joined") {
  const FrameCheck frames;
  ManualLoop loop;
  struct Body {
    static Task<void> run(bool& cancelled) {
      const auto slept = co_await sleep_until(kNever);
      cancelled = !slept.has_value();
    }
  };
  bool cancelled = false;
  CHECK_FALSE(loop.run_task(Body::run(cancelled)));
  CHECK(cancelled);
}

}  // namespace
}  // namespace perigee::coro
