// The wait for a ticket: a leaf like any other, with the dispatcher's waiter inside.
//
// `auto ticket = co_await wait_for_ticket(x, ask);` It asks at once; only who is not served at once waits.
#pragma once

#include <optional>

#include "exchange.h"
#include "perigee/coro/wait.h"

namespace perigee::proxy {

class TicketWait : public coro::Wait, private coro::Timer, private dispatch::Waiter {
 public:
  TicketWait(Exchange& x, const dispatch::Ask& ask);
  bool await_ready() const noexcept { return verdict_ != dispatch::Verdict::waiting; }
  template <typename P>
  bool await_suspend(std::coroutine_handle<P> h) {
    if (!suspend(h)) return false;
    begin_to_wait();
    return true;
  }
  Result<dispatch::Ticket> await_resume();
  [[nodiscard]] dispatch::QueuePlace place() const;

 private:
  void begin_to_wait();
  static void decided(dispatch::Waiter& w);
  static void too_long(coro::Timer& t);
  static void on_cancel(coro::Wait& w, const Error& reason);

  Exchange& x_;
  Duration queue_wait_;
  dispatch::Verdict verdict_;
  std::optional<Error> cancelled_;
};

// One ticket; an error of kind `unavailable` leaves the refusal in x.refusal.
[[nodiscard]] inline TicketWait wait_for_ticket(Exchange& x, const dispatch::Ask& ask) { return {x, ask}; }

}  // namespace perigee::proxy
