// Attempts: a ticket, a connection, one try; and when another try is safe.
//
// What may be sent again is the route's replay rule and never a guess: nothing after a byte of the answer
// went to the client, nothing whose body is no longer at hand, and all within one budget.
#include <algorithm>

#include "inner.h"
#include "perigee/balancing/backoff.h"
#include "perigee/coro/sleep.h"
#include "perigee/coro/timeout.h"
#include "stages.h"

namespace perigee::proxy {

using balancing::Outcome;
using coro::Task;

namespace {

// A pooled connection to a worker may die just when we write; a request whose loss nobody could repair
// takes only one that was in use a moment ago.
constexpr Duration kFreshEnough = std::chrono::seconds(1);

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

// The worker goes on with a request that nobody waits for any longer, where its client cannot stop it.
bool worker_runs_on(const Exchange& x, const Error& error) {
  const bool nobody_waits = error.side == Side::client || error.kind == ErrorKind::timeout;
  return nobody_waits && x.orbit && !x.streamed && !x.event_stream && !x.tunnelled && x.body_complete &&
         x.times.sent != kNever && error.kind != ErrorKind::protocol;
}

void settle(Exchange& x, dispatch::Ticket ticket, Upstream upstream, const Error& error) {
  if (error.side == Side::client) x.outcome = Outcome::client_gone;
  if (error.kind == ErrorKind::cancelled || error.kind == ErrorKind::unavailable) x.outcome = Outcome::our_refusal;
  if (upstream && ticket && worker_runs_on(x, error)) {
    detach(x, std::move(ticket), std::move(upstream));
    return;
  }
  if (upstream) part_from(x.proxy, std::move(upstream.stream));
  if (ticket) ticket.finish(x.outcome, x.proxy.now());
}

Task<Result<void>> one_attempt(Exchange& x, dispatch::Ticket ticket) {
  ++x.attempts;
  x.backend = ticket.backend().ref;
  x.times.granted = x.proxy.now();
  x.times.sent = kNever;
  auto connected = co_await connect(x, ticket);
  if (!connected) {
    settle(x, std::move(ticket), {}, connected.error());
    co_return std::unexpected(connected.error());
  }
  Upstream upstream = std::move(*connected);
  x.times.connected = x.proxy.now();
  auto done = co_await attempt(x, ticket, upstream);
  x.client.deadline.clear();
  if (!done) settle(x, std::move(ticket), std::move(upstream), done.error());
  co_return done;
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

Task<Result<Upstream>> connect(Exchange& x, const dispatch::Ticket& ticket) {
  LoopProxy::Inner& proxy = x.proxy;
  const KnownBackend& backend = proxy.backend(ticket.backend(), *x.plan);
  const bool careful = x.replay == Replay::unsent || x.replay == Replay::never;
  const dispatch::BackendRef ref = ticket.backend().ref;
  Upstream upstream = proxy.pool.take(ref, careful ? kFreshEnough : Duration::max());
  if (upstream) {
    proxy.metrics().add(telemetry::Count::upstream_reuses);
    co_return upstream;
  }
  auto stream = co_await coro::with_timeout(x.plan->config->clocks.connect, kConnectTimeout,
                                            proxy.parts.connector.connect(backend.endpoint));
  if (!stream) {
    proxy.metrics().add(telemetry::Count::upstream_connect_failures);
    Error error = stream.error();
    if (error.side == Side::internal && error.kind != ErrorKind::cancelled) error.side = Side::upstream;
    if (error.side == Side::upstream) error.sent = Sent::nothing;
    x.outcome = error.kind == ErrorKind::timeout     ? Outcome::connect_timeout
                : error.kind == ErrorKind::exhausted ? Outcome::our_refusal
                                                     : Outcome::connect_refused;
    co_return std::unexpected(error);
  }
  proxy.metrics().add(telemetry::Count::upstream_connects);
  upstream.stream = std::move(*stream);
  upstream.backend = ref;
  co_return upstream;
}

Task<Result<void>> forward_with_retries(Exchange& x) {
  dispatch::Ask ask = ask_of(x);
  for (;;) {
    auto ticket = co_await wait_for_ticket(x, ask);
    CO_TRY_VOID(ticket);
    auto outcome = co_await one_attempt(x, std::move(*ticket));
    if (outcome) co_return outcome;
    if (!may_retry(x, outcome.error())) co_return outcome;
    auto revived = revive(x.client);
    if (revived && outcome.error().sent != Sent::nothing) {
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
