// What goes on to a worker and back to a client, field by field; and that none of it allocates.
#include <doctest/doctest.h>

#include <cstdlib>
#include <new>
#include <string>

#include "perigee/http/error_body.h"
#include "perigee/http/forward.h"
#include "perigee/http/json_peek.h"
#include "perigee/http/parser.h"
#include "perigee/http/sse.h"
#include "perigee/http/target.h"

namespace {
std::size_t allocations = 0;
}  // namespace

[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new[](std::size_t size) {
  return operator new(size);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete[](void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete[](void* memory, std::size_t) noexcept {
  std::free(memory);
}

namespace perigee::http {
namespace {

ForwardContext untrusted() {
  ForwardContext context;
  context.peer = "203.0.113.9";
  context.request_id = "ours-1";
  return context;
}

std::string forward(const std::string& fields, ForwardContext context,
                    const std::string& line = "GET /x HTTP/1.1") {
  const std::string bytes = line + "\r\n" + fields + "\r\n";
  HeaderTable table;
  RequestHead head;
  RequestParser parser;
  const HeadResult result = parser.parse_head(bytes, HeadLimits{}, head, table);
  if (!result.complete()) return std::string("refused: ") + result.reason;
  ByteBuffer out;
  write_request_head(out, head, table, context);
  return std::string(out.view());
}

// What write_request_head adds for untrusted(), with `own` where the passed fields stand.
std::string plain(const std::string& own, const std::string& id = "ours-1", const std::string& last = "") {
  return "GET /x HTTP/1.1\r\nHost: h:1\r\n" + own +
         "Via: 1.1 perigee\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: "
         "h:1\r\n"
         "X-Real-IP: 203.0.113.9\r\nX-Request-ID: " +
         id + "\r\n" + last + "\r\n";
}

std::string respond(const std::string& bytes, const std::string& line = "GET / HTTP/1.1",
                    bool keep_alive = true, ResponseContext context = {}) {
  const std::string request_bytes = line + "\r\nHost: h\r\n\r\n";
  HeaderTable table;
  RequestHead request;
  RequestParser requests;
  REQUIRE(requests.parse_head(request_bytes, HeadLimits{}, request, table).complete());
  ResponseHead head;
  ResponseParser parser;
  Expected expected;
  expected.method = request.method;
  if (context.upgrade) expected.upgrade_protocol = "websocket";
  REQUIRE(parser.parse_head(bytes, HeadLimits{}, expected, head, table).complete());
  context.plan = plan_response(head, request, keep_alive);
  context.client_minor = request.version_minor;
  ByteBuffer out;
  write_response_head(out, head, table, context);
  return std::string(out.view());
}

}  // namespace

TEST_CASE("towards a worker: order, form, and our own fields") {
  CHECK(forward("Host: h:1\r\n", untrusted()) == plain(""));
  CHECK(forward("Accept: */*\r\nHost: h:1\r\nUser-Agent: x\r\n", untrusted()) ==
        plain("Accept: */*\r\nUser-Agent: x\r\n"));
  // Not as we would write them: rewritten, each.
  CHECK(forward("Accept:*/*\r\nHost: h:1\r\nUser-Agent:   x \t\r\nEmpty:\r\nB: \t c\r\nD: e\r\n",
                untrusted()) == plain("Accept: */*\r\nUser-Agent: x\r\nEmpty: \r\nB: c\r\nD: e\r\n"));
}

TEST_CASE("towards a worker: hop-by-hop fields and those named by Connection stay here") {
  CHECK(
      forward(
          "Host: h:1\r\nConnection: keep-alive, X-Once\r\nKeep-Alive: 5\r\nX-Once: a\r\nx-once: b\r\nTE: "
          "trailers\r\n"
          "Trailer: X\r\nProxy-Connection: close\r\nProxy-Authorization: y\r\nUpgrade: foo\r\nX-Kept: z\r\n",
          untrusted()) == plain("X-Kept: z\r\n"));
  CHECK(forward("Host: h:1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n", untrusted()) == plain(""));
}

TEST_CASE("towards a worker: the framing is ours") {
  ForwardContext context = untrusted();
  context.framing = Framing::length;
  context.content_length = 42;
  CHECK(forward("Host: h:1\r\nContent-Length: 002\r\n", context) ==
        plain("", "ours-1", "Content-Length: 42\r\n"));
  context.content_length = 0;
  CHECK(forward("Host: h:1\r\nContent-Length: 0\r\n", context) ==
        plain("", "ours-1", "Content-Length: 0\r\n"));
  context.framing = Framing::chunked;
  CHECK(forward("Host: h:1\r\nTransfer-Encoding: chunked\r\n", context) ==
        plain("", "ours-1", "Transfer-Encoding: chunked\r\n"));
}

TEST_CASE("towards a worker: what a stranger says of itself is overwritten") {
  CHECK(
      forward(
          "Host: h:1\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\nX-Forwarded-Proto: https\r\n"
          "X-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nX-Real-IP: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\n"
          "X-Priority: critical\r\nX-Request-Deadline: 1\r\nX-User-ID: u\r\nX-API-Key: k\r\nVia: 1.1 "
          "other\r\n",
          untrusted()) == plain("X-User-ID: u\r\nX-API-Key: k\r\nVia: 1.1 other\r\n"));
  CHECK(forward("Host: h:1\r\nX_Forwarded_For: 1\r\nX.Real.IP: 2\r\nContent_Length: 3\r\nx_user_id: "
                "4\r\nX_Other: 5\r\n",
                untrusted()) == plain("X_Other: 5\r\n"));
}

TEST_CASE("towards a worker: a trusted peer's word is kept and added to") {
  ForwardContext context = untrusted();
  context.trusted = true;
  CHECK(forward(
            "Host: h:1\r\nX-Forwarded-For: 1.2.3.4, 5.6.7.8\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: "
            "9.9.9.9\r\n"
            "X-Forwarded-Host: public\r\nX-Real-IP: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\nX-Priority: low\r\n",
            context) ==
        "GET /x HTTP/1.1\r\nHost: h:1\r\nVia: 1.1 perigee\r\n"
        "X-Forwarded-For: 1.2.3.4, 5.6.7.8, 9.9.9.9, 203.0.113.9\r\nX-Forwarded-Proto: https\r\n"
        "X-Forwarded-Host: public\r\nX-Real-IP: 1.2.3.4\r\n"
        "Forwarded: for=1.2.3.4, for=203.0.113.9;host=\"h:1\";proto=http\r\nX-Request-ID: ours-1\r\n\r\n");
  // Said twice is not said.
  const std::string twice = forward(
      "Host: h:1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\n"
      "X-Real-IP: 1.1.1.1\r\nX-Real-IP: 2.2.2.2\r\n",
      context);
  CHECK(twice == plain(""));
}

std::string line_of(const std::string& head, const std::string& name) {
  const std::size_t at = head.find("\r\n" + name + ": ");
  if (at == std::string::npos) return "(none)";
  const std::size_t from = at + 4 + name.size();
  return head.substr(from, head.find("\r\n", from) - from);
}

TEST_CASE("towards a worker: Forwarded goes on where a trusted peer speaks it, and what is broken goes no further") {
  ForwardContext context = untrusted();
  context.trusted = true;
  const auto forwarded = [&](const std::string& fields) { return line_of(forward("Host: h:1\r\n" + fields, context), "Forwarded"); };
  CHECK(forwarded("") == "(none)");
  CHECK(forwarded("Forwarded: for=\"[2001:db8::1]:4711\";by=_x , for=unknown\r\nForwarded: for=1.1.1.1\r\n") ==
        "for=\"[2001:db8::1]:4711\";by=_x , for=unknown, for=1.1.1.1, for=203.0.113.9;host=\"h:1\";proto=http");
  CHECK(forwarded("Forwarded: for=\"1.1.1.1\r\n") == "for=203.0.113.9;host=\"h:1\";proto=http");
  CHECK(forwarded("Forwarded:\r\n") == "for=203.0.113.9;host=\"h:1\";proto=http");
  context.peer = "2001:db8::9";
  context.scheme = "https";
  CHECK(forwarded("Forwarded: for=1.1.1.1\r\n") == "for=1.1.1.1, for=\"[2001:db8::9]\";host=\"h:1\";proto=https");
  context.peer = "unix";
  CHECK(forwarded("Forwarded: for=1.1.1.1\r\n") == "for=1.1.1.1, for=_unix;host=\"h:1\";proto=https");
}

TEST_CASE("towards a worker: the client that was found behind trusted peers is the real one") {
  ForwardContext context = untrusted();
  context.trusted = true;
  context.client = "198.51.100.7";
  const std::string head = forward("Host: h:1\r\nX-Forwarded-For: 198.51.100.7\r\n", context);
  CHECK(line_of(head, "X-Real-IP") == "198.51.100.7");
  CHECK(line_of(head, "X-Forwarded-For") == "198.51.100.7, 203.0.113.9");
}

TEST_CASE("towards a worker: a trace passes, is left out, or begins") {
  ForwardContext context = untrusted();
  const std::string fields = "Host: h:1\r\ntraceparent: p\r\ntracestate: s\r\n";
  CHECK(forward(fields, context) == plain("traceparent: p\r\ntracestate: s\r\n"));
  context.drop_tracestate = true;
  CHECK(forward(fields, context) == plain("traceparent: p\r\n"));
  context.drop_traceparent = true;
  CHECK(forward(fields, context) == plain(""));
  context.traceparent = "new";
  CHECK(line_of(forward(fields, context), "traceparent") == "new");
}

TEST_CASE("towards a worker: the request id") {
  CHECK(forward("Host: h:1\r\nX-Request-ID: abc-123\r\n", untrusted()) == plain("", "abc-123"));
  CHECK(forward("Host: h:1\r\nX-Request-ID: a b\r\n", untrusted()) == plain(""));
  CHECK(forward("Host: h:1\r\nX-Request-ID: a\"b\r\n", untrusted()) == plain(""));
  CHECK(forward("Host: h:1\r\nX-Request-ID:\r\n", untrusted()) == plain(""));
  CHECK(forward("Host: h:1\r\nX-Request-ID: a\r\nX-Request-ID: b\r\n", untrusted()) == plain(""));
  CHECK(forward("Host: h:1\r\nX-Request-ID: " + std::string(128, 'a') + "\r\n", untrusted()) ==
        plain("", std::string(128, 'a')));
  CHECK(forward("Host: h:1\r\nX-Request-ID: " + std::string(129, 'a') + "\r\n", untrusted()) == plain(""));
}

TEST_CASE("towards a worker: Host, versions, upgrades") {
  ForwardContext context = untrusted();
  context.host = "127.0.0.1:3001";
  const std::string mcp = forward("Host: public\r\n", context);
  CHECK(mcp.find("\r\nHost: 127.0.0.1:3001\r\n") != std::string::npos);
  CHECK(mcp.find("X-Forwarded-Host: public\r\n") != std::string::npos);
  const std::string old = forward("", context, "GET /x HTTP/1.0");
  CHECK(old.starts_with("GET /x HTTP/1.1\r\nHost: 127.0.0.1:3001\r\nVia: 1.0 perigee\r\n"));
  CHECK(old.find("X-Forwarded-Host") == std::string::npos);

  const std::string ws =
      "Host: h:1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n";
  CHECK(forward(ws, untrusted()) ==
        plain("Sec-WebSocket-Key: k\r\n", "ours-1", "Connection: Upgrade\r\nUpgrade: websocket\r\n"));
  context = untrusted();
  context.upgrade = false;
  CHECK(forward(ws, context) == plain("Sec-WebSocket-Key: k\r\n"));
  CHECK(forward("Host: h:1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n",
                untrusted()) == plain(""));
  CHECK(forward("Host: a\r\n", untrusted(), "GET http://a/p?q HTTP/1.1")
            .starts_with("GET /p?q HTTP/1.1\r\nHost: a\r\n"));
}

TEST_CASE("what we write can be read again, and is the same the second time") {
  const std::string once =
      forward("Host: h:1\r\nA:b\r\nB:\tc \r\nConnection: X-D\r\nX-D: e\r\nCookie: a=b\r\n", untrusted());
  const std::string fields = once.substr(once.find("\r\n") + 2, once.size() - once.find("\r\n") - 4);
  const std::string again = forward(fields, untrusted());
  CHECK(again == plain("A: b\r\nB: c\r\nCookie: a=b\r\nVia: 1.1 perigee\r\n", "ours-1"));
}

TEST_CASE("towards a client: fields and framing") {
  CHECK(respond("HTTP/1.1 200 OK\r\ndate: D\r\nserver: uvicorn\r\ncontent-length: 5\r\nx-a:b\r\n\r\n") ==
        "HTTP/1.1 200 OK\r\ndate: D\r\nserver: uvicorn\r\nx-a: b\r\nContent-Length: 5\r\n\r\n");
  CHECK(
      respond(
          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\nKeep-Alive: timeout=5\r\n"
          "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nX-Perigee-Reason: forged\r\nVary: Origin\r\n\r\n") ==
      "HTTP/1.1 200 OK\r\nVary: Origin\r\nTransfer-Encoding: chunked\r\n\r\n");
  CHECK(respond("HTTP/1.0 200 OK\r\n\r\n") == "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
  CHECK(respond("HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n") ==
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
  CHECK(respond("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "GET / HTTP/1.1", false) ==
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n");
  // A field that a worker's Connection names though it belongs to the client is kept.
  CHECK(respond("HTTP/1.1 200 OK\r\nConnection: Set-Cookie\r\nSet-Cookie: a\r\nSet-Cookie: "
                "b\r\nContent-Length: 0\r\n\r\n") ==
        "HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n");
}

TEST_CASE("towards a client: HTTP/1.0") {
  CHECK(respond("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "GET / HTTP/1.0", true) ==
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
  CHECK(respond("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", "GET / HTTP/1.0", true) ==
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n");
}

TEST_CASE("towards a client: without a body") {
  CHECK(respond("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD / HTTP/1.1") ==
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
  CHECK(respond("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HEAD / HTTP/1.1") ==
        "HTTP/1.1 200 OK\r\n\r\n");
  CHECK(respond("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n") ==
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n");
  CHECK(respond("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n") == "HTTP/1.1 204 No Content\r\n\r\n");
}

TEST_CASE("towards a client: what we add") {
  ResponseContext context;
  context.request_id = "ours";
  context.date = "D";
  context.extra = "X-E: f\r\n";
  CHECK(respond("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "GET / HTTP/1.1", true, context) ==
        "HTTP/1.1 200 OK\r\nDate: D\r\nX-Request-ID: ours\r\nContent-Length: 0\r\nX-E: f\r\n\r\n");
  CHECK(respond("HTTP/1.1 200 OK\r\nx-request-id: theirs\r\ndate: T\r\nContent-Length: 0\r\n\r\n",
                "GET / HTTP/1.1", true, context) ==
        "HTTP/1.1 200 OK\r\nx-request-id: theirs\r\ndate: T\r\nContent-Length: 0\r\nX-E: f\r\n\r\n");
  CHECK(respond("HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n", "GET / HTTP/1.1", true, context) ==
        "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n");
  context.upgrade = true;
  CHECK(respond("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
                "Sec-WebSocket-Accept: x\r\n\r\n",
                "GET / HTTP/1.1", true, context) ==
        "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\nConnection: Upgrade\r\nUpgrade: "
        "websocket\r\n\r\n");
}

TEST_CASE("a table filled by hand can be written too") {
  HeaderTable table;
  REQUIRE(table.add("X-A", "1"));
  REQUIRE(table.add("Host", "h"));
  CHECK(table.value(HeaderName::host) == "h");
  CHECK_FALSE(table.repeated(HeaderName::host));
  RequestHead head;
  head.method_text = "GET";
  head.target = "/";
  head.authority = "h";
  ByteBuffer out;
  write_request_head(out, head, table, untrusted());
  CHECK(out.view().starts_with("GET / HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nVia"));
  for (int i = 0; i < 254; ++i)
    REQUIRE(table.add("A", "b"));
  CHECK_FALSE(table.add("A", "b"));
}

TEST_CASE("nothing is allocated for an ordinary exchange") {
  static constexpr std::string_view kRequest =
      "POST /v1/chat%2Fcompletions?x=1 HTTP/1.1\r\nHost: orbit.example.com\r\nConnection: keep-alive\r\n"
      "User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: */*\r\nAccept-Language: en\r\nAccept-Encoding: "
      "gzip\r\n"
      "Referer: https://orbit.example.com/\r\nContent-Type: application/json\r\nX-API-Key: "
      "k\r\nX-Session-ID: s\r\n"
      "Transfer-Encoding: chunked\r\n\r\n24\r\n{\"messages\": [1, 2], \"stream\": true}\r\n0\r\n\r\n";
  static constexpr std::string_view kAnswer =
      "HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream\r\nTransfer-Encoding: "
      "chunked\r\n"
      "vary: Origin\r\nx-a: b\r\n\r\n2d\r\ndata: {\"response\": \"alpha \", \"done\": "
      "false}\n\n\r\n0\r\n\r\n";
  HeaderTable table;
  ByteBuffer out(8192);
  RequestParser requests;
  ResponseParser responses;
  std::string_view pieces[8];
  char path[256];
  const std::size_t before = allocations;
  bool good = true;
  for (int round = 0; round < 3; ++round) {
    RequestHead head;
    const HeadResult result = requests.parse_head(kRequest, HeadLimits{}, head, table);
    good = good && result.complete() && normalise_path(head.target, EncodedSlash::separator, path).ok();
    ForwardContext context = untrusted();
    context.framing = Framing::chunked;
    write_request_head(out, head, table, context);
    BodyStep step = requests.feed_body(std::span(kRequest).subspan(result.consumed), pieces);
    good = good && step.done() && peek_json(pieces[0], true).stream == Tristate::yes;
    ResponseHead answer;
    const HeadResult answered = responses.parse_head(kAnswer, HeadLimits{}, Expected{}, answer, table);
    ResponseContext back;
    back.plan = plan_response(answer, head, true);
    back.request_id = "ours";
    write_response_head(out, answer, table, back);
    step = responses.feed_body(std::span(kAnswer).subspan(answered.consumed), pieces);
    SseScanner scanner(SseDialect::orbit_chat);
    good = good && step.done() && scanner.feed(pieces[0]).first_output;
    ErrorContext error;
    error.reason = Reason::queue_full;
    error.request_id = "ours";
    write_error(out, error);
    responses.reset();
    out.clear();
  }
  CHECK(allocations == before);
  CHECK(good);
  const auto counted = std::make_unique<int>(1);
  CHECK(allocations > before);  // the counter counts
}

}  // namespace perigee::http
