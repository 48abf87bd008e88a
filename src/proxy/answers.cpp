// What a client sees when Perigee itself answers: one table from errors to reasons, one way to send them.
#include <algorithm>
#include <array>
#include <string>

#include "belonging.h"
#include "inner.h"
#include "perigee/http/chunk.h"
#include "perigee/http/error_body.h"
#include "stages.h"

namespace perigee::proxy {

using telemetry::Reason;

namespace {

struct Answer {
  http::Reason reason = http::Reason::upstream_failed;
  std::uint16_t status = 0;
  std::string_view message;
  std::uint32_t retry_after_s = 0;
};

http::Reason reason_of(dispatch::Refused refused) {
  switch (refused) {
    case dispatch::Refused::queue_full: return http::Reason::queue_full;
    case dispatch::Refused::queue_timeout: return http::Reason::queue_timeout;
    case dispatch::Refused::no_backend: return http::Reason::no_backend;
    case dispatch::Refused::draining: return http::Reason::draining;
    case dispatch::Refused::throttled: return http::Reason::throttled;
  }
  return http::Reason::no_backend;
}

Answer answer_for(const Exchange& x, const Error& error) {
  if (error.kind == ErrorKind::unavailable) {
    const std::string_view why = std::string_view(error.detail) == kNoTurn ? "An earlier turn of this session is still running." : "";
    return {reason_of(x.refusal.reason), 0, why, x.refusal.retry_after_s};
  }
  if (error.kind == ErrorKind::cancelled) return {http::Reason::draining, 0, {}, 1};
  if (error.side == Side::client) {
    if (error.kind == ErrorKind::exhausted) return {http::Reason::throttled, 0, "Perigee is out of memory for buffers.", 1};
    if (error.kind == ErrorKind::timeout) return {http::Reason::request_timeout, 0, {}, 0};
    const auto status = static_cast<std::uint16_t>(error.code == 0 ? 400 : error.code);
    // Which routes are an operator's is told in full by the reason's own words.
    if (status == 403) return {http::Reason::forbidden, 0, {}, 0};
    if (status == 429) return {http::Reason::rate_limited, 0, {}, x.refusal.retry_after_s};
    return {http::reason_for_status(status), status, error.detail, 0};
  }
  if (error.kind == ErrorKind::timeout && error.sent == Sent::maybe) return {http::Reason::upstream_timeout, 0, {}, 0};
  if (error.kind == ErrorKind::exhausted) return {http::Reason::upstream_failed, 503, "Perigee is out of descriptors or ports", 1};
  return {http::Reason::upstream_failed, 0, {}, 0};
}

// The log's set of reasons holds all that clients see, and a few more.
Reason logged(http::Reason reason) {
  const std::string_view name = http::to_string(reason);
  const auto at = std::find(telemetry::kReasonNames.begin(), telemetry::kReasonNames.end(), name);
  return at == telemetry::kReasonNames.end() ? Reason::internal_error
                                             : static_cast<Reason>(at - telemetry::kReasonNames.begin());
}

bool client_left(const Error& error) {
  return error.side == Side::client && (error.kind == ErrorKind::eof || error.kind == ErrorKind::reset || error.kind == ErrorKind::io);
}

void send(Exchange& x, const Answer& answer) {
  x.reason = logged(answer.reason);
  x.status = answer.status != 0 ? answer.status : http::default_status(answer.reason);
  // A connection whose request was not read whole, or not understood, ends here; so does one that asked for an
  // upgrade: what it sent behind that may be no HTTP.
  x.keep_alive = x.keep_alive && x.body_complete && !x.client.draining && answer.reason != http::Reason::bad_request &&
                 x.head.upgrade == http::UpgradeKind::none;
  x.client.linger = !x.keep_alive;
  http::ErrorContext context;
  context.reason = answer.reason;
  context.status = answer.status;
  context.message = answer.message;
  context.shape = x.error_shape;
  context.request_id = x.text(Texts::kRequestId);
  context.retry_after_s = answer.retry_after_s;
  context.date = x.proxy.date_text();
  const std::string with_rates = x.rates ? std::string(x.text(Texts::kCors)) + rate_lines(x) : std::string();
  context.extra = x.rates ? with_rates : x.text(Texts::kCors);
  context.close = !x.keep_alive;
  context.keep_alive_1_0 = x.keep_alive && x.head.version_minor == 0;
  context.head = x.head.method == http::Method::head;
  ByteBuffer& out = x.proxy.scratch;
  out.clear();
  http::write_error(out, context);
  (void)x.client.stream->write(net::Bytes(out.view()));
  out.clear();
  x.head_sent = true;
}

// Heart-beats have begun the answer: what went wrong is told by an event, behind which the stream ends.
void end_begun_stream(Exchange& x, const Error& error) {
  const Answer answer = answer_for(x, error);
  std::string message(answer.message);
  if (error.kind == ErrorKind::denied) message = "The worker answered " + std::to_string(error.code) + ".";
  x.reason = logged(answer.reason);
  x.head_sent = x.event_stream = true;
  x.verdict_of_stream = telemetry::StreamVerdict::failed;
  x.keep_alive = x.keep_alive && !x.client.draining;
  x.client.linger = !x.keep_alive;
  ByteBuffer event;
  http::write_sse_error(event, x.dialect, answer.reason, message);
  const http::ChunkHead size(event.size());
  const std::array<net::Bytes, 4> parts{net::Bytes(size.view()), net::Bytes(event.view()), net::Bytes(http::kChunkEnd),
                                        net::Bytes(http::kLastChunk)};
  (void)x.client.stream->write(parts);
}

// The head of a worker's answer is out: the rest must not look whole.
void cut(Exchange& x, const Error& error) {
  x.keep_alive = false;
  if (x.cut_by_reset) x.client.stream->reset_on_close();
  // What came before the break was good and goes out, unless it is the client that does not take it.
  x.client.linger = !x.cut_by_reset && error.side != Side::client;
  if (error.kind == ErrorKind::cancelled) {
    x.reason = Reason::cut;
  } else if (error.side == Side::client && error.kind == ErrorKind::exhausted) {
    x.reason = Reason::throttled;
    x.client.stream->reset_on_close();  // what the system still keeps for it goes, too
  } else if (error.side == Side::client) {
    x.reason = error.kind == ErrorKind::timeout ? Reason::request_timeout : Reason::bad_request;
  } else {
    x.reason = error.kind == ErrorKind::timeout ? Reason::upstream_timeout : Reason::upstream_failed;
  }
}

}  // namespace

void answer_error(Exchange& x, const Error& error) {
  x.proxy.scratch.clear();
  if (!x.taken) x.keep_alive = false;  // where the next request begins is not known
  if (x.text(Texts::kRequestId).empty()) x.texts().set(Texts::kRequestId, x.proxy.make_request_id());
  if (client_left(error)) {
    x.client_gone = true;
    x.keep_alive = false;
    x.reason = Reason::client_gone;
    x.proxy.metrics().add(telemetry::Count::client_disconnects);
    return;
  }
  if (x.head_sent) {
    cut(x, error);
    return;
  }
  if (x.stream_begun) {
    end_begun_stream(x, error);
    return;
  }
  send(x, answer_for(x, error));
}

std::string cors_lines(const config::Cors& cors, std::string_view origin) {
  if (!cors.enabled) return {};
  const bool any = std::find(cors.origins.begin(), cors.origins.end(), "*") != cors.origins.end();
  const bool listed = std::find(cors.origins.begin(), cors.origins.end(), origin) != cors.origins.end();
  if (!any && !listed) return "vary: Origin\r\n";
  std::string lines = "access-control-allow-origin: ";
  // With credentials a browser refuses `*`.
  lines.append(any && !cors.credentials ? std::string_view("*") : origin).append("\r\n");
  if (cors.credentials) lines.append("access-control-allow-credentials: true\r\n");
  if (!cors.exposed.empty()) {
    lines.append("access-control-expose-headers: ");
    for (std::size_t i = 0; i < cors.exposed.size(); ++i) lines.append(i == 0 ? "" : ", ").append(cors.exposed[i]);
    lines.append("\r\n");
  }
  return lines.append("vary: Origin\r\n");
}

}  // namespace perigee::proxy
