// Event: a flag that coroutines of one thread wait for. It stays set until reset.
#pragma once

#include "perigee/base/result.h"
#include "perigee/coro/wait.h"

namespace perigee::coro {

struct EventTag;

class Event {
 public:
  Event() = default;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  [[nodiscard]] bool is_set() const { return set_; }
  void reset() { set_ = false; }
  // Wakes everybody who waits, in order of arrival, through the ready queue.
  void set() {
    set_ = true;
    while (auto* waiter = waiters_.pop_front<Waiter>()) waiter->wake_now();
  }

  // An error only when cancelled.
  class Waiter : public Wait, public ListNode<EventTag> {
   public:
    explicit Waiter(Event& event) : Wait(&on_cancel), event_(event) {}
    bool await_ready() const noexcept { return event_.set_; }
    template <typename P>
    bool await_suspend(std::coroutine_handle<P> h) {
      if (!suspend(h)) return false;
      event_.waiters_.push_back(*this);
      return true;
    }
    Result<void> await_resume() const { return result_; }

   private:
    friend class Event;
    void wake_now() { wake(); }
    static void on_cancel(Wait& w, const Error& reason) {
      auto& self = static_cast<Waiter&>(w);
      self.ListNode<EventTag>::unlink();
      self.result_ = std::unexpected(reason);
    }
    Event& event_;
    Result<void> result_;
  };

  [[nodiscard]] Waiter wait() { return Waiter(*this); }

 private:
  IntrusiveList<EventTag> waiters_;
  bool set_ = false;
};

}  // namespace perigee::coro
