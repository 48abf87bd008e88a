#include "perigee/admin/admin_server.h"

#include <array>
#include <optional>
#include <string>

#include "changes.h"
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
constexpr Duration kChangeTimeout = std::chrono::seconds(60);  // a reload looks names up
constexpr Error kTooSlow{ErrorKind::timeout, Side::client, Sent::nothing, 0, "too slow"};

struct Page {
  int status = 200;
  std::string_view type = "application/json";
  std::string body;
};

std::string_view path_of(const http::RequestHead& head) { return head.target.substr(0, head.target.find('?')); }

std::string_view words_of(int status) {
  switch (status) {
    case 200: return "OK";
    case 202: return "Accepted";
    case 401: return "Unauthorized";
    case 404: return "Not Found";
    case 409: return "Conflict";
    case 415: return "Unsupported Media Type";
    case 421: return "Misdirected Request";
    case 422: return "Unprocessable Content";
    default: return http::status_text(static_cast<std::uint16_t>(status));
  }
}

Page error_page(int status, std::string_view detail) {
  ByteBuffer body;
  body.append("{\"detail\":");
  http::append_json_string(body, detail);
  body.append("}\n");
  return {status, "application/json", std::string(body.view())};
}

}  // namespace

struct AdminServer::Inner {
  Inner(net::Loop& l, const View& v, Control& c, std::string t)
      : loop(l), view(v), control(c), token(std::move(t)), scope(l.executor()) {}

  std::optional<Page> refusal_of(const http::RequestHead& head) const;
  Page page_for(const http::RequestHead& head) const;
  Task<Page> change(std::string path, std::string type, std::string body, std::string peer);
  Task<void> serve(net::StreamPtr stream, std::string peer);
  Task<Result<bool>> take_and_answer(net::Stream& stream, coro::Deadline& deadline, const std::string& peer);
  static Task<Result<std::string>> take_body(net::Stream& stream, http::RequestParser& parser, bool empty);
  static Task<Result<void>> send(net::Stream& stream, const Page& page, bool keep_alive, bool head_only);

  net::Loop& loop;
  const View& view;
  Control& control;
  std::string token;
  coro::Scope scope;
  std::unique_ptr<net::Listener> listener;
  http::HeaderTable table;
};

// Who may not ask at all.
std::optional<Page> AdminServer::Inner::refusal_of(const http::RequestHead& head) const {
  if (!host_is_local(head.authority) && token.empty()) {
    return error_page(421, "this name is not one of the admin port's: use an address, or localhost");
  }
  const std::string_view path = path_of(head);
  const bool reads = head.method == http::Method::get || head.method == http::Method::head;
  if (reads && (path == "/healthz" || path == "/readyz")) return std::nullopt;
  if (!token.empty() && !bearer_matches(table.value(http::HeaderName::authorization), token)) {
    return error_page(401, "a bearer token is needed");
  }
  if (is_change(path)) {
    if (head.method != http::Method::post) return error_page(405, "a change is asked for by POST");
    if (!origin_is_ours(table.value(http::HeaderName::origin), head.authority)) {
      return error_page(403, "another site's page may not change anything");
    }
  } else if (!reads) {
    return error_page(405, "only GET here");
  }
  return std::nullopt;
}

Task<Page> AdminServer::Inner::change(std::string path, std::string type, std::string body, std::string peer) {
  auto what = read_change(path, type, body);
  if (!what) co_return error_page(what.error().status, what.error().detail);
  const Done done = co_await control.change(std::move(*what), std::move(peer));
  Page page = error_page(done.status, done.text);
  if (done.status < 300) {
    ByteBuffer text;
    text.append("{\"done\":");
    http::append_json_string(text, done.text);
    text.append("}\n");
    page.body.assign(text.view());
  }
  co_return page;
}

Page AdminServer::Inner::page_for(const http::RequestHead& head) const {
  const std::string_view path = path_of(head);
  if (path == "/healthz") return {200, "text/plain", "ok\n"};
  if (path == "/readyz") {
    if (view.ready()) return {200, "text/plain", "ready\n"};
    return {503, "text/plain", view.stopping() ? "stopping\n" : "no worker is up\n"};
  }
  if (path == "/") return {200, "text/plain", index_page(view)};
  if (path == "/metrics") return {200, telemetry::kMetricsContentType, metrics_page(view)};
  if (path == "/api/v1/status") return {200, "application/json", status_page(view)};
  if (path == "/api/v1/backends") return {200, "application/json", backends_page(view)};
  if (path == "/api/v1/rates") return {200, "application/json", rates_page(view)};
  if (path == "/api/v1/queues") return {200, "application/json", queues_page(view)};
  if (path == "/api/v1/classes") return {200, "application/json", classes_page(view)};
  if (path == "/api/v1/breakers") return {200, "application/json", breakers_page(view)};
  if (path == "/api/v1/events") return {200, "application/json", events_page(view)};
  if (path == "/api/v1/throttle") return {200, "application/json", throttle_page(view)};
  if (path == "/api/v1/config") return {200, "application/json", config_page(view)};
  return error_page(404, "no such page; / lists them");
}

