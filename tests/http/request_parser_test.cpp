// What the cases of conformance_test.cpp do not show of the request parser: its bounds, its cost, its views.
#include <doctest/doctest.h>

#include <memory>
#include <string>

#include "perigee/http/parser.h"

namespace perigee::http {
namespace {

// A copy in memory of exactly its size, so that the sanitizer sees every byte read too far.
std::unique_ptr<char[]> exact(std::string_view bytes) {
  auto copy = std::make_unique<char[]>(bytes.size() + (bytes.empty() ? 1 : 0));
  bytes.copy(copy.get(), bytes.size());
  return copy;
}

}  // namespace

TEST_CASE("limits: head, target, number of fields") {
  HeaderTable table;
  RequestHead head;
  HeadLimits limits;
  limits.head_bytes_max = 1000;
  limits.target_bytes_max = 100;
  limits.headers_max = 5;
  const auto parse = [&](const std::string& bytes) {
    RequestParser parser;
    const HeadResult whole = parser.parse_head(bytes, limits, head, table);
    RequestParser again;
    HeadResult bytewise;
    for (std::size_t i = 1; i <= bytes.size() && bytewise.status == HeadResult::Status::need_more; ++i) {
      bytewise = again.parse_head(std::span(bytes).first(i), limits, head, table);
    }
    CHECK(bytewise.http_status == whole.http_status);
    CHECK(bytewise.status == whole.status);
    return whole.complete() ? 200 : static_cast<int>(whole.http_status);
  };
  const auto target = [](std::size_t n) {
    return "GET /" + std::string(n - 1, 'a') + " HTTP/1.1\r\nHost: a\r\n\r\n";
  };
  CHECK(parse(target(100)) == 200);
  CHECK(parse(target(101)) == 414);
  CHECK(parse(target(500)) == 414);
  CHECK(parse("GET /" + std::string(5000, 'a')) == 414);
  CHECK(parse("GET / HTTP/1.1\r\nHost: a\r\nX: " + std::string(900, 'a') + "\r\n\r\n") == 200);
  CHECK(parse("GET / HTTP/1.1\r\nHost: a\r\nX: " + std::string(2000, 'a') + "\r\n\r\n") == 431);
  CHECK(parse("GET / HTTP/1.1\r\nHost: a\r\n" + std::string(2000, 'a')) == 431);
  CHECK(parse("GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n\r\n") == 200);
  CHECK(parse("GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nE: 5\r\n\r\n") == 431);
  CHECK(parse("GET / HTTP/1.1\r\nHost: a\r\n" + std::string(900, 'n') + ": x\r\n\r\n") == 200);

  // Names and values near the places where shorter counters wrap.
  limits = HeadLimits{};
  for (const std::size_t n : {255UL, 256UL, 257UL, 16383UL, 16384UL, 65000UL}) {
    CHECK(parse("GET / HTTP/1.1\r\nHost: a\r\n" + std::string(n, 'n') + ": x\r\n\r\n") == 200);
    CHECK(table.headers()[1].name.size() == n);
  }
  for (const std::size_t n : {65536UL, 1UL << 20}) {
    CHECK(parse("GET / HTTP/1.1\r\nHost: a\r\nX: " + std::string(n, 'n') + "\r\n\r\n") == 431);
  }
  limits.headers_max = 10000;  // more than any table holds
  limits.head_bytes_max = 1 << 20;
  std::string many = "GET / HTTP/1.1\r\nHost: a\r\n";
  for (int i = 0; i < 10000; ++i)
    many += "A: b\r\n";
  CHECK(parse(many + "\r\n") == 431);
}

TEST_CASE("limits: bodies, extensions, trailers") {
  HeaderTable table;
  RequestHead head;
  std::string_view pieces[8];
  static const std::string kChunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  const auto feed = [&](const std::string& request, const std::string& body, std::uint64_t bytes_max) {
    RequestParser parser;
    REQUIRE(parser.parse_head(request, HeadLimits{}, head, table).complete());
    parser.bound_body(bytes_max);
    std::size_t at = 0;
    while (true) {
      const BodyStep step = parser.feed_body(std::span(body).subspan(at), pieces);
      at += step.consumed;
      if (step.refused()) return static_cast<int>(step.http_status);
      if (step.done()) return 200;
      if (at == body.size()) return 0;
    }
  };
  static const std::string kLength = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n";
  CHECK(feed(kLength, "0123456789", 10) == 200);
  CHECK(feed(kLength, "0", 9) == 413);
  CHECK(feed(kChunked, "5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n", 10) == 200);
  CHECK(feed(kChunked, "5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n", 9) == 413);
  CHECK(feed(kChunked, "7fffffffffffffff\r\nx", 1 << 20) == 413);
  CHECK(feed(kChunked, "7fffffffffffffff\r\nx", BodyDecoder::kNoBound) == 0);
  CHECK(feed(kChunked, "1;" + std::string(256, 'x') + "\r\na\r\n0\r\n\r\n", 10) == 200);
  CHECK(feed(kChunked, "1;" + std::string(257, 'x') + "\r\na\r\n0\r\n\r\n", 10) == 400);
  std::string extended;
  for (int i = 0; i < 70; ++i)
    extended += "1;" + std::string(250, 'x') + "\r\na\r\n";
  CHECK(feed(kChunked, extended + "0\r\n\r\n", 1000) == 400);
  CHECK(feed(kChunked, "0\r\nX: " + std::string(8000, 'x') + "\r\n\r\n", 10) == 200);
  CHECK(feed(kChunked, "0\r\nX: " + std::string(9000, 'x') + "\r\n\r\n", 10) == 400);
  std::string trailers;
  for (int i = 0; i < 64; ++i)
    trailers += "A: b\r\n";
  CHECK(feed(kChunked, "0\r\n" + trailers + "\r\n", 10) == 200);
  CHECK(feed(kChunked, "0\r\n" + trailers + "A: b\r\n\r\n", 10) == 400);
}

TEST_CASE("a refusal says what is wrong with the head") {
  const auto why = [](std::string_view fields) {
    const std::string text = "POST / HTTP/1.1\r\nHost: a\r\n" + std::string(fields) + "\r\n\r\n";
    HeaderTable table;
    RequestHead head;
    RequestParser parser;
    const HeadResult result = parser.parse_head(text, HeadLimits{}, head, table);
    CHECK(result.http_status == 400);
    return std::string(result.reason);
  };
  CHECK(why("Content-Length: 1\r\nTransfer-Encoding: chunked").find("Content-Length") != std::string::npos);
  CHECK(why("Bad Name: x").find("header token") != std::string::npos);
  CHECK(why("Content-Length: 1\r\nContent-Length: 1").find("Content-Length") != std::string::npos);
}

TEST_CASE("a head in many reads is looked at once") {
  // 60,000 reads of one byte; quadratic scanning would take 1.8 billion steps.
  const std::string bytes = "GET / HTTP/1.1\r\nHost: a\r\nX: " + std::string(60000, 'x') + "\r\n\r\n";
  HeaderTable table;
  RequestHead head;
  RequestParser parser;
  HeadResult result;
  for (std::size_t i = 1; i <= bytes.size(); ++i) {
    result = parser.parse_head(std::span(bytes).first(i), HeadLimits{}, head, table);
  }
  CHECK(result.complete());
}

TEST_CASE("views follow the bytes when these move") {
  const std::string bytes = "GET http://h HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n";
  HeaderTable table;
  RequestHead head;
  RequestParser parser;
  std::string moved;
  {
    const auto copy = exact(bytes);
    REQUIRE(parser.parse_head({copy.get(), bytes.size()}, HeadLimits{}, head, table).complete());
    moved = bytes;
    const std::string_view from(copy.get(), bytes.size());
    head.rebase(from, moved.data());
    table.rebase(from, moved.data());
  }
  CHECK(head.method_text == "GET");
  CHECK(head.target == "/");  // not in the bytes at all
  CHECK(head.authority.data() == moved.data() + bytes.find("h\r\nConn"));
  CHECK(head.upgrade_protocol == "foo");
  CHECK(table.value(HeaderName::connection) == "upgrade");
  CHECK(table.headers()[2].name == "Upgrade");
}

TEST_CASE("a parser is small") {
  CHECK(sizeof(BodyDecoder) <= 40);
  CHECK(sizeof(RequestParser) <= 48);
  CHECK(sizeof(ResponseParser) <= 48);
}

}  // namespace perigee::http
