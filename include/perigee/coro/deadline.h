// Deadline: a bound in time on whatever runs under a cancel source, cheap enough to move on every byte.
//
// Moving it later only notes the new time; the timer that was armed for the old one looks when it fires,
// and arms itself for the rest. So a stream that gets a token every 50 ms touches no timer at all.
#pragma once

#include "perigee/base/result.h"
#include "perigee/coro/cancel.h"
#include "perigee/coro/executor.h"

namespace perigee::coro {

class Deadline : private Timer {
 public:
  // `target` must outlive this object.
  Deadline(Executor& executor, CancelSource& target)
      : Timer([](Timer& t) { static_cast<Deadline&>(t).fired(); }), executor_(executor), target_(target) {}

  // At `due` the target is cancelled with `error`. Replaces what was set before.
  void set(TimePoint due, const Error& error) {
    due_ = due;
    error_ = error;
    if (due == kNever) return;
    if (!armed() || due < armed_for_) {
      executor_.arm(*this, due);
      armed_for_ = due;
    }
  }
  void set_after(Duration d, const Error& error) {
    set(d == Duration::max() ? kNever : executor_.now() + d, error);
  }
  // Same error, later (or earlier) time.
  void extend(TimePoint due) { set(due, error_); }
  void clear() { due_ = kNever; }
  [[nodiscard]] TimePoint due() const { return due_; }

 private:
  void fired() {
    if (due_ == kNever) return;
    if (due_ > executor_.now()) {
      armed_for_ = due_;
      executor_.arm(*this, due_);
      return;
    }
    due_ = kNever;
    target_.cancel(error_);
  }

  Executor& executor_;
  CancelSource& target_;
  TimePoint due_ = kNever;
  TimePoint armed_for_ = kNever;
  Error error_{};
};

}  // namespace perigee::coro
