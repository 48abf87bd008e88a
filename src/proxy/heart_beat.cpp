#include "heart_beat.h"

#include <array>
#include <cmath>
#include <cstdio>

#include "inner.h"
#include "perigee/http/chunk.h"
#include "stages.h"
#include "ticket_wait.h"

namespace perigee::proxy {

namespace {

constexpr std::string_view kComment = "e\r\n: heart-beat\n\n\r\n";  // as a chunk

bool will_be_event_stream(const Exchange& x) {
  if (x.verdict.endless_get || x.head.upgrade != http::UpgradeKind::none) return false;
  return x.event_stream_accepted || (x.streamed && x.dialect != http::SseDialect::generic);
}

}  // namespace

HeartBeat::HeartBeat(Exchange& x, Duration interval)
    : Timer([](coro::Timer& t) { static_cast<HeartBeat&>(t).beat(); }),
      x_(x),
      interval_(interval),
      last_(x.proxy.now()) {
  x_.proxy.executor().arm(*this, last_ + interval_);
}

void HeartBeat::heard() { last_ = x_.proxy.now(); }

void HeartBeat::beat() {
  coro::Executor& executor = x_.proxy.executor();
  if (answered_ && scanner_ == nullptr) return;
  if (last_ + interval_ > executor.now()) {
    executor.arm(*this, last_ + interval_);
    return;
  }
  executor.arm(*this, executor.now() + interval_);
  // Not into an event, and not for a client that does not read what it has.
  if (x_.client.stream->backlog() > 0 || (answered_ && !scanner_->at_boundary())) return;
  if (!answered_ && !x_.stream_begun) begin_answer();
  send_comment();
}

// While it waits, the place in the queue: `: position 12, about 4 s`.
void HeartBeat::send_comment() {
  const dispatch::QueuePlace place = wait_ != nullptr ? wait_->place() : dispatch::QueuePlace{};
  if (!place.waits) {
    (void)x_.client.stream->write(net::Bytes(kComment));
    return;
  }
  std::array<char, 64> text;
  int size = 0;
  if (place.wait) {
    const long seconds = std::lround(std::ceil(to_seconds(*place.wait)));
    size = std::snprintf(text.data(), text.size(), ": position %u, about %ld s\n\n", place.position, seconds);
  } else {
    size = std::snprintf(text.data(), text.size(), ": position %u\n\n", place.position);
  }
  const std::string_view comment(text.data(), static_cast<std::size_t>(size));
  const http::ChunkHead head(comment.size());
  const std::array<net::Bytes, 3> parts{net::Bytes(head.view()), net::Bytes(comment), net::Bytes(http::kChunkEnd)};
  (void)x_.client.stream->write(parts);
}

void HeartBeat::begin_answer() {
  x_.keep_alive = x_.keep_alive && !x_.client.draining;
  x_.stream_begun = true;
  x_.status = 200;
  ByteBuffer head;
  head.append("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
              "X-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n");
  head.append(x_.text(Texts::kCors));
  head.append(rate_lines(x_));
  head.append("X-Request-ID: ");
  head.append(x_.text(Texts::kRequestId));
  head.append("\r\nDate: ");
  head.append(x_.proxy.date_text());
  head.append(x_.keep_alive ? "\r\n\r\n" : "\r\nConnection: close\r\n\r\n");
  (void)x_.client.stream->write(net::Bytes(head.view()));
}

void start_heart_beats(Exchange& x) {
  const Duration interval = x.plan->config->heart_beats_of(x.verdict.request_class);
  if (interval == config::kNoClock || !x.body_complete || x.head.version_minor == 0 || !will_be_event_stream(x)) return;
  x.heart_beat = std::make_unique<HeartBeat>(x, interval);
}

}  // namespace perigee::proxy
