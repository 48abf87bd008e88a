#include "perigee/admin/admin_server.h"

#include <array>
#include <string>

#include "guard.h"
#include "pages.h"
#include "perigee/base/byte_buffer.h"
#include "perigee/coro/deadline.h"
#include "perigee/coro/scope.h"
#include "perigee/http/error_body.h"
#include "perigee/http/parser.h"
#include "perigee/net/loop.h"
#include "perigee/net/socket.h"

namespace perigee::admin {

using coro::Task;

namespace {

constexpr std::size_t kConnectionsMax = 64;
constexpr Duration kHeadTimeout = std::chrono::seconds(10);
constexpr Duration kIdle = std::chrono::seconds(75);
constexpr Duration kWriteTimeout = std::chrono::seconds(30);
constexpr Error kTooSlow{ErrorKind::timeout, Side::client, Sent::nothing, 0, "too slow"};

struct Page {
  int status = 200;
  std::string_view type = "application/json";
  std::string body;
};

Page error_page(int status, std::string_view detail) {
  ByteBuffer body;
  body.append("{\"detail\":");
  http::append_json_string(body, detail);
  body.append("}\n");
  return {status, "application/json", std::string(body.view())};
}

}  // namespace

struct AdminServer::Inner {
  Inner(net::Loop& l, const View& v, std::string t) : loop(l), view(v), token(std::move(t)), scope(l.executor()) {}

  Page page_for(const http::RequestHead& head) const;
  Task<void> serve(net::StreamPtr stream);
  Task<Result<bool>> take_and_answer(net::Stream& stream, coro::Deadline& deadline);
  static Task<Result<void>> send(net::Stream& stream, const Page& page, bool keep_alive, bool head_only);

  net::Loop& loop;
  const View& view;
  std::string token;
  coro::Scope scope;
  std::unique_ptr<net::Listener> listener;
  http::HeaderTable table;
};

Page AdminServer::Inner::page_for(const http::RequestHead& head) const {
  if (!host_is_local(head.authority) && token.empty()) {
    return error_page(421, "this name is not one of the admin port's: use an address, or localhost");
  }
  const std::string_view path = head.target.substr(0, head.target.find('?'));
  if (head.method != http::Method::get && head.method != http::Method::head) return error_page(405, "only GET here");
  if (path == "/healthz") return {200, "text/plain", "ok\n"};
  if (path == "/readyz") {
    if (view.ready()) return {200, "text/plain", "ready\n"};
    return {503, "text/plain", view.stopping() ? "stopping\n" : "no worker is up\n"};
  }
  if (!token.empty() && !bearer_matches(table.value(http::HeaderName::authorization), token)) {
    return error_page(401, "a bearer token is needed");
  }
  if (path == "/") return {200, "text/plain", index_page(view)};
  if (path == "/metrics") return {200, telemetry::kMetricsContentType, metrics_page(view)};
  if (path == "/api/v1/status") return {200, "application/json", status_page(view)};
  if (path == "/api/v1/backends") return {200, "application/json", backends_page(view)};
  if (path == "/api/v1/rates") return {200, "application/json", rates_page(view)};
  if (path == "/api/v1/queues") return {200, "application/json", queues_page(view)};
  if (path == "/api/v1/config") return {200, "application/json", config_page(view)};
  return error_page(404, "no such page; / lists them");
}

Task<Result<void>> AdminServer::Inner::send(net::Stream& stream, const Page& page, bool keep_alive, bool head_only) {
  std::string head = "HTTP/1.1 " + std::to_string(page.status) + " ";
  head.append(page.status == 421 ? "Misdirected Request" : page.status == 401 ? "Unauthorized" : http::status_text(static_cast<std::uint16_t>(page.status)));
  if (page.status == 200) head.append(head.ends_with("OK") ? "" : "OK");
  head.append("\r\ncontent-type: ").append(page.type);
  head.append("\r\ncontent-length: ").append(std::to_string(page.body.size()));
  if (page.status == 401) head.append("\r\nwww-authenticate: Bearer");
  head.append("\r\ncache-control: no-store\r\nx-content-type-options: nosniff");
  head.append(keep_alive ? "\r\n\r\n" : "\r\nconnection: close\r\n\r\n");
  const std::array<net::Bytes, 2> parts{net::Bytes(head), head_only ? net::Bytes() : net::Bytes(page.body)};
  CO_TRY_VOID(stream.write(parts));
  co_return co_await stream.drained();
}

// Reads one request and answers it. False: the connection ends.
Task<Result<bool>> AdminServer::Inner::take_and_answer(net::Stream& stream, coro::Deadline& deadline) {
  http::RequestParser parser;
  http::RequestHead head;
  std::string received;
  const http::HeadLimits limits{16 * 1024, 4 * 1024, 100};
  for (;;) {
    auto got = co_await stream.read();
    CO_TRY(const net::Bytes bytes, std::move(got));
    if (received.empty()) deadline.set_after(kHeadTimeout, kTooSlow);
    received.append(bytes.data(), bytes.size());
    const http::HeadResult parsed = parser.parse_head(received, limits, head, table);
    if (parsed.refused()) {
      const Page page = error_page(parsed.http_status, parsed.reason);
      auto sent = co_await send(stream, page, false, false);
      CO_TRY_VOID(sent);
      co_return false;
    }
    if (!parsed.complete()) continue;
    stream.unread(net::Bytes(received).subspan(parsed.consumed));
    // No page takes a body; one that comes all the same ends the connection after the answer.
    const bool keep_alive = head.keep_alive && head.framing == http::Framing::none;
    const bool head_only = head.method == http::Method::head;
    const Page page = page_for(head);
    deadline.set_after(kWriteTimeout, kTooSlow);
    auto sent = co_await send(stream, page, keep_alive, head_only);
    CO_TRY_VOID(sent);
    co_return keep_alive;
  }
}

Task<void> AdminServer::Inner::serve(net::StreamPtr stream) {
  coro::ChildCancelSource source(&scope.source());
  coro::Deadline deadline(loop.executor(), source);
  bool more = true;
  while (more) {
    deadline.set_after(kIdle, kTooSlow);
    auto answered = co_await coro::under(source, take_and_answer(*stream, deadline));
    more = answered && *answered;
  }
}

AdminServer::AdminServer(net::Loop& loop, const View& view, std::string token)
    : inner_(std::make_unique<Inner>(loop, view, std::move(token))) {}
AdminServer::~AdminServer() = default;

Result<void> AdminServer::listen(const net::Endpoint& at) {
  Inner& inner = *inner_;
  TRY(inner.listener, net::Listener::open(inner.loop, at, [&inner](int fd, bool is_unix) {
        auto stream = net::adopt(inner.loop, fd, is_unix);
        if (stream && inner.scope.live() < kConnectionsMax) inner.scope.spawn(inner.serve(std::move(*stream)));
      }));
  return {};
}

void AdminServer::set_token(std::string token) { inner_->token = std::move(token); }

Task<void> AdminServer::stop() {
  inner_->listener.reset();
  inner_->scope.cancel(Error{ErrorKind::cancelled, Side::internal, Sent::maybe, 0, "shutting down"});
  co_await inner_->scope.join();
}

}  // namespace perigee::admin
