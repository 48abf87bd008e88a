// Sleeping, and asking a coroutine's own executor and cancel source. None of these block the thread.
#pragma once

#include "perigee/base/result.h"
#include "perigee/coro/wait.h"

namespace perigee::coro {

// `const auto slept = co_await sleep_until(t);`: an error only when cancelled.
class sleep_until : public Wait, private Timer {
 public:
  explicit sleep_until(TimePoint due) : Wait(&on_cancel), Timer(&fired), due_(due) {}
  bool await_ready() const noexcept { return false; }
  template <typename P>
  bool await_suspend(std::coroutine_handle<P> h) {
    if (!suspend(h)) return false;
    if (due_ != kNever) executor().arm(*this, due_);
    return true;
  }
  Result<void> await_resume() const { return result_; }

 private:
  static void fired(Timer& t) { static_cast<sleep_until&>(t).wake(); }
  static void on_cancel(Wait& w, const Error& reason) {
    auto& self = static_cast<sleep_until&>(w);
    self.disarm();
    self.result_ = std::unexpected(reason);
  }
  TimePoint due_;
  Result<void> result_;
};

// What the running coroutine runs on and under. Never suspends.
struct Here {
  Executor* executor;
  CancelSource* cancel;  // may be null: cannot be cancelled
};
class here {
 public:
  bool await_ready() const noexcept { return false; }
  template <typename P>
  bool await_suspend(std::coroutine_handle<P> h) noexcept {
    here_ = Here{h.promise().executor, h.promise().cancel};
    return false;
  }
  Here await_resume() const noexcept { return here_; }

 private:
  Here here_{};
};

// Lets everything that is ready run first.
class yield : public Wait {
 public:
  yield() : Wait([](Wait&, const Error&) {}) {}
  bool await_ready() const noexcept { return false; }
  template <typename P>
  bool await_suspend(std::coroutine_handle<P> h) {
    if (!suspend(h)) return false;
    wake();
    return true;
  }
  void await_resume() const noexcept {}
};

inline sleep_until sleep_for(const Here& here, Duration d) { return sleep_until(here.executor->now() + d); }

}  // namespace perigee::coro
