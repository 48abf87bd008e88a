#include "ticket_wait.h"

#include <algorithm>

#include "heart_beat.h"
#include "inner.h"

namespace perigee::proxy {

TicketWait::TicketWait(Exchange& x, const dispatch::Ask& ask)
    : Wait(&on_cancel), Timer(&too_long), Waiter(&decided), x_(x), queue_wait_(ask.queue_wait) {
  const TimePoint now = x.proxy.now();
  if (x.attempts != 0 || x.times.asked == kNever) x.times.asked = now;  // else it has waited for its session's turn
  if (ask.deadline != kNever) {
    queue_wait_ = std::min(queue_wait_, std::max(ask.deadline - now, Duration::zero()));
  }
  // A client that leaves while it waits is taken out of the queue at once.
  if (x.body_complete) x.client.stream->watch_end(&x.client.source, Side::client);
  verdict_ = x.proxy.parts.dispatcher.acquire(*this, ask, x.proxy.parts.port, now);
}

void TicketWait::begin_to_wait() {
  x_.proxy.executor().arm(*this, x_.proxy.now() + queue_wait_);
  if (x_.heart_beat) x_.heart_beat->waits_for(this);
}

dispatch::QueuePlace TicketWait::place() const { return x_.proxy.parts.dispatcher.place_of(*this, x_.proxy.now()); }

Result<dispatch::Ticket> TicketWait::await_resume() {
  disarm();
  if (x_.heart_beat) x_.heart_beat->waits_for(nullptr);
  if (cancelled_) return std::unexpected(*cancelled_);
  if (state() != State::granted) {
    x_.refusal = refusal();
    return fail(ErrorKind::unavailable, "no ticket");
  }
  x_.arrival = arrival_number();
  // With unread bytes in the way only the system knows that the client has left meanwhile.
  if (!x_.body_complete && x_.client.stream->peer_has_left()) {
    return fail(ErrorKind::eof, "the client left", Side::client);
  }
  return take();
}

void TicketWait::decided(dispatch::Waiter& w) { static_cast<TicketWait&>(w).wake(); }

void TicketWait::too_long(coro::Timer& t) {
  auto& self = static_cast<TicketWait&>(t);
  self.x_.proxy.parts.dispatcher.cancel(self, dispatch::Cancelled::queue_timeout, self.x_.proxy.now());
  self.wake();
}

void TicketWait::on_cancel(coro::Wait& w, const Error& reason) {
  auto& self = static_cast<TicketWait&>(w);
  self.x_.proxy.parts.dispatcher.cancel(self, dispatch::Cancelled::client_gone, self.x_.proxy.now());
  self.cancelled_ = reason;
}

}  // namespace perigee::proxy
