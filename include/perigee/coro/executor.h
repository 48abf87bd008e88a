// The ready queue and the timers of one thread: what every suspended coroutine is woken through.
//
// An Executor does not know where time or I/O come from. `net::Loop` drives one from libuv, `ManualLoop`
// one by hand in tests. Wake-ups go through the ready queue in order of arrival, never inline from the
// code that causes them; only a socket's read resumes its reader directly, from the bottom of the stack.
// Everything here belongs to one thread.
#pragma once

#include <cstdint>

#include "perigee/base/intrusive_list.h"
#include "perigee/base/time.h"
#include "perigee/coro/timer_wheel.h"

namespace perigee::coro {

struct ReadyTag;

// Something to run once. The function is called with the node already unlinked.
class ReadyNode : public ListNode<ReadyTag> {
 public:
  using Function = void (*)(ReadyNode&);
  explicit ReadyNode(Function run) : run_(run) {}

 private:
  friend class Executor;
  Function run_;
};

class Executor {
 public:
  explicit Executor(TimePoint now) : wheel_(now), now_(now) {}
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // The time of the current turn: moved by the driver, constant while callbacks run.
  [[nodiscard]] TimePoint now() const { return now_; }

  // Runs `node` after everything posted before it. Posting a posted node changes nothing.
  void post(ReadyNode& node) {
    if (!node.linked()) ready_.push_back(node);
  }
  [[nodiscard]] bool has_ready() const { return !ready_.empty(); }

  // (Re-)arms `timer`; it fires in the first turn at or after `due`, at most a millisecond late.
  void arm(Timer& timer, TimePoint due) { wheel_.arm(timer, due); }

  // For the driver. Moves time (never backwards) without firing timers yet.
  void note_time(TimePoint now) {
    if (now > now_) now_ = now;
  }
  // For the driver. Runs what is ready, and what that makes ready, until nothing is.
  void run_ready() {
    while (auto* node = ready_.pop_front<ReadyNode>()) node->run_(*node);
  }
  // Moves time (never backwards) and fires what is due.
  void advance(TimePoint now) {
    if (now > now_) now_ = now;
    wheel_.advance(now_);
  }
  // When the driver must call advance() next at the latest; kNever without timers.
  [[nodiscard]] TimePoint next_due() const { return wheel_.next_due(); }

 private:
  IntrusiveList<ReadyTag> ready_;
  TimerWheel wheel_;
  TimePoint now_;
};

}  // namespace perigee::coro
