// How connections end. A worker gets FIN and is read to its end for a while: an RST makes uvicorn keep the
// connection's objects until its keep-alive timer fires. A client whose request we did not read whole gets
// our answer first and is read on, because a close with unread bytes would destroy it on the way.
#include <array>

#include "belonging.h"
#include "inner.h"
#include "perigee/coro/timeout.h"
#include "rates.h"
#include "stages.h"
#include "token_count.h"

namespace perigee::proxy {

using coro::Task;

namespace {

constexpr Duration kWorkerFarewell = std::chrono::seconds(5);
constexpr Duration kClientFarewell = std::chrono::seconds(2);
constexpr std::uint64_t kFarewellBytes = 4UL * 1024 * 1024;

Task<Result<void>> read_to_end(net::Stream& stream) {
  const std::uint64_t until = stream.bytes_in() + kFarewellBytes;
  while (stream.bytes_in() < until) {
    auto got = co_await stream.read();
    if (!got) break;
  }
  co_return Result<void>{};
}

Task<Result<void>> backlog_below(net::Stream& stream, std::size_t bytes) { co_return co_await stream.drained(bytes); }

Task<void> say_farewell(net::StreamPtr stream) {
  co_await coro::with_timeout(kWorkerFarewell, coro::kTimedOut, read_to_end(*stream));
}

// Where an answer stands whose client has gone.
struct Detached {
  http::Expected expected;
  http::HeadLimits limits;
  bool head_seen;
};

// Reads an answer that nobody waits for to its end. True when the connection may be used again.
Task<Result<bool>> discard_answer(LoopProxy::Inner& proxy, dispatch::Ticket& ticket, Upstream& upstream, Detached state) {
  std::array<std::string_view, 32> pieces;
  http::ResponseHead head;
  bool reusable = !state.head_seen;  // what a head said that was passed on is no longer known
  for (;;) {
    // The client may have left in the moment in which the last of the answer was written for it.
    if (state.head_seen && upstream.parser.body().done()) co_return reusable;
    auto got = co_await upstream.stream->read();
    CO_TRY(net::Bytes bytes, std::move(got));
    ticket.bytes(proxy.now());
    const std::unique_ptr<std::string> joined = std::move(upstream.partial_head);
    if (joined) {
      joined->append(bytes.data(), bytes.size());
      bytes = net::Bytes(*joined);
    }
    while (!state.head_seen && !bytes.empty()) {
      const auto parsed = upstream.parser.parse_head(bytes, state.limits, state.expected, head, proxy.response_table);
      if (parsed.refused()) co_return false;
      if (!parsed.complete()) {
        upstream.partial_head = std::make_unique<std::string>(bytes.data(), bytes.size());
        break;
      }
      bytes = bytes.subspan(parsed.consumed);
      state.head_seen = !head.interim();
      reusable = head.keep_alive;
    }
    while (state.head_seen) {
      const auto step = upstream.parser.feed_body(bytes, pieces);
      bytes = bytes.subspan(step.consumed);
      if (step.refused()) co_return false;
      if (step.done()) {
        upstream.stream->unread(bytes);
        co_return reusable;
      }
      if (bytes.empty()) break;
    }
  }
}

Task<void> run_detached(LoopProxy::Inner& proxy, dispatch::Ticket ticket, UpstreamPtr upstream, Detached state,
                        balancing::Outcome outcome, Duration limit, admission::RunningPlaces places,
                        std::unique_ptr<Belonging> belonging) {
  auto discard = discard_answer(proxy, ticket, *upstream, state);
  const auto reusable = co_await coro::with_timeout(limit, coro::kTimedOut, std::move(discard));
  ticket.finish(outcome, proxy.now(), Duration::zero(), dispatch::kTokensUnknown);
  places.give_back();  // its tenant's: the worker is done only now
  belonging.reset();   // and so is its session's turn
  --proxy.exchanges;
  if (reusable && *reusable) {
    proxy.pool.give_back(std::move(upstream));
  } else {
    part_from(proxy, std::move(upstream->stream));
  }
}

// How long an answer is still read that nobody waits for any longer: a worker may go on with it, whether or
// not we do.
Duration reads_on(const Exchange& x, const Error& error) {
  const bool nobody_waits = error.side == Side::client || error.kind == ErrorKind::timeout;
  const bool readable = !x.tunnelled && !x.endless && x.body_complete && x.times.sent != kNever;
  if (!nobody_waits || !readable || error.kind == ErrorKind::protocol) return Duration::zero();
  const config::Config& config = *x.proxy.plan->config;
  const config::Abandoned& abandoned = config.abandoned;
  const Duration common = x.streamed || x.event_stream ? abandoned.streams : x.orbit ? abandoned.orbit : abandoned.http;
  const Duration wished = config.classes.at(x.verdict.request_class).abandoned.value_or(common);
  const Duration passed = x.proxy.now() - x.ticket.granted_at();
  return std::clamp<Duration>(config.process.detached_max - passed, Duration::zero(), wished);
}

}  // namespace

void give_up(Exchange& x, const Error& error) {
  if (error.side == Side::client) x.outcome = balancing::Outcome::client_gone;
  if (error.kind == ErrorKind::cancelled || error.kind == ErrorKind::unavailable) x.outcome = balancing::Outcome::our_refusal;
  if (x.upstream && x.ticket) {
    if (const Duration time = reads_on(x, error); time > Duration::zero()) {
      detach(x, time);
      return;
    }
  }
  if (const UpstreamPtr upstream = std::move(x.upstream)) part_from(x.proxy, std::move(upstream->stream));
  x.ticket.finish(x.outcome, x.proxy.now(), Duration::zero(), output_tokens(x));
}

void settle(Exchange& x, const Result<void>& delivered) {
  if (!delivered) {
    give_up(x, delivered.error());
    return;
  }
  x.ticket.finish(x.outcome, x.proxy.now(), Duration::zero(), output_tokens(x));
  if (!x.upstream) return;
  if (x.reusable && x.body_complete) {
    x.upstream->stream->watch_end(nullptr, Side::upstream);
    x.proxy.pool.give_back(std::move(x.upstream));
  } else {
    part_from(x.proxy, std::move(x.upstream->stream));
  }
}

Task<void> end_upload(Exchange& x) {
  x.upload->cancel(Error{ErrorKind::cancelled, Side::internal, Sent::maybe, 0, "nobody reads it any longer"});
  co_await coro::shielded(x.upload->join());
  x.upload.reset();
}

void part_from(LoopProxy::Inner& proxy, net::StreamPtr stream) {
  if (stream == nullptr || stream->ended() || proxy.scope.source().cancelled()) return;
  stream->shutdown();
  proxy.scope.spawn(say_farewell(std::move(stream)));
}

void detach(Exchange& x, Duration time) {
  x.detached = true;
  x.proxy.metrics().add(telemetry::Count::detached);
  ++x.proxy.exchanges;
  if (x.belonging) x.belonging->stream.ended();
  const bool head_seen = x.times.head != kNever;
  const auto& config = *x.proxy.plan->config;
  const Detached state{{x.head.method, {}}, {config.heads.bytes, config.heads.target, config.heads.fields}, head_seen};
  admission::RunningPlaces places = x.rates ? std::move(x.rates->places) : admission::RunningPlaces();
  x.proxy.scope.spawn(run_detached(x.proxy, std::move(x.ticket), std::move(x.upstream), state, x.outcome, time, std::move(places),
                                   std::move(x.belonging)));
}

Task<void> linger(Client& client) {
  net::Stream& stream = *client.stream;
  stream.shutdown();
  if (stream.backlog() > 0) {
    co_await coro::with_timeout(client.proxy.plan->config->client.stalled, kClientStalled, backlog_below(stream, 0));
  }
  if (stream.ended()) co_return;
  co_await coro::with_timeout(kClientFarewell, coro::kTimedOut, read_to_end(stream));
}

Task<bool> let_client_read(Client& client) {
  const Duration limit = client.proxy.plan->config->client.stalled;
  auto reading = coro::with_timeout(limit, kClientStalled, backlog_below(*client.stream, net::kBacklogLow));
  const auto read = co_await coro::under(client.source, std::move(reading));
  co_return read.has_value();
}

}  // namespace perigee::proxy
