// One attempt: a connection in hand or a new one, the request goes out, the head of its answer comes back.
// What kind of answer it is decides who carries on: the relay, or a tunnel.
#include <array>

#include "inner.h"
#include "perigee/coro/scope.h"
#include "perigee/coro/timeout.h"
#include "perigee/http/chunk.h"
#include "perigee/http/forward.h"
#include "perigee/http/upgrade.h"
#include "stages.h"

namespace perigee::proxy {

using balancing::Outcome;
using coro::Task;

namespace {

Outcome outcome_of_status(int status) {
  if (status < 400) return Outcome::success;
  switch (status) {
    case 429:
    case 503: return Outcome::status_429_503;
    case 502: return Outcome::status_502;
    case 504: return Outcome::status_504;
    default: return status < 500 ? Outcome::status_4xx : Outcome::status_500;
  }
}

// An interim answer goes on to the client where it can mean something to it: not 100 (we gave leave
// ourselves), and nothing to HTTP/1.0.
void pass_interim(Exchange& x, const http::ResponseHead& head) {
  if (head.status == 100 || x.head.version_minor == 0) return;
  ByteBuffer& out = x.proxy.scratch;
  out.clear();
  http::ResponseContext context;
  context.client_minor = x.head.version_minor;
  http::write_response_head(out, head, x.proxy.response_table, context);
  (void)x.client.stream->write(net::Bytes(out.view()));
  out.clear();  // what is left here would go out with the next piece of somebody's stream
}

// Reads until the head of the final answer is there; it then lies in `head` and the loop's table, and
// `bytes` is what came behind it. Both only until the next wait.
struct FinalHead {
  http::ResponseHead head;
  http::ResponsePlan plan;
  net::Bytes rest;
};

Result<bool> parse_some(Exchange& x, Upstream& upstream, net::Bytes bytes, FinalHead& found) {
  const http::HeadLimits limits{x.plan->config->heads.bytes, x.plan->config->heads.target, x.plan->config->heads.fields};
  const http::Expected expected{x.head.method, x.upgrade_protocol};
  for (;;) {
    const http::HeadResult parsed =
        upstream.parser.parse_head(bytes, limits, expected, found.head, x.proxy.response_table);
    if (parsed.refused()) {
      x.outcome = Outcome::protocol_error;
      return fail(ErrorKind::protocol, parsed.reason, Side::upstream, 502);
    }
    if (!parsed.complete()) {
      auto kept = std::make_unique<std::string>(bytes.data(), bytes.size());
      upstream.partial_head = std::move(kept);
      return false;
    }
    bytes = bytes.subspan(parsed.consumed);
    if (!found.head.interim()) {
      found.rest = bytes;
      return true;
    }
    pass_interim(x, found.head);
    if (bytes.empty()) {
      upstream.partial_head.reset();
      return false;
    }
  }
}

Error broken_before_head(Exchange& x, Upstream& upstream, const Error& error) {
  if (error.side != Side::internal || error.kind == ErrorKind::cancelled) {
    if (error.side == Side::upstream && error.kind == ErrorKind::timeout) x.outcome = Outcome::head_timeout;
    return error;
  }
  const bool nothing = upstream.stream->bytes_in() == 0 || !upstream.partial_head;
  if (!nothing) x.outcome = Outcome::reset_before_head_fresh;
  return Error{ErrorKind::reset, Side::upstream, Sent::maybe, error.code, "the worker closed before its answer"};
}

// The answer's head is known: tell everybody, and write it to scratch for the relay to send with the first
// bytes of the body.
http::ResponsePlan begin_answer(Exchange& x, dispatch::Ticket& ticket, const http::ResponseHead& head) {
  const TimePoint now = x.proxy.now();
  x.times.head = now;
  // Only a chat's head comes before all work, and so shows the worker's event loop.
  if (x.streamed && x.verdict.request_class == RequestClass::chat) ticket.head(now);
  x.outcome = outcome_of_status(head.status);
  x.status = x.worker_status = head.status;
  x.worker_request_id.assign(x.proxy.response_table.value(http::HeaderName::x_request_id));
  x.event_stream = head.event_stream;
  if (head.event_stream && !x.streamed) ticket.became_stream(now);
  // What a compressed stream says cannot be read in passing.
  if (x.proxy.response_table.has(http::HeaderName::content_encoding)) x.dialect = http::SseDialect::generic;
  // After an upgrade that was not granted, bytes that the client sent early belong to no protocol.
  const bool refused_upgrade = x.head.upgrade != http::UpgradeKind::none;
  x.keep_alive = x.keep_alive && x.body_complete && !x.client.draining && !refused_upgrade;

  const http::ResponsePlan plan = http::plan_response(head, x.head, x.keep_alive);
  if (plan.close) x.keep_alive = false;
  x.cut_by_reset = plan.framing == http::Framing::until_close;
  http::ResponseContext context;
  context.plan = plan;
  context.client_minor = x.head.version_minor;
  context.request_id = x.request_id;
  context.date = x.proxy.date_text();
  x.proxy.scratch.clear();
  http::write_response_head(x.proxy.scratch, head, x.proxy.response_table, context);
  return plan;
}

// From here on nothing can be sent again: the request's bytes and the configuration are let go.
void let_go(Exchange& x) {
  const config::Clocks clocks = x.plan->config->clocks_of(x.verdict.request_class);
  x.first_event_limit = clocks.first_event;
  x.silence = x.event_stream ? clocks.silence : clocks.body_silence;
  x.stalled = x.plan->config->client.stalled;
  if (!x.body_complete) return;  // still needed by the rest of the upload
  x.proxy.keep(std::move(x.out));
  x.plan.reset();
}

Result<void> become_tunnel(Exchange& x, dispatch::Ticket& ticket) {
  if (ticket.became_tunnel(x.proxy.now())) return {};
  x.refusal = dispatch::Refusal{dispatch::Refused::queue_full, false, 5};
  return fail(ErrorKind::unavailable, "too many tunnels");
}

// The worker agreed to speak something else: the client is told, and the tunnel begins.
Result<void> switch_protocols(Exchange& x, dispatch::Ticket& ticket, FinalHead& found) {
  if (const char* wrong = http::check_switch(x.proxy.response_table, x.upgrade_protocol); wrong != nullptr) {
    x.outcome = Outcome::protocol_error;
    return fail(ErrorKind::protocol, wrong, Side::upstream, 502);
  }
  TRY_VOID(become_tunnel(x, ticket));
  ByteBuffer& out = x.proxy.scratch;
  out.clear();
  http::ResponseContext context;
  context.upgrade = true;
  context.client_minor = x.head.version_minor;
  http::write_response_head(out, found.head, x.proxy.response_table, context);
  x.times.head = x.proxy.now();
  x.status = x.worker_status = 101;
  x.head_sent = x.tunnelled = true;
  x.keep_alive = false;
  x.outcome = Outcome::success;
  const std::array<net::Bytes, 2> parts{net::Bytes(out.view()), found.rest};
  const auto sent = x.client.stream->write(parts);
  out.clear();  // what is left here would go out with the next piece of somebody's stream
  if (!sent) return fail(ErrorKind::reset, "the client left", Side::client, sent.error().code);
  found.rest = {};
  return {};
}

// The final head is here: how the answer goes on. In the turn in which it was parsed.
Result<void> begin(Exchange& x, dispatch::Ticket& ticket, FinalHead& found) {
  if (found.head.status == 101) {
    TRY_VOID(switch_protocols(x, ticket, found));
  } else {
    found.plan = begin_answer(x, ticket, found.head);
    if (x.verdict.endless_get && x.event_stream) {
      TRY_VOID(become_tunnel(x, ticket));
      x.endless = true;
    }
  }
  let_go(x);
  return {};
}

// Reads until the head of the final answer has come.
Task<Result<void>> await_head(Exchange& x, dispatch::Ticket& ticket, Upstream& upstream, FinalHead& found) {
  for (;;) {
    auto got = co_await upstream.stream->read();
    if (!got) co_return std::unexpected(broken_before_head(x, upstream, got.error()));
    ticket.bytes(x.proxy.now());
    net::Bytes bytes = *got;
    const std::unique_ptr<std::string> joined = std::move(upstream.partial_head);
    if (joined) {
      joined->append(bytes.data(), bytes.size());
      bytes = net::Bytes(*joined);
    }
    auto complete = parse_some(x, upstream, bytes, found);
    CO_TRY_VOID(complete);
    if (!*complete) continue;
    auto begun = begin(x, ticket, found);
    // What follows a head that came in parts is read again as the body's first bytes.
    if (joined) {
      upstream.stream->unread(found.rest);
      found.rest = {};
    }
    co_return begun;
  }
}

// The clocks of an attempt, and the client's end as a reason to stop.
void arm_clocks(Exchange& x, TimePoint granted) {
  Client& client = x.client;
  const config::Clocks clocks = x.plan->config->clocks_of(x.verdict.request_class);
  const Duration head = x.streamed ? clocks.head_stream : clocks.head;
  client.deadline.set(head == config::kNoClock ? kNever : granted + head, kAnswerTimeout);
  if (clocks.total != config::kNoClock) {
    x.total = std::make_unique<coro::Deadline>(x.proxy.executor(), client.source);
    x.total->set(granted + clocks.total, kTotalTimeout);
  }
  if (x.body_complete) client.stream->watch_end(&client.source, Side::client);
}

}  // namespace

Result<void> send_request(Exchange& x, Upstream& upstream) {
  const std::string_view all = x.out.view();
  const std::string_view body = all.substr(x.out_head_bytes);
  if (x.head.framing != http::Framing::chunked) return upstream.stream->write(net::Bytes(all));
  // What has come of a chunked body goes out as one chunk.
  std::array<net::Bytes, 5> parts;
  std::size_t n = 0;
  const http::ChunkHead size(body.empty() ? 1 : body.size());
  parts[n++] = net::Bytes(all.substr(0, x.out_head_bytes));
  if (!body.empty()) {
    parts[n++] = net::Bytes(size.view());
    parts[n++] = net::Bytes(body);
    parts[n++] = net::Bytes(http::kChunkEnd);
  }
  if (x.body_complete) parts[n++] = net::Bytes(http::kLastChunk);
  return upstream.stream->write(std::span<const net::Bytes>(parts).first(n));
}

// Sends the request and waits for the head of its answer, on a connection in hand.
static Task<Result<void>> ask(Exchange& x, dispatch::Ticket& ticket, Upstream& upstream, FinalHead& found) {
  x.outcome = upstream.reused ? Outcome::reset_reused_idle : Outcome::reset_before_head_fresh;
  const auto written = send_request(x, upstream);
  if (!written) {
    // The connection was dead before a byte went out.
    co_return std::unexpected(Error{ErrorKind::reset, Side::upstream, Sent::nothing, written.error().code,
                                    "the worker had closed the connection"});
  }
  x.times.sent = x.proxy.now();
  ticket.sent(x.times.sent);
  arm_clocks(x, ticket.granted_at());
  if (!x.body_complete) {
    // The rest of a large body goes up while the answer is awaited: a worker may answer before it has it all.
    x.body_passing = true;
    x.upload = std::make_unique<coro::Scope>(x.proxy.executor(), &x.client.source);
    x.upload->spawn(pass_body(x, *upstream.stream));
  }
  co_return co_await await_head(x, ticket, upstream, found);
}

Task<Result<Answering>> attempt(Exchange& x, dispatch::Ticket ticket) {
  ++x.attempts;
  x.backend = ticket.backend().ref;
  x.times.granted = x.proxy.now();
  x.times.sent = kNever;
  Upstream upstream = reuse(x, ticket);
  if (!upstream) {
    auto connected = co_await connect(x, ticket);
    if (!connected) {
      give_up(x, std::move(ticket), {}, connected.error());
      co_return std::unexpected(connected.error());
    }
    upstream = std::move(*connected);
  }
  x.times.connected = x.proxy.now();
  FinalHead found;
  const auto asked = co_await ask(x, ticket, upstream, found);
  if (asked) {
    Answering answering{std::move(ticket), std::move(upstream), found.plan, found.rest, found.head.keep_alive};
    co_return answering;
  }
  x.client.deadline.clear();
  if (x.upload) co_await end_upload(x);
  give_up(x, std::move(ticket), std::move(upstream), asked.error());
  co_return std::unexpected(asked.error());
}

// A pooled connection to a worker may die just when we write; a request whose loss nobody could repair
// takes only one that was in use a moment ago.
static constexpr Duration kFreshEnough = std::chrono::seconds(1);

Upstream reuse(Exchange& x, const dispatch::Ticket& ticket) {
  // What was opened before a reload asked for PROXY headers names nobody.
  if (x.proxy.backend(ticket.backend(), *x.plan).proxy_protocol != net::ProxyVersion::none) return {};
  const bool careful = x.replay == Replay::unsent || x.replay == Replay::never;
  Upstream upstream = x.proxy.pool.take(ticket.backend().ref, careful ? kFreshEnough : Duration::max());
  if (upstream) x.proxy.metrics().add(telemetry::Count::upstream_reuses);
  return upstream;
}

Task<Result<Upstream>> connect(Exchange& x, const dispatch::Ticket& ticket) {
  LoopProxy::Inner& proxy = x.proxy;
  const KnownBackend& backend = proxy.backend(ticket.backend(), *x.plan);
  if (backend.endpoint.length == 0) {  // granted in the moment of a reload; no fault of the worker
    x.outcome = Outcome::our_refusal;
    co_return std::unexpected(Error{ErrorKind::refused, Side::upstream, Sent::nothing, 0, "the worker was removed"});
  }
  auto telling = connector_for(x, backend.proxy_protocol);
  const bool tells = backend.proxy_protocol != net::ProxyVersion::none;
  net::Connector& connector = tells ? static_cast<net::Connector&>(telling) : proxy.parts.connector;
  auto stream = co_await coro::with_timeout(x.plan->config->clocks.connect, kConnectTimeout,
                                            connector.connect(backend.endpoint));
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
  Upstream upstream;
  upstream.stream = std::move(*stream);
  upstream.backend = ticket.backend().ref;
  upstream.for_one_client = tells;
  co_return upstream;
}

}  // namespace perigee::proxy
