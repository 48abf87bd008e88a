// The relay: the body of an answer goes to the client as it arrives, in the same turn of the loop.
//
// One write a read: head, chunk framing and small pieces are joined in the loop's scratch buffer, large
// pieces go out from where they were received. When the client takes less than the worker sends, the relay
// stops reading until the backlog has fallen; that holds the worker back. While nothing arrives the relay
// owns no buffer.
#include <array>

#include "inner.h"
#include "perigee/http/chunk.h"
#include "belonging.h"
#include "heart_beat.h"
#include "stages.h"
#include "token_count.h"

namespace perigee::proxy {

using balancing::Outcome;
using coro::Task;
using telemetry::StreamVerdict;

namespace {

// Larger pieces are not copied.
constexpr std::size_t kJoinMax = 4096;

// Frames pieces for one client and sends them, in order.
class AnswerWriter {
 public:
  AnswerWriter(Exchange& x, bool chunked) : x_(x), scratch_(x.proxy.scratch), chunked_(chunked) {}

  Result<void> add(std::string_view piece) {
    if (chunked_) scratch_.append(http::ChunkHead(piece.size()).view());
    if (piece.size() <= kJoinMax) {
      scratch_.append(piece);
      if (chunked_) scratch_.append(http::kChunkEnd);
      return {};
    }
    const std::array<net::Bytes, 3> parts{net::Bytes(scratch_.view()), net::Bytes(piece),
                                          net::Bytes(chunked_ ? http::kChunkEnd : std::string_view{})};
    auto sent = send(parts);
    return sent;
  }
  void end() {
    if (chunked_) scratch_.append(http::kLastChunk);
  }
  Result<void> flush() {
    if (scratch_.empty()) return {};
    const std::array<net::Bytes, 1> parts{net::Bytes(scratch_.view())};
    return send(parts);
  }

 private:
  Result<void> send(std::span<const net::Bytes> parts) {
    auto sent = x_.client.stream->write(parts);
    scratch_.clear();
    x_.head_sent = true;
    if (x_.heart_beat) x_.heart_beat->heard();
    if (sent) return sent;
    return fail(ErrorKind::reset, "the client left", Side::client, sent.error().code);
  }
  Exchange& x_;
  ByteBuffer& scratch_;
  bool chunked_;
};

// What the pieces of an answer mean: the first event, the terminal event, the id that a stop would name.
class Watcher {
 public:
  explicit Watcher(Exchange& x) : x_(x), scanner_(x.dialect) {}

  void see(std::string_view piece) {
    if (!x_.event_stream) {
      see_body(x_, piece);
      if (x_.belonging) learn_from_body(x_, piece);
      first_event(piece.empty());
      return;
    }
    const http::SseScanner::Seen seen = scanner_.feed(piece);
    if (x_.belonging && !seen.request_id.empty()) name_stream(x_, stream_id_hash(seen.request_id));
    if (seen.first_output) first_event(false);
    see_events(x_, piece, seen.outputs);
    x_.proxy.metrics().add(telemetry::Count::token_events);
  }
  // The dispatcher hears of the first event; not where the answer is whole by then, which its end says as well.
  void tell_first_event() {
    if (!untold_) return;
    untold_ = false;
    x_.ticket.first_event(x_.times.first_event, x_.outcome);
  }
  [[nodiscard]] const http::SseScanner& scanner() const { return scanner_; }
  [[nodiscard]] bool at_boundary() const { return scanner_.at_boundary(); }

  void ended_in_order() {
    if (!x_.event_stream) return;
    switch (scanner_.verdict()) {
      case http::SseVerdict::completed: x_.verdict_of_stream = StreamVerdict::completed; break;
      case http::SseVerdict::failed:
        x_.verdict_of_stream = StreamVerdict::failed;
        x_.outcome = Outcome::stream_error_event;
        break;
      case http::SseVerdict::unterminated: {
        const bool stopped = x_.belonging && x_.proxy.parts.stopped.contains(x_.belonging->stream_id);
        x_.verdict_of_stream = stopped ? StreamVerdict::stopped : StreamVerdict::unterminated;
        x_.outcome = stopped ? Outcome::stopped : Outcome::stream_unterminated;
        break;
      }
    }
  }
  void broken() {
    if (x_.event_stream) x_.verdict_of_stream = StreamVerdict::failed;
    if (x_.outcome == Outcome::success) x_.outcome = Outcome::stream_broken;
  }

