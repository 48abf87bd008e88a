// Attempts: a ticket and one try after the other; and when another try is safe.
//
// What may be sent again is the route's replay rule and never a guess: nothing after a byte of the answer
// went to the client, nothing whose body is no longer at hand, and all within one budget.
#include <algorithm>

#include "belonging.h"
#include "inner.h"
#include "perigee/admission/overload.h"
#include "perigee/balancing/backoff.h"
#include "perigee/coro/sleep.h"
#include "stages.h"

namespace perigee::proxy {

using coro::Task;

namespace {

// The request as the worker may have seen it, by the error that ended the attempt.
bool replay_allows(const Exchange& x, const Error& error) {
  if (x.head_sent || x.body_passing || error.side != Side::upstream || error.kind == ErrorKind::denied) return false;
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

// After it the answer is of no use to anybody: as a trusted peer says, else as the class has it.
TimePoint deadline_of(const Exchange& x) {
  if (x.deadline_ms != 0) return x.times.begun + std::chrono::milliseconds(x.deadline_ms);
  const Duration of_class = x.plan->config->deadlines.at(x.verdict.request_class);
  return of_class == config::kNoClock ? kNever : x.times.begun + of_class;
}

}  // namespace

dispatch::Ask ask_of(const Exchange& x) {
  dispatch::Ask ask;
  if (x.plan->config->pools[x.pool_index].overload == config::Overload::pi) {
    ask.cohort = admission::rejector_cohort(x.tenant.id, x.proxy.parts.clock.wall_ms() / 3'600'000);
  }
  ask.pool = x.pool;
  ask.request_class = x.verdict.request_class;
  ask.priority = x.verdict.priority;
  ask.critical_lane = x.verdict.outside_slots || x.verdict.no_ticket;
  ask.streamed = x.streamed;
  ask.body_bytes = x.out.size() - x.out_head_bytes;
  ask.queue_wait = x.plan->config->queue_wait.of(x.verdict.request_class, x.orbit);
  ask.deadline = deadline_of(x);
  ask.tenant = x.tenant.id;
  if (x.plan->tenants != nullptr) ask.tenant_weight = x.plan->tenants->weight(x.tenant);
  if (x.belonging) prefer(x, ask);
  return ask;
}

Task<Result<void>> obtain_answer(Exchange& x) {
  dispatch::Ask ask = ask_of(x);
  for (;;) {
    auto ticket = co_await wait_for_ticket(x, ask);
    if (!ticket && x.belonging && go_elsewhere(x, ask)) continue;
    CO_TRY_VOID(ticket);
    x.ticket = std::move(*ticket);
    auto answered = co_await attempt(x);
    if (answered) co_return answered;

    const Error error = answered.error();
    x.client.deadline.clear();
    if (x.upload) co_await end_upload(x);
    give_up(x, error);
    if (!may_retry(x, error)) co_return answered;
    auto revived = revive(x.client);
    if (revived && error.sent != Sent::nothing) {
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
