// POST /v1/chat/stop works only on the worker that holds the stream, and which one that is only the workers
// know. So all of them are asked at once, outside their slots, and the one that says `cancelled` wins.
#include <array>
#include <string>
#include <vector>

#include "belonging.h"
#include "inner.h"
#include "perigee/coro/scope.h"
#include "perigee/http/forward.h"
#include "perigee/http/json_peek.h"
#include "stages.h"

namespace perigee::proxy {

using balancing::Outcome;
using coro::Task;

namespace {

constexpr std::size_t kAnswerMax = 64UL * 1024;
constexpr Duration kPatience = std::chrono::seconds(10);

// How good an answer is to the client who wants its stream stopped.
enum class Rank : std::uint8_t { none, error, ok, cancelled };

struct Best {
  Rank rank = Rank::none;
  int status = 0;
  dispatch::BackendRef backend;
  std::string bytes;  // as they go to the client
  coro::Event cancelled;
};

// A whole answer, made ready for the client; nothing while it is incomplete.
Result<bool> take_answer(Exchange& x, dispatch::BackendRef from, std::string_view raw, Best& best) {
  http::ResponseParser parser;
  http::ResponseHead head;
  const http::HeadLimits limits;
  do {
    const auto parsed = parser.parse_head(raw, limits, {http::Method::post, {}}, head, x.proxy.response_table);
    if (parsed.refused()) return fail(ErrorKind::protocol, parsed.reason, Side::upstream, 502);
    if (!parsed.complete()) return false;
    raw.remove_prefix(parsed.consumed);
  } while (head.interim());
  std::array<std::string_view, 16> pieces;
  std::string body;
  for (bool done = false; !done;) {
    const auto step = parser.feed_body(raw, pieces);
    for (std::size_t i = 0; i < step.pieces; ++i) body.append(pieces[i]);
    raw.remove_prefix(step.consumed);
    if (step.refused()) return fail(ErrorKind::protocol, step.reason, Side::upstream, 502);
    done = step.done();
    if (!done && raw.empty()) return false;
  }
  const bool cancelled = head.status == 200 && body.find("\"cancelled\"") != std::string::npos;
  const Rank rank = cancelled ? Rank::cancelled : head.status < 400 ? Rank::ok : Rank::error;
  if (rank <= best.rank) return true;
  best.rank = rank;
  best.status = head.status;
  best.backend = from;
  http::ResponseContext context;
  context.plan = {http::Framing::length, body.size(), !x.keep_alive};
  context.client_minor = x.head.version_minor;
  context.request_id = x.text(Texts::kRequestId);
  context.date = x.proxy.date_text();
  ByteBuffer out;
  http::write_response_head(out, head, x.proxy.response_table, context);
  best.bytes.assign(out.view()).append(body);
  if (cancelled) best.cancelled.set();
  return true;
}

Task<Result<void>> exchange_with(Exchange& x, Upstream& upstream, Best& best) {
  CO_TRY_VOID(send_request(x, upstream));
  std::string raw;
  for (;;) {
    auto got = co_await upstream.stream->read();
    CO_TRY(const net::Bytes bytes, std::move(got));
    raw.append(bytes.data(), bytes.size());
    if (raw.size() > kAnswerMax) co_return fail(ErrorKind::too_large, "the answer to a stop is too long", Side::upstream);
    auto complete = take_answer(x, upstream.backend, raw, best);
    CO_TRY_VOID(complete);
    if (*complete) co_return Result<void>{};
  }
}

Task<void> ask_one(Exchange& x, dispatch::BackendRef backend, Best& best) {
  dispatch::Ask ask = ask_of(x);
  ask.pinned = backend;
  ask.queue_wait = kPatience;
  auto ticket = co_await wait_for_ticket(x, ask);
  if (!ticket) co_return;
  UpstreamPtr upstream = reuse(x, *ticket);
  if (!upstream) {
    auto connected = co_await connect(x, *ticket);
    if (!connected) {
      ticket->finish(x.outcome, x.proxy.now());
      co_return;
    }
    upstream = std::move(*connected);
  }
  const auto done = co_await exchange_with(x, *upstream, best);
  // A connection of which the rest is unknown is not used again.
  part_from(x.proxy, std::move(upstream->stream));
  ticket->finish(done ? Outcome::success : Outcome::client_gone, x.proxy.now());
}

std::vector<dispatch::BackendRef> workers_of(const Exchange& x) {
  std::vector<dispatch::BackendRef> found;
  const auto& config = *x.plan->config;
  for (const auto& status : x.proxy.parts.dispatcher.snapshot().backends) {
    for (const auto index : config.pools[x.pool_index].workers) {
      if (!status.removed && status.up && config.workers[index].name == status.name) found.push_back(status.ref);
    }
  }
  return found;
}

}  // namespace

Task<Result<void>> stop_everywhere(Exchange& x) {
  const auto peek = http::peek_json(x.out.view().substr(x.out_head_bytes), x.body_complete);
  if (peek.request_id.found) x.proxy.parts.stopped.note(stream_id_hash(peek.request_id.raw));
  const auto workers = workers_of(x);
  if (workers.empty()) {
    x.refusal = dispatch::Refusal{dispatch::Refused::no_backend, true, 5};
    co_return fail(ErrorKind::unavailable, "no worker is up");
  }
  Best best;
  coro::Scope asking(x.proxy.executor(), &x.client.source);
  coro::Deadline patience(x.proxy.executor(), asking.source());
  patience.set_after(kPatience, kAnswerTimeout);
  for (const auto worker : workers) asking.spawn(ask_one(x, worker, best));
  // Over when one has said `cancelled`, or all have answered, or none will.
  coro::Scope watching(x.proxy.executor(), &x.client.source);
  struct Watch {
    static Task<void> run(Best& b, coro::Scope& all) {
      const auto seen = co_await b.cancelled.wait();
      if (seen) all.cancel(Error{ErrorKind::cancelled, Side::internal, Sent::maybe, 0, "stopped elsewhere"});
    }
  };
  watching.spawn(Watch::run(best, asking));
  co_await coro::shielded(asking.join());
  watching.cancel(Error{ErrorKind::cancelled, Side::internal, Sent::maybe, 0, "all answered"});
  co_await coro::shielded(watching.join());
  // ORBIT ends the stream and lets its provider run on; our leaving makes it stop that too.
  if (best.rank == Rank::cancelled && peek.request_id.found) end_stopped(x, stream_id_hash(peek.request_id.raw));
  if (x.client.source.cancelled()) co_return std::unexpected(x.client.source.reason());
  if (best.rank == Rank::none) co_return fail(ErrorKind::reset, "no worker answered the stop", Side::upstream);
  x.attempts = 1;
  x.backend = best.backend;
  x.status = x.worker_status = best.status;
  x.head_sent = x.answered = true;
  const auto sent = x.client.stream->write(net::Bytes(best.bytes));
  if (!sent) co_return fail(ErrorKind::reset, "the client left", Side::client);
  co_return Result<void>{};
}

}  // namespace perigee::proxy
