// ManualLoop: an executor whose time is moved by hand. For tests and simulations; needs no operating system.
#pragma once

#include <utility>

#include "perigee/coro/scope.h"

namespace perigee::coro {

class ManualLoop {
 public:
  ManualLoop() : executor_(clock_.now()) {}

  [[nodiscard]] Executor& executor() { return executor_; }
  [[nodiscard]] const ManualClock& clock() const { return clock_; }
  [[nodiscard]] TimePoint now() const { return clock_.now(); }

  // Runs everything that can run without time passing.
  void run() { executor_.run_ready(); }

  // Moves time in the steps that timers ask for, running what wakes at each.
  void advance(Duration d) {
    const TimePoint target = clock_.now() + d;
    run();
    for (TimePoint next = executor_.next_due(); next <= target; next = executor_.next_due()) step_to(next);
    step_to(target);
  }
  // Until nothing is ready and no timer is armed; false when that takes longer than `limit`.
  bool run_until_idle(Duration limit = std::chrono::hours(1)) {
    const TimePoint end = clock_.now() + limit;
    run();
    for (TimePoint next = executor_.next_due(); next != kNever; next = executor_.next_due()) {
      if (next > end) return false;
      step_to(next);
    }
    return true;
  }
  // Runs a root task to its end on this loop and rethrows what it threw. False: it did not end in `limit`
  // and has been cancelled and joined.
  bool run_task(Task<void> task, Duration limit = std::chrono::hours(1)) {
    Scope scope(executor_);
    scope.spawn(std::move(task));
    run_while_live(scope, limit);
    const bool ended = scope.live() == 0;
    if (!ended) {
      scope.cancel(Error{ErrorKind::cancelled, Side::internal, Sent::maybe, 0, "test over"});
      run_while_live(scope, limit);
    }
    Scope joiner(executor_);
    joiner.spawn(scope.join());
    run();
    return ended && rethrow(joiner);
  }

 private:
  void step_to(TimePoint t) {
    if (t > clock_.now()) clock_.set(t);
    executor_.advance(clock_.now());
    run();
  }
  void run_while_live(Scope& scope, Duration limit) {
    const TimePoint end = clock_.now() + limit;
    run();
    while (scope.live() > 0) {
      const TimePoint next = executor_.next_due();
      if (next == kNever || next > end) return;
      step_to(next);
    }
  }
  static bool rethrow(Scope& joiner) {
    if (auto thrown = joiner.take_exception()) std::rethrow_exception(thrown);
    return true;
  }

  ManualClock clock_;
  Executor executor_;
};

}  // namespace perigee::coro
