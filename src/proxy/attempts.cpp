// Attempts: a ticket and one try after the other; and when another try is safe.
//
// What may be sent again is the route's replay rule and never a guess: nothing after a byte of the answer
// went to the client, nothing whose body is no longer at hand, and all within one budget.
#include <algorithm>

#include "inner.h"
#include "perigee/balancing/backoff.h"
#include "perigee/coro/sleep.h"
#include "stages.h"

namespace perigee::proxy {

using coro::Task;

namespace {

// The wait for a ticket: a leaf like any other, with the dispatcher's waiter inside.
class TicketWait : public coro::Wait, private coro::Timer, private dispatch::Waiter {
 public:
  TicketWait(LoopProxy::Inner& proxy, const dispatch::Ask& ask)
      : Wait(&on_cancel), Timer(&too_long), Waiter(&decided), proxy_(proxy), queue_wait_(ask.queue_wait) {
    verdict_ = proxy.parts.dispatcher.acquire(*this, ask, proxy.parts.port, proxy.now());
  }
  bool await_ready() const noexcept { return verdict_ != dispatch::Verdict::waiting; }
  template <typename P>
  bool await_suspend(std::coroutine_handle<P> h) {
    if (!suspend(h)) return false;
    proxy_.executor().arm(*this, proxy_.now() + queue_wait_);
    return true;
  }
  // Empty when refused, or cancelled (then `cancelled()` says why).
  dispatch::Ticket await_resume() {
    disarm();
    if (state() == State::granted) return take();
    return {};
  }
  [[nodiscard]] const std::optional<Error>& cancelled() const { return cancelled_; }
  using dispatch::Waiter::arrival_number;
  using dispatch::Waiter::refusal;

 private:
  static void decided(dispatch::Waiter& w) { static_cast<TicketWait&>(w).wake(); }
  static void too_long(coro::Timer& t) {
    auto& self = static_cast<TicketWait&>(t);
    self.proxy_.parts.dispatcher.cancel(self, dispatch::Cancelled::queue_timeout, self.proxy_.now());
    self.wake();
  }
  static void on_cancel(coro::Wait& w, const Error& reason) {
    auto& self = static_cast<TicketWait&>(w);
    self.proxy_.parts.dispatcher.cancel(self, dispatch::Cancelled::client_gone, self.proxy_.now());
    self.cancelled_ = reason;
  }
  LoopProxy::Inner& proxy_;
  Duration queue_wait_;
  dispatch::Verdict verdict_;
  std::optional<Error> cancelled_;
};

// The request as the worker may have seen it, by the error that ended the attempt.
bool replay_allows(const Exchange& x, const Error& error) {
  if (x.head_sent || x.body_passing || error.side != Side::upstream) return false;
  switch (x.replay) {
    case Replay::never: return false;
    case Replay::unsent: return error.sent == Sent::nothing;
    // Waiting once more for a whole clock would not help a chat; a reset before the head may be tried again.
    case Replay::no_head: return error.sent == Sent::nothing || error.kind != ErrorKind::timeout;
    case Replay::idempotent: return true;
  }
  return false;
}

bool may_retry(Exchange& x, const Error& error) {
  if (!replay_allows(x, error)) return false;
  const RequestClass c = x.verdict.request_class;
  if (x.attempts > x.plan->config->retries.by_class.at(c)) return false;
  // Of what was never sent no worker does anything twice: the budget is not asked.
  if (error.sent == Sent::nothing) {
    x.proxy.parts.dispatcher.free_retry();
    return true;
  }
  return x.proxy.parts.dispatcher.try_retry(c, x.proxy.now());
}

// After a clock fired the connection's source is spent; makes it good for the next attempt.
Result<void> revive(Client& client) {
  if (!client.source.cancelled()) return {};
  if (client.proxy.scope.source().cancelled()) return std::unexpected(client.proxy.scope.source().reason());
  client.source.reset();
  client.stream->watch_end(&client.source, Side::client);
  if (client.source.cancelled()) return std::unexpected(client.source.reason());
  return {};
}

}  // namespace

dispatch::Ask ask_of(const Exchange& x) {
  dispatch::Ask ask;
  ask.pool = x.pool;
  ask.request_class = x.verdict.request_class;
  ask.priority = x.verdict.priority;
  ask.critical_lane = x.verdict.outside_slots || x.verdict.no_ticket;
  ask.streamed = x.streamed;
  ask.body_bytes = x.out.size() - x.out_head_bytes;
  ask.queue_wait = x.plan->config->queue_wait.of(x.verdict.request_class, x.orbit);
  return ask;
}

Task<Result<dispatch::Ticket>> wait_for_ticket(Exchange& x, dispatch::Ask ask) {
  x.times.asked = x.proxy.now();
  // A client that leaves while it waits is taken out of the queue at once.
  if (x.body_complete) x.client.stream->watch_end(&x.client.source, Side::client);
  TicketWait wait(x.proxy, ask);
  dispatch::Ticket ticket = co_await wait;
  if (wait.cancelled()) co_return std::unexpected(*wait.cancelled());
  if (!ticket) {
    x.refusal = wait.refusal();
    co_return fail(ErrorKind::unavailable, "no ticket");
  }
  x.arrival = wait.arrival_number();
  // With unread bytes in the way only the system knows that the client has left meanwhile.
  if (!x.body_complete && x.client.stream->peer_has_left()) {
    co_return fail(ErrorKind::eof, "the client left", Side::client);
  }
  co_return ticket;
}

Task<Result<Answering>> obtain_answer(Exchange& x) {
  dispatch::Ask ask = ask_of(x);
  for (;;) {
    auto ticket = co_await wait_for_ticket(x, ask);
    CO_TRY_VOID(ticket);
    auto answering = co_await attempt(x, std::move(*ticket));
    if (answering || !may_retry(x, answering.error())) co_return answering;
    auto revived = revive(x.client);
    if (revived && answering.error().sent != Sent::nothing) {
      const Duration pause = balancing::backoff(x.attempts - 1U, {}, x.proxy.rng);
      revived = co_await coro::sleep_until(x.proxy.now() + pause);
    }
    if (!revived) {
      x.proxy.parts.dispatcher.drop_retry();
      co_return std::unexpected(revived.error());
    }
    x.proxy.metrics().add(telemetry::Count::retries);
    ask.excluded |= dispatch::BackendSet{1} << x.backend.id;
    ask.retry = true;
    ask.arrival = x.arrival;
  }
}

}  // namespace perigee::proxy
