// Intake: from a client's first byte to a request that can ask for its ticket.
//
// A head that comes in one read is parsed where it lies. Everything that needs its views (class, forwarded
// head) happens in that same turn, because the bytes and the header table are the loop's; what stays is in
// the exchange. A small body is read before the request waits: the client's end can hide behind unread
// bytes, and slow uploads must not hold a ticket.
#include <algorithm>
#include <array>

#include "perigee/http/chunk.h"

#include "inner.h"
#include "stages.h"

namespace perigee::proxy {

using coro::Task;

namespace {

constexpr std::size_t kPrefixMax = 64UL * 1024;
constexpr std::size_t kPieces = 16;

// Feeds body bytes to the parser and keeps what is decoded. What lies behind the body goes back.
Result<void> keep_body(Exchange& x, net::Bytes bytes) {
  std::array<std::string_view, kPieces> pieces;
  while (!x.body_complete && x.out.size() - x.out_head_bytes < kPrefixMax) {
    const http::BodyStep step = x.client.parser.feed_body(bytes, pieces);
    for (std::size_t i = 0; i < step.pieces; ++i) x.out.append(pieces[i]);
    if (step.refused()) return fail(ErrorKind::protocol, step.reason, Side::client, step.http_status);
    bytes = bytes.subspan(step.consumed);
    if (step.done()) x.body_complete = true;
    if (bytes.empty()) break;
  }
  x.client.stream->unread(bytes);
  return {};
}

Result<void> take_in(Exchange& x, std::size_t consumed, net::Bytes bytes) {
  x.body_complete = x.head.framing == http::Framing::none;
  TRY_VOID(route(x));
  x.out = x.proxy.borrow();
  forward_head(x);
  const net::Bytes rest = bytes.subspan(consumed);
  if (!x.body_complete) return keep_body(x, rest);
  x.client.stream->unread(rest);
  return {};
}

// The last moment by which the next body bytes must have come, for the least rate the operator allows.
TimePoint body_due(const Exchange& x, TimePoint began, std::uint64_t received) {
  const auto of_class = [&]<typename T>(std::optional<T> config::ClassOverrides::*own, T config::Client::*common) {
    return x.plan->config->client_of(x.verdict.request_class, own, common);
  };
  const std::uint64_t rate = of_class(&config::ClassOverrides::body_rate, &config::Client::body_rate);
  const auto at_rate = from_seconds(static_cast<double>(received) / static_cast<double>(std::max<std::uint64_t>(rate, 1)));
  return began + std::max(of_class(&config::ClassOverrides::body_grace, &config::Client::body_grace), at_rate);
}

// A read of ours that failed for a reason of the connection failed on the client's side.
Error by_client(Error error) {
  if (error.side == Side::internal && error.kind != ErrorKind::cancelled) error.side = Side::client;
  return error;
}

}  // namespace

// The first byte of a request came: from here on the exchange exists and its head has its own clock.
static void begin(Exchange& x, std::size_t bytes) {
  Client& client = x.client;
  x.times.begun = x.proxy.now();
  x.plan = x.proxy.plan;
  x.client_in_before = client.stream->bytes_in() - bytes;
  client.set_idle(false);
  const Duration head = x.plan->config->client.head;
  // A new connection that says nothing is as slow as one that sends half a head.
  if (!client.first) client.deadline.set_after(head, kHeadTooSlow);
}

static void wait_for_first_byte(Exchange& x) {
  Client& client = x.client;
  client.set_idle(true);
  client.idle_since = x.proxy.now();
  const config::Client& clock = x.proxy.plan->config->client;
  if (client.first) {
    client.deadline.set_after(clock.head, kHeadTooSlow);
  } else {
    client.deadline.set_after(client.draining ? std::min<Duration>(clock.keep_alive, std::chrono::seconds(5)) : clock.keep_alive,
                              kIdleTooLong);
  }
}

Task<Result<void>> take_request(Exchange& x) {
  Client& client = x.client;
  wait_for_first_byte(x);
  for (;;) {
    auto got = co_await client.stream->read();
    if (!got) co_return std::unexpected(by_client(got.error()));
    net::Bytes bytes = *got;
    if (client.idle) begin(x, bytes.size());
    if (client.partial_head) {
      client.partial_head->append(bytes.data(), bytes.size());
      bytes = net::Bytes(*client.partial_head);
    }
    const config::Heads& heads = x.plan->config->heads;
    const http::HeadLimits limits{heads.bytes, heads.target, heads.fields};
    const http::HeadResult parsed = client.parser.parse_head(bytes, limits, x.proxy.request_head, x.proxy.request_table);
    x.head = x.proxy.request_head;
    if (parsed.refused()) {
      co_return fail(ErrorKind::protocol, parsed.reason, Side::client, parsed.http_status);
    }
    if (parsed.complete()) {
      client.first = false;
      client.deadline.clear();
      auto taken = take_in(x, parsed.consumed, bytes);
      x.taken = taken.has_value();
      client.partial_head.reset();
      co_return taken;
    }
    if (!client.partial_head) client.partial_head = std::make_unique<std::string>(bytes.data(), bytes.size());
  }
}

Task<Result<void>> take_body(Exchange& x) {
  Client& client = x.client;
  if (x.head.expect_continue && client.stream->bytes_in() - x.client_in_before <= x.head.head_bytes) {
    // A client that waits for leave is not asked for a body that nobody could take.
    const bool nobody = x.proxy.parts.dispatcher.pool_kind(x.pool) != WorkerKind::unknown &&
                        !x.proxy.parts.dispatcher.any_eligible();
    if (nobody) {
      x.refusal = dispatch::Refusal{dispatch::Refused::no_backend, true, 5};
      co_return fail(ErrorKind::unavailable, "no worker is up");
    }
    constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
    CO_TRY_VOID(client.stream->write(net::Bytes(kContinue)));
  }
  const TimePoint began = x.proxy.now();
  while (!x.body_complete && x.out.size() - x.out_head_bytes < kPrefixMax) {
    client.deadline.set(body_due(x, began, x.out.size() - x.out_head_bytes), kBodyTooSlow);
    auto got = co_await client.stream->read();
    if (!got) co_return std::unexpected(by_client(got.error()));
    CO_TRY_VOID(keep_body(x, *got));
  }
  client.deadline.clear();
  co_return Result<void>{};
}

// What follows the first 64 KiB, read only while a worker takes it.
Task<void> pass_body(Exchange& x, net::Stream& upstream) {
  Client& client = x.client;
  coro::Deadline slow(x.proxy.executor(), client.source);
  const TimePoint began = x.proxy.now();
  std::uint64_t passed = 0;
  std::array<std::string_view, kPieces> pieces;
  const bool chunked = x.head.framing == http::Framing::chunked;
  while (!x.body_complete) {
    slow.set(body_due(x, began, passed), kBodyTooSlow);
    auto got = co_await client.stream->read();
    if (!got) {
      // Asked to stop (the answer is complete), or the client left.
      if (got.error().kind != ErrorKind::cancelled) client.source.cancel(by_client(got.error()));
      co_return;
    }
    net::Bytes bytes = *got;
    while (!bytes.empty() && !x.body_complete) {
      const http::BodyStep step = client.parser.feed_body(bytes, pieces);
      for (std::size_t i = 0; i < step.pieces; ++i) {
        passed += pieces[i].size();
        const http::ChunkHead size(pieces[i].size());
        const std::array<net::Bytes, 3> parts{net::Bytes(size.view()), net::Bytes(pieces[i]), net::Bytes(http::kChunkEnd)};
        const auto all = std::span<const net::Bytes>(parts);
        // A worker that no longer reads shows in the answer's read, not here.
        (void)upstream.write(chunked ? all : all.subspan(1, 1));
      }
      if (step.refused()) {
        client.source.cancel(Error{ErrorKind::protocol, Side::client, Sent::maybe, step.http_status, step.reason});
        co_return;
      }
      bytes = bytes.subspan(step.consumed);
      if (step.done()) x.body_complete = true;
    }
    client.stream->unread(bytes);
    if (x.body_complete && chunked) (void)upstream.write(net::Bytes(http::kLastChunk));
    // The head of the answer may take its time from the last byte of the body on.
    if (!x.head_sent && client.deadline.due() != kNever) {
      client.deadline.extend(x.proxy.now() + x.plan->config->clock(x.verdict.request_class, &config::ClassOverrides::head, &config::Clocks::head));
    }
    if (upstream.backlog() > net::kBacklogHigh) {
      slow.clear();
      const auto drained = co_await upstream.drained();
      if (!drained) co_return;
    }
  }
  x.times.sent = x.proxy.now();
  slow.clear();
  client.stream->watch_end(&client.source, Side::client);
}

}  // namespace perigee::proxy
