// What the cases of conformance_test.cpp do not show of the response parser: its bounds, and its reuse.
#include <doctest/doctest.h>

#include <string>

#include "perigee/http/parser.h"

namespace perigee::http {
TEST_CASE("an answer's head has its bounds") {
  HeaderTable table;
  ResponseHead head;
  HeadLimits limits;
  limits.head_bytes_max = 200;
  limits.headers_max = 3;
  const auto parse = [&](const std::string& bytes) {
    ResponseParser parser;
    return parser.parse_head(bytes, limits, Expected{}, head, table).status;
  };
  using Status = HeadResult::Status;
  CHECK(parse("HTTP/1.1 200 OK\r\nA: b\r\nC: d\r\nE: f\r\n\r\n") == Status::head);
  CHECK(parse("HTTP/1.1 200 OK\r\nA: b\r\nC: d\r\nE: f\r\nG: h\r\n\r\n") == Status::refused);
  CHECK(parse("HTTP/1.1 200 OK\r\nA: " + std::string(300, 'x') + "\r\n\r\n") == Status::refused);
  CHECK(parse("HTTP/1.1 200 OK\r\nA: " + std::string(300, 'x')) == Status::refused);
  CHECK(parse("HTTP/1.1 200 OK\r\nA: " + std::string(100, 'x')) == Status::need_more);
}

TEST_CASE("one parser for the answers of a kept connection") {
  HeaderTable table;
  ResponseHead head;
  ResponseParser parser;
  std::string_view pieces[2];
  static constexpr std::string_view kAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
  for (int i = 0; i < 3; ++i) {
    const HeadResult result = parser.parse_head(kAnswer, HeadLimits{}, Expected{}, head, table);
    REQUIRE(result.complete());
    CHECK(parser.finish() == ResponseEnd::cut);
    CHECK(parser.feed_body(std::span(kAnswer).subspan(result.consumed), pieces).done());
    CHECK(parser.finish() == ResponseEnd::complete);
    parser.reset();
    CHECK(parser.finish() == ResponseEnd::nothing);
    CHECK(parser.finish(1) == ResponseEnd::cut);
  }
}

}  // namespace perigee::http
