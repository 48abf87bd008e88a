// A tunnel: after a 101 the two connections speak something that is no longer ours. Bytes go both ways,
// each side's end is passed on, and the tunnel is over when both have ended or one has broken.
#include "inner.h"
#include "perigee/coro/event.h"
#include "stages.h"

namespace perigee::proxy {

using coro::Task;

namespace {

// What one side may still have to say once the other has ended: a peer that never closes holds no tunnel.
constexpr Duration kHalfOpen = std::chrono::seconds(30);
constexpr Error kHalfOpenTooLong{ErrorKind::timeout, Side::internal, Sent::maybe, 0, "one side of the tunnel did not end"};

// What both directions share while they wait. They wait under the source of the connection, and the clock that it
// has is theirs: there is no request any longer that would need either.
struct Tunnel {
  [[nodiscard]] net::Stream& stream_of(Side side) const { return side == Side::client ? *x.client.stream : *x.far_end; }
  [[nodiscard]] net::Stream& across(Side side) const { return stream_of(side == Side::client ? Side::upstream : Side::client); }
  void end(const Error& why) const { x.client.source.cancel(why); }

  Exchange& x;
  coro::Event client_done;  // the direction that came from the client is over
};

enum class Then : std::uint8_t { read_on, catch_up, last_words, over };

// What came from one side goes to the other; so does its end.
Then pass_on(Tunnel& t, Side from, const Result<net::Bytes>& got) {
  net::Stream& to = t.across(from);
  if (!got && got.error().kind == ErrorKind::eof) {
    to.shutdown();
    t.x.client.deadline.set_after(kHalfOpen, kHalfOpenTooLong);
    return Then::last_words;
  }
  if (!got) {
    Error error = got.error();
    if (error.side == Side::internal) error.side = from;
    t.end(error);
    return Then::over;
  }
  const auto sent = to.write(*got);
  if (!sent) {
    t.end(Error{ErrorKind::reset, from, Sent::maybe, sent.error().code, "the tunnel broke"});
    return Then::over;
  }
  return to.backlog() > net::kBacklogHigh ? Then::catch_up : Then::read_on;
}

// Leaves its result where it lies: a copy would be in the frame for as long as the tunnel is silent.
struct Read : net::Stream::Read {
  using net::Stream::Read::Read;
  using net::Stream::Read::result;
  void await_resume() const {}
};

// A frame of its own, because it is rare and a tunnel may be silent for hours.
Task<bool> backlog_below(net::Stream& stream, std::size_t bytes) {
  const auto drained = co_await stream.drained(bytes);
  co_return drained.has_value();
}

// One direction, until its side ends or the tunnel is over.
Task<void> pour(Tunnel& t, Side from) {
  bool more = true;
  while (more) {
    Read read(t.stream_of(from));
    co_await read;
    const Then then = pass_on(t, from, read.result());
    if (then == Then::read_on) continue;
    more = then == Then::catch_up;
    if (then == Then::over) break;
    // Closing drops what is not out yet: nothing of the last words may be left.
    const bool taken = co_await backlog_below(t.across(from), more ? net::kBacklogLow : 0);
    more = more && taken;
  }
  if (from == Side::client) t.client_done.set();
}

Task<void> client_done(Tunnel& t) {
  const auto done = co_await t.client_done.wait();
  static_cast<void>(done);  // nothing can end this wait early
}

}  // namespace

Task<Result<void>> tunnel(Exchange& x) {
  coro::CancelSource& over = x.client.source;
  x.client.deadline.clear();
  x.client.stream->watch_end(nullptr, Side::client);
  x.proxy.metrics().add(telemetry::Count::tunnels_begun);
  x.far_end = std::move(x.upstream->stream);
  x.upstream.reset();
  x.texts().drop(Texts::kCors);
  x.texts().drop(Texts::kUpgradeProtocol);
  Tunnel t{x, {}};
  x.proxy.scope.spawn(pour(t, Side::client), over);
  co_await pour(t, Side::upstream);
  co_await coro::shielded(client_done(t));
  x.client.deadline.clear();
  x.proxy.metrics().add(telemetry::Count::tunnels_ended);
  // Where both sides have ended in good order nothing is cut short; nor where one had long enough to do so.
  part_from(x.proxy, std::move(x.far_end));
  const bool half_open = over.cancelled() && over.reason().detail == kHalfOpenTooLong.detail;
  if (over.cancelled() && !half_open) co_return std::unexpected(over.reason());
  co_return Result<void>{};
}

}  // namespace perigee::proxy
