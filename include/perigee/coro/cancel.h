// Cancellation by asking. A CancelSource belongs to whoever may stop some work; the work's leaf waits
// (read, sleep, ticket …) hook themselves in and wake with the source's error. Nothing is destroyed while
// suspended: a cancelled coroutine ends by returning, and whoever started it joins it.
//
// A source is inherited: a coroutine that awaits a task hands it its own source (see coro/task.h).
// One thread.
#pragma once

#include "perigee/base/intrusive_list.h"
#include "perigee/base/result.h"

namespace perigee::coro {

struct CancelTag;

// Linked while somebody may be cancelled. The function is called at most once, with the hook unlinked;
// it must only arrange a wake-up, never resume anything itself.
class CancelHook : public ListNode<CancelTag> {
 public:
  using Function = void (*)(CancelHook&, const Error&);
  explicit CancelHook(Function fire) : fire_(fire) {}

 private:
  friend class CancelSource;
  Function fire_;
};

class CancelSource {
 public:
  CancelSource() = default;
  CancelSource(const CancelSource&) = delete;
  CancelSource& operator=(const CancelSource&) = delete;

  // Wakes everybody who waits under this source, and makes every later wait under it fail at once, with
  // `reason`. The first reason stays.
  void cancel(const Error& reason) {
    if (cancelled_) return;
    cancelled_ = true;
    reason_ = reason;
    while (auto* hook = hooks_.pop_front<CancelHook>()) hook->fire_(*hook, reason_);
  }
  [[nodiscard]] bool cancelled() const { return cancelled_; }
  [[nodiscard]] const Error& reason() const { return reason_; }

  // Makes the source fresh again, for the next exchange of a connection. Nobody may wait under it.
  void reset() { cancelled_ = false; }

  void add(CancelHook& hook) { hooks_.push_back(hook); }

 private:
  IntrusiveList<CancelTag> hooks_;
  Error reason_{ErrorKind::cancelled, Side::internal, Sent::maybe, 0, "cancelled"};
  bool cancelled_ = false;
};

// A source that is also cancelled when its parent is. `parent` may be null.
class ChildCancelSource : public CancelSource, private CancelHook {
 public:
  explicit ChildCancelSource(CancelSource* parent)
      : CancelHook([](CancelHook& h, const Error& e) { static_cast<ChildCancelSource&>(h).cancel(e); }) {
    if (parent == nullptr) return;
    if (parent->cancelled()) {
      cancel(parent->reason());
    } else {
      parent->add(*this);
    }
  }
};

}  // namespace perigee::coro