 private:
  void first_event(bool nothing) {
    if (nothing || x_.times.first_event != kNever) return;
    x_.times.first_event = x_.proxy.now();
    untold_ = true;
  }
  Exchange& x_;
  http::SseScanner scanner_;
  bool untold_ = false;
};

// The clock that runs until the next byte: first event, silence, or none for what may be silent for ever.
void arm_silence(Exchange& x) {
  const bool waiting_for_first = x.event_stream && x.times.first_event == kNever;
  const Duration limit = waiting_for_first ? x.first_event_limit : x.silence;
  if (x.endless || limit == config::kNoClock) {
    x.client.deadline.clear();
  } else if (waiting_for_first) {
    x.client.deadline.set(x.times.head + limit, kFirstEventTimeout);
  } else {
    x.client.deadline.set(x.proxy.now() + limit, kSilence);
  }
}

// A stream of OpenAI's shape may say why it breaks off, between two events only.
void say_why(Exchange& x, const Watcher& watcher, bool chunked) {
  if (!x.event_stream || x.dialect != http::SseDialect::openai || !x.head_sent || !watcher.at_boundary()) return;
  ByteBuffer event;
  http::write_sse_error(event, x.dialect, http::Reason::upstream_failed);
  AnswerWriter writer(x, chunked);
  (void)writer.add(event.view());
  (void)writer.flush();
}

Error from_upstream(const Error& error) {
  if (error.side != Side::internal || error.kind == ErrorKind::cancelled) return error;
  return Error{ErrorKind::reset, Side::upstream, Sent::maybe, error.code, "the worker broke off its answer"};
}

// A worker that closed: the end of an answer that ends so, or a break.
Result<void> worker_ended(Upstream& upstream, const Error& error) {
  const bool in_order = error.kind == ErrorKind::eof && error.side == Side::internal;
  if (in_order && upstream.parser.finish() == http::ResponseEnd::complete) return {};
  return std::unexpected(from_upstream(error));
}

void count(Exchange& x, bool begun) {
  if (!x.event_stream && !x.endless) return;
  using telemetry::Count;
  if (x.endless) {
    x.proxy.metrics().add(begun ? Count::tunnels_begun : Count::tunnels_ended);
  } else {
    x.proxy.metrics().add(begun ? Count::streams_begun : Count::streams_ended);
  }
}

// One answer on its way: all that the relay keeps while it waits for the next bytes.
class Relay {
 public:
  explicit Relay(Exchange& x) : x_(x), watcher_(x), chunked_(x.proxy.answering.plan.framing == http::Framing::chunked) {
    count(x, true);
    begin_token_count(x);
    if (x.heart_beat) x.heart_beat->between_events_of(x.event_stream && chunked_ ? &watcher_.scanner() : nullptr);
  }

  // What came goes out, in this turn. True while there is more to wait for.
  bool pass_on(const Result<net::Bytes>& got) {
    if (!got) {
      outcome_ = worker_ended(*x_.upstream, got.error());
      return false;
    }
    net::Bytes bytes = *got;
    AnswerWriter writer(x_, chunked_);
    const Result<bool> whole = decode(bytes, writer);
    if (whole && *whole) {
      x_.upstream->stream->unread(bytes);  // behind the answer
      return false;
    }
    watcher_.tell_first_event();
    // What came before a fault was good and goes out.
    outcome_ = writer.flush();
    if (outcome_ && !whole) outcome_ = std::unexpected(whole.error());
    if (outcome_) arm_silence(x_);
    // Where a client left, nobody else reads on for it.
    if (!outcome_) x_.upstream->stream->unread(bytes);
    return outcome_.has_value();
  }

  // Waits until the client has taken most of what was written for it. False when it does not.
  Task<bool> let_client_catch_up() {
    if (x_.stalled == config::kNoClock) {
      x_.client.deadline.clear();
    } else {
      x_.client.deadline.set_after(x_.stalled, kClientStalled);
    }
    outcome_ = co_await x_.client.stream->drained();
    if (outcome_) {
      arm_silence(x_);
      co_return true;
    }
    const Error& error = outcome_.error();
    if (error.side == Side::internal && error.kind != ErrorKind::cancelled) {
      outcome_ = fail(ErrorKind::reset, "the client left", Side::client, error.code);
    }
    co_return false;
  }

  Result<void> end() {
    x_.heart_beat.reset();
    if (!outcome_ && ended_by_stop(outcome_.error())) {  // for the client as if the worker had ended it; not for the worker
      outcome_ = {};
      x_.reusable = false;
    }
    if (outcome_) {
      watcher_.ended_in_order();
      AnswerWriter writer(x_, chunked_);
      writer.end();
      outcome_ = writer.flush();
    } else {
      watcher_.broken();
      if (outcome_.error().side == Side::upstream) say_why(x_, watcher_, chunked_);
    }
    count(x_, false);
    return outcome_;
  }

 private:
  // All of `bytes`, decoded, seen and queued for the client. True when the body is complete; bytes behind it
  // are left in `bytes`.
  Result<bool> decode(net::Bytes& bytes, AnswerWriter& writer) {
    Upstream& upstream = *x_.upstream;
    auto& pieces = x_.proxy.pieces;
    for (;;) {
      const http::BodyStep step = upstream.parser.feed_body(bytes, pieces);
      bytes = bytes.subspan(step.consumed);
      for (std::size_t i = 0; i < step.pieces; ++i) {
        watcher_.see(pieces[i]);
        TRY_VOID(writer.add(pieces[i]));
      }
      if (step.refused()) return fail(ErrorKind::protocol, step.reason, Side::upstream, 502);
      if (step.done()) return true;
      if (bytes.empty()) return false;
    }
  }

  Exchange& x_;
  Watcher watcher_;
  Result<void> outcome_;
  bool chunked_;
};

}  // namespace

Task<Result<void>> relay(Exchange& x) {
  Relay relay(x);
  bool more = relay.pass_on(x.proxy.answering.bytes);
  while (more) {
    if (x.client.stream->backlog() > net::kBacklogHigh) {
      more = co_await relay.let_client_catch_up();
      if (!more) break;
    }
    const auto got = co_await x.upstream->stream->read();
    more = relay.pass_on(got);
  }
  co_return relay.end();
}

}  // namespace perigee::proxy
