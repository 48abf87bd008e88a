// A tunnel: after a 101 the two connections speak something that is no longer ours. Bytes go both ways,
// each side's end is passed on, and the tunnel is over when both have ended or one has broken.
#include "inner.h"
#include "perigee/coro/deadline.h"
#include "perigee/coro/scope.h"
#include "stages.h"

namespace perigee::proxy {

using coro::Task;

namespace {

// What one side may still have to say once the other has ended: a peer that never closes holds no tunnel.
constexpr Duration kHalfOpen = std::chrono::seconds(30);
constexpr Error kHalfOpenTooLong{ErrorKind::timeout, Side::internal, Sent::maybe, 0, "one side of the tunnel did not end"};

// One direction, until the source ends.
Task<void> pour(net::Stream& from, net::Stream& to, coro::CancelSource& both, coro::Deadline& half, Side side) {
  for (;;) {
    auto got = co_await from.read();
    if (!got) {
      if (got.error().kind == ErrorKind::eof) {
        to.shutdown();
        half.set_after(kHalfOpen, kHalfOpenTooLong);
        // Closing drops what is not out yet.
        (void)co_await to.drained(0);
      } else {
        Error error = got.error();
        if (error.side == Side::internal) error.side = side;
        both.cancel(error);
      }
      co_return;
    }
    const auto sent = to.write(*got);
    if (!sent) {
      both.cancel(Error{ErrorKind::reset, side, Sent::maybe, sent.error().code, "the tunnel broke"});
      co_return;
    }
    if (to.backlog() > net::kBacklogHigh) {
      const auto drained = co_await to.drained();
      if (!drained) co_return;
    }
  }
}

}  // namespace

Task<Result<void>> tunnel(Exchange& x) {
  net::Stream& upstream = *x.upstream->stream;
  Client& client = x.client;
  client.deadline.clear();
  client.stream->watch_end(nullptr, Side::client);
  x.proxy.metrics().add(telemetry::Count::tunnels_begun);
  coro::Scope directions(x.proxy.executor(), &client.source);
  coro::Deadline half(x.proxy.executor(), directions.source());
  directions.spawn(pour(*client.stream, upstream, directions.source(), half, Side::client));
  directions.spawn(pour(upstream, *client.stream, directions.source(), half, Side::upstream));
  co_await coro::shielded(directions.join());
  x.proxy.metrics().add(telemetry::Count::tunnels_ended);
  const bool half_open = directions.source().cancelled() && directions.source().reason().detail == kHalfOpenTooLong.detail;
  if (directions.source().cancelled() && !half_open) co_return std::unexpected(directions.source().reason());
  // Both sides have ended in good order, or one had long enough to do so.
  part_from(x.proxy, std::move(x.upstream->stream));
  x.upstream.reset();
  co_return Result<void>{};
}

}  // namespace perigee::proxy
