// One attempt: a connection in hand or a new one, the request goes out, the head of its answer comes back.
// What kind of answer it is decides who carries on: the relay, or a tunnel.
#include <algorithm>
#include <array>

#include "inner.h"
#include "perigee/coro/scope.h"
#include "perigee/coro/timeout.h"
#include "perigee/http/chunk.h"
#include "perigee/http/forward.h"
#include "perigee/http/upgrade.h"
#include "belonging.h"
#include "heart_beat.h"
#include "stages.h"

namespace perigee::proxy {

using balancing::Outcome;
using config::ClassOverrides;
using config::Clocks;
using coro::Task;

namespace {

Duration clock_of(const Exchange& x, std::optional<Duration> ClassOverrides::*own, Duration Clocks::*common) {
  return x.plan->config->clock(x.verdict.request_class, own, common);
}

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
  if (head.status == 100 || x.head.version_minor == 0 || x.stream_begun) return;
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

Result<bool> parse_some(Exchange& x, net::Bytes bytes, FinalHead& found) {
  Upstream& upstream = *x.upstream;
  const http::HeadLimits limits{x.plan->config->heads.bytes, x.plan->config->heads.target, x.plan->config->heads.fields};
  const http::Expected expected{x.head.method, x.text(Texts::kUpgradeProtocol)};
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

Error broken_before_head(Exchange& x, const Error& error) {
  if (error.side != Side::internal || error.kind == ErrorKind::cancelled) {
    if (error.side == Side::upstream && error.kind == ErrorKind::timeout) x.outcome = Outcome::head_timeout;
    return error;
  }
  const bool nothing = x.upstream->stream->bytes_in() == 0 || !x.upstream->partial_head;
  if (!nothing) x.outcome = Outcome::reset_before_head_fresh;
  return Error{ErrorKind::reset, Side::upstream, Sent::maybe, error.code, "the worker closed before its answer"};
}

// Whether the worker has a limiter of its own whose fields would stand beside ours.
bool tells_a_rate(const http::HeaderTable& answer) {
  constexpr std::string_view kPrefix = "x-ratelimit-";
  return std::ranges::any_of(answer, [&](const http::Header& h) {
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; };
    return h.name.size() > kPrefix.size() && std::ranges::equal(h.name.substr(0, kPrefix.size()), kPrefix, {}, lower);
  });
}

// The answer's head is known: tell everybody, and write it to scratch for the relay to send with the first
// bytes of the body.
http::ResponsePlan begin_answer(Exchange& x, const http::ResponseHead& head) {
  const TimePoint now = x.proxy.now();
  x.times.head = now;
  // Only a chat's head comes before all work, and so shows the worker's event loop.
  if (x.streamed && x.verdict.request_class == RequestClass::chat) x.ticket.head(now);
  x.outcome = outcome_of_status(head.status);
  x.status = x.worker_status = head.status;
  const std::string_view worker_id = x.proxy.response_table.value(http::HeaderName::x_request_id);
  if (!worker_id.empty()) x.texts().set(Texts::kWorkerRequestId, worker_id);
  x.event_stream = head.event_stream;
  if (head.event_stream && !x.streamed) x.ticket.became_stream(now);
  // What a compressed stream says cannot be read in passing.
  if (x.proxy.response_table.has(http::HeaderName::content_encoding)) {
    x.dialect = http::SseDialect::generic;
    x.heart_beat.reset();
  }
  // After an upgrade that was not granted, bytes that the client sent early belong to no protocol.
  const bool refused_upgrade = x.head.upgrade != http::UpgradeKind::none;
  x.keep_alive = x.keep_alive && x.body_complete && !x.client.draining && !refused_upgrade;

  http::ResponsePlan plan = http::plan_response(head, x.head, x.keep_alive);
  if (plan.close) x.keep_alive = false;
  x.proxy.scratch.clear();
  if (x.stream_begun) {  // behind a head of our own
    plan.framing = http::Framing::chunked;
    return plan;
  }
  x.cut_by_reset = plan.framing == http::Framing::until_close;
  http::ResponseContext context;
  context.plan = plan;
  context.client_minor = x.head.version_minor;
  context.request_id = x.text(Texts::kRequestId);
  context.date = x.proxy.date_text();
  const std::string rates = x.rates ? rate_lines(x, tells_a_rate(x.proxy.response_table)) : std::string();
  context.extra = rates;
  http::write_response_head(x.proxy.scratch, head, x.proxy.response_table, context);
  return plan;
}

// From here on nothing can be sent again: the request's bytes and the configuration are let go.
void let_go(Exchange& x) {
  x.first_event_limit = clock_of(x, &ClassOverrides::first_event, &Clocks::first_event);
  x.silence = x.event_stream ? clock_of(x, &ClassOverrides::silence, &Clocks::silence)
                             : clock_of(x, &ClassOverrides::body_silence, &Clocks::body_silence);
  x.stalled = x.plan->config->client_of(x.verdict.request_class, &ClassOverrides::stalled, &config::Client::stalled);
  if (!x.body_complete) return;  // still needed by the rest of the upload
  x.proxy.keep(std::move(x.out));
  x.plan.reset();
  x.texts().drop(Texts::kCors);
}

Result<void> become_tunnel(Exchange& x) {
  if (x.ticket.became_tunnel(x.proxy.now())) return {};
  x.refusal = dispatch::Refusal{dispatch::Refused::queue_full, false, 5};
  return fail(ErrorKind::unavailable, "too many tunnels");
}

// The worker agreed to speak something else: the client is told, and the tunnel begins.
Result<void> switch_protocols(Exchange& x, FinalHead& found) {
  const char* const wrong = http::check_switch(x.proxy.response_table, x.text(Texts::kUpgradeProtocol));
  if (wrong != nullptr) {
    x.outcome = Outcome::protocol_error;
    return fail(ErrorKind::protocol, wrong, Side::upstream, 502);
  }
  TRY_VOID(become_tunnel(x));
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

// After a heart-beat the client has a head of ours; only an event stream can follow that.
Result<void> follow_heart_beats(Exchange& x, const http::ResponseHead& head) {
  const bool encoded = x.proxy.response_table.has(http::HeaderName::content_encoding);
  if (!x.stream_begun || (head.status == 200 && head.event_stream && !encoded)) return {};
  x.outcome = outcome_of_status(head.status);
  x.worker_status = head.status;
  x.times.head = x.proxy.now();
  return fail(ErrorKind::denied, "no event stream", Side::upstream, head.status);
}

// The final head is here: how the answer goes on. In the turn in which it was parsed.
Result<void> begin(Exchange& x, FinalHead& found) {
  TRY_VOID(follow_heart_beats(x, found.head));
  if (found.head.status == 101) {
    TRY_VOID(switch_protocols(x, found));
  } else {
    found.plan = begin_answer(x, found.head);
    if (x.verdict.endless_get && x.event_stream) {
      TRY_VOID(become_tunnel(x));
      x.endless = true;
    }
  }
  if (x.belonging) learn_from_head(x);
  let_go(x);
  return {};
}

// The clocks of an attempt, and the client's end as a reason to stop.
void arm_clocks(Exchange& x, TimePoint granted) {
  Client& client = x.client;
  const Duration head = x.streamed ? clock_of(x, &ClassOverrides::head_stream, &Clocks::head_stream)
                                   : clock_of(x, &ClassOverrides::head, &Clocks::head);
  client.deadline.set(head == config::kNoClock ? kNever : granted + head, kAnswerTimeout);
  const Duration total = clock_of(x, &ClassOverrides::total, &Clocks::total);
  if (total != config::kNoClock) {
    x.total = std::make_unique<coro::Deadline>(x.proxy.executor(), client.source);
    x.total->set(granted + total, kTotalTimeout);
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

// The request goes out on x.upstream, and its clocks start.
static Result<void> ask(Exchange& x) {
  x.times.connected = x.proxy.now();
  x.outcome = !x.upstream->reused ? Outcome::reset_before_head_fresh
              : x.upstream->warm ? Outcome::reset_reused_warm
                                 : Outcome::reset_reused_idle;
  const auto written = send_request(x, *x.upstream);
  if (!written) {
    // The connection was dead before a byte went out.
    return std::unexpected(Error{ErrorKind::reset, Side::upstream, Sent::nothing, written.error().code,
                                 "the worker had closed the connection"});
  }
  x.times.sent = x.proxy.now();
  x.ticket.sent(x.times.sent);
  arm_clocks(x, x.ticket.granted_at());
  if (x.body_complete) return {};
  // The rest of a large body goes up while the answer is awaited: a worker may answer before it has it all.
  x.body_passing = true;
  x.upload = std::make_unique<coro::Scope>(x.proxy.executor(), &x.client.source);
  x.upload->spawn(pass_body(x, *x.upstream->stream));
  return {};
}

Task<Result<void>> attempt(Exchange& x) {
  ++x.attempts;
  x.backend = x.ticket.backend().ref;
  x.times.granted = x.proxy.now();
  x.times.sent = kNever;
  x.upstream = reuse(x, x.ticket);
  if (!x.upstream) {
    auto connected = co_await connect(x, x.ticket);
    CO_TRY_VOID(connected);
    x.upstream = std::move(*connected);
  }
  CO_TRY_VOID(ask(x));

  Upstream& upstream = *x.upstream;
  FinalHead found;
  for (;;) {
    auto got = co_await upstream.stream->read();
    if (!got) co_return std::unexpected(broken_before_head(x, got.error()));
    x.ticket.bytes(x.proxy.now());
    net::Bytes bytes = *got;
    const std::unique_ptr<std::string> joined = std::move(upstream.partial_head);
    if (joined) {
      joined->append(bytes.data(), bytes.size());
      bytes = net::Bytes(*joined);
    }
    const auto complete = parse_some(x, bytes, found);
    CO_TRY_VOID(complete);
    if (!*complete) continue;
    CO_TRY_VOID(begin(x, found));
    // What follows a head that came in parts is read again as the body's first bytes.
    if (joined) {
      upstream.stream->unread(found.rest);
      found.rest = {};
    }
    x.proxy.answering = {found.plan, found.rest};
    x.reusable = found.head.keep_alive;
    co_return Result<void>{};
  }
}

// A pooled connection to a worker may die just when we write; a request whose loss nobody could repair
// takes only one that was in use a moment ago.

UpstreamPtr reuse(Exchange& x, const dispatch::Ticket& ticket) {
  // What was opened before a reload asked for PROXY headers names nobody.
  if (x.proxy.backend(ticket.backend(), *x.plan).proxy_protocol != net::ProxyVersion::none) return {};
  const bool careful = x.replay == Replay::unsent || x.replay == Replay::never;
  UpstreamPtr upstream = x.proxy.pool.take(ticket.backend().ref, careful ? kWarm : Duration::max());
  if (upstream) x.proxy.metrics().add(telemetry::Count::upstream_reuses);
  return upstream;
}

Task<Result<UpstreamPtr>> connect(Exchange& x, const dispatch::Ticket& ticket) {
  LoopProxy::Inner& proxy = x.proxy;
  const KnownBackend& backend = proxy.backend(ticket.backend(), *x.plan);
  if (backend.endpoint.length == 0) {  // granted in the moment of a reload; no fault of the worker
    x.outcome = Outcome::our_refusal;
    co_return std::unexpected(Error{ErrorKind::refused, Side::upstream, Sent::nothing, 0, "the worker was removed"});
  }
  auto telling = connector_for(x, backend.proxy_protocol);
  const bool tells = backend.proxy_protocol != net::ProxyVersion::none;
  net::Connector& connector = tells ? static_cast<net::Connector&>(telling) : proxy.parts.connector;
  auto connecting = net::connect_tls(connector, backend.endpoint, backend.tls);
  const Duration limit = clock_of(x, &ClassOverrides::connect, &Clocks::connect);
  auto stream = co_await coro::with_timeout(limit, kConnectTimeout, std::move(connecting));
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
  auto upstream = std::make_unique<Upstream>(std::move(*stream), ticket.backend().ref);
  upstream->for_one_client = tells;
  co_return upstream;
}

}  // namespace perigee::proxy
