// Wait: the base of every leaf that a coroutine can sleep on (read, sleep, event, ticket …).
//
// A leaf is an awaiter that derives from Wait and is a local of the awaiting frame. It enters with
// `suspend(handle)`, and whoever completes it calls `wake()` (through the ready queue) or `resume_now()`
// (only from the bottom of the stack, as an I/O callback does). When the cancel source fires first,
// `on_cancel` is told why, must detach the leaf from whatever would have completed it, and the frame wakes.
#pragma once

#include <coroutine>
#include <utility>

#include "perigee/coro/cancel.h"
#include "perigee/coro/executor.h"

namespace perigee::coro {

class Wait : private ReadyNode, private CancelHook {
 public:
  Wait(const Wait&) = delete;
  Wait& operator=(const Wait&) = delete;

  [[nodiscard]] bool waiting() const { return executor_ != nullptr; }

 protected:
  // Called once, when the wait was cancelled: detach and keep the reason for await_resume().
  using OnCancel = void (*)(Wait&, const Error&);
  explicit Wait(OnCancel on_cancel) : ReadyNode(&run), CancelHook(&cancelled), on_cancel_(on_cancel) {}
  ~Wait() = default;

  // Returns false when the source is cancelled already: do not suspend (on_cancel has been called).
  template <typename P>
  bool suspend(std::coroutine_handle<P> h) {
    handle_ = h;
    CancelSource* source = h.promise().cancel;
    if (source != nullptr) {
      if (source->cancelled()) {
        on_cancel_(*this, source->reason());
        return false;
      }
      source->add(*this);
    }
    executor_ = h.promise().executor;
    return true;
  }

  [[nodiscard]] Executor& executor() const { return *executor_; }

  void wake() {
    if (Executor* executor = leave()) executor->post(*this);
  }
  // The frame may be gone when this returns.
  void resume_now() {
    if (leave() != nullptr) handle_.resume();
  }

 private:
  // Null: nobody is waiting.
  Executor* leave() {
    CancelHook::unlink();
    return std::exchange(executor_, nullptr);
  }
  static void run(ReadyNode& node) { static_cast<Wait&>(node).handle_.resume(); }
  static void cancelled(CancelHook& hook, const Error& reason) {
    auto& self = static_cast<Wait&>(hook);
    self.on_cancel_(self, reason);
    self.wake();
  }

  std::coroutine_handle<> handle_;
  Executor* executor_ = nullptr;  // while it waits
  OnCancel on_cancel_;
};

}  // namespace perigee::coro