Task<Result<void>> AdminServer::Inner::send(net::Stream& stream, const Page& page, bool keep_alive, bool head_only) {
  std::string head = "HTTP/1.1 " + std::to_string(page.status) + " ";
  head.append(words_of(page.status));
  head.append("\r\ncontent-type: ").append(page.type);
  head.append("\r\ncontent-length: ").append(std::to_string(page.body.size()));
  if (page.status == 401) head.append("\r\nwww-authenticate: Bearer");
  head.append("\r\ncache-control: no-store\r\nx-content-type-options: nosniff");
  head.append(keep_alive ? "\r\n\r\n" : "\r\nconnection: close\r\n\r\n");
  const std::array<net::Bytes, 2> parts{net::Bytes(head), head_only ? net::Bytes() : net::Bytes(page.body)};
  CO_TRY_VOID(stream.write(parts));
  co_return co_await stream.drained();
}

// A small body, whole.
Task<Result<std::string>> AdminServer::Inner::take_body(net::Stream& stream, http::RequestParser& parser, bool empty) {
  std::string body;
  std::array<std::string_view, 8> pieces;
  bool done = empty;
  while (!done) {
    auto got = co_await stream.read();
    CO_TRY(net::Bytes bytes, std::move(got));
    while (!done && !bytes.empty()) {
      const http::BodyStep step = parser.feed_body(bytes, pieces);
      for (std::size_t i = 0; i < step.pieces; ++i) body.append(pieces[i]);
      if (step.refused()) co_return fail(ErrorKind::protocol, step.reason, Side::client, step.http_status);
      bytes = bytes.subspan(step.consumed);
      done = step.done();
    }
    stream.unread(bytes);
  }
  co_return body;
}

// Reads one request and answers it. False: the connection ends.
Task<Result<bool>> AdminServer::Inner::take_and_answer(net::Stream& stream, coro::Deadline& deadline, const std::string& peer) {
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
    const bool head_only = head.method == http::Method::head;
    // The table is every connection's: what a change needs of it is asked before anything is awaited.
    const std::optional<Page> refusal = refusal_of(head);
    const bool changes = !refusal && is_change(path_of(head));
    // Only changes take a body; another one that comes all the same ends the connection after the answer.
    const bool keep_alive = head.keep_alive && (head.framing == http::Framing::none || changes);
    Page page;
    if (refusal) {
      page = *refusal;
    } else if (!changes) {
      page = page_for(head);
    } else {
      const std::string path(path_of(head));
      const std::string type(table.value(http::HeaderName::content_type));
      const bool too_large = head.framing == http::Framing::length && head.content_length > kChangeBytesMax;
      parser.bound_body(kChangeBytesMax);
      Result<std::string> body = fail(ErrorKind::too_large, "a body of more than 4 KiB", Side::client, 413);
      if (!too_large) {
        const bool empty = head.framing == http::Framing::none || (head.framing == http::Framing::length && head.content_length == 0);
        auto taken = co_await take_body(stream, parser, empty);
        body = std::move(taken);
      }
      if (!body && body.error().code == 0) co_return std::unexpected(body.error());
      if (!body) {
        page = error_page(body.error().code, body.error().detail);
        auto sent = co_await send(stream, page, false, false);
        CO_TRY_VOID(sent);
        co_return false;
      }
      deadline.set_after(kChangeTimeout, kTooSlow);
      Page done = co_await change(path, type, *body, peer);
      page = std::move(done);
    }
    deadline.set_after(kWriteTimeout, kTooSlow);
    auto sent = co_await send(stream, page, keep_alive, head_only);
    CO_TRY_VOID(sent);
    co_return keep_alive;
  }
}

Task<void> AdminServer::Inner::serve(net::StreamPtr stream, std::string peer) {
  coro::ChildCancelSource source(&scope.source());
  coro::Deadline deadline(loop.executor(), source);
  bool more = true;
  while (more) {
    deadline.set_after(kIdle, kTooSlow);
    auto answered = co_await coro::under(source, take_and_answer(*stream, deadline, peer));
    more = answered && *answered;
  }
}

AdminServer::AdminServer(net::Loop& loop, const View& view, Control& control, std::string token)
    : inner_(std::make_unique<Inner>(loop, view, control, std::move(token))) {}
AdminServer::~AdminServer() = default;

Result<void> AdminServer::listen(const net::Endpoint& at) {
  Inner& inner = *inner_;
  TRY(inner.listener, net::Listener::open(inner.loop, at, [&inner](int fd, bool is_unix) {
        std::string peer = net::peer_of(fd).text.data();
        auto stream = net::adopt(inner.loop, fd, is_unix);
        if (stream && inner.scope.live() < kConnectionsMax) inner.scope.spawn(inner.serve(std::move(*stream), std::move(peer)));
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
