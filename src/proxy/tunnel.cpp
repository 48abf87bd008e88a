// A tunnel: after a 101 the two connections speak something that is no longer ours. Bytes go both ways,
// each side's end is passed on, and the tunnel is over when both have ended or one has broken.
#include "inner.h"
#include "perigee/coro/scope.h"
#include "stages.h"

namespace perigee::proxy {

using coro::Task;

namespace {

// One direction, until the source ends.
Task<void> pour(net::Stream& from, net::Stream& to, coro::CancelSource& both, Side side) {
  for (;;) {
    auto got = co_await from.read();
    if (!got) {
      if (got.error().kind == ErrorKind::eof) {
        to.shutdown();
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

Task<Result<void>> tunnel(Exchange& x, Upstream& upstream) {
  Client& client = x.client;
  client.deadline.clear();
  client.stream->watch_end(nullptr, Side::client);
  x.proxy.metrics().add(telemetry::Count::tunnels_begun);
  coro::Scope directions(x.proxy.executor(), &client.source);
  directions.spawn(pour(*client.stream, *upstream.stream, directions.source(), Side::client));
  directions.spawn(pour(*upstream.stream, *client.stream, directions.source(), Side::upstream));
  co_await coro::shielded(directions.join());
  x.proxy.metrics().add(telemetry::Count::tunnels_ended);
  if (directions.source().cancelled()) co_return std::unexpected(directions.source().reason());
  // Both sides have ended in good order.
  part_from(x.proxy, std::move(upstream.stream));
  co_return Result<void>{};
}

}  // namespace perigee::proxy
