// Every response case, whole, byte by byte, and split at every place.
#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include "cases_response.h"
#include "perigee/http/parser.h"

namespace perigee::http {
namespace {

std::string summarise(const ResponseHead& head) {
  std::string text = std::to_string(head.status);
  text.append(" ").append(head.reason).append(head.version_minor == 1 ? "|1|" : "|0|");
  text.append(head.keep_alive ? "keep|" : "close|");
  switch (head.framing) {
    case Framing::none: text.append("none"); break;
    case Framing::length: text.append("length"); break;
    case Framing::chunked: text.append("chunked"); break;
    case Framing::until_close: text.append("until close"); break;
  }
  if (head.has_content_length) text.append(" ").append(std::to_string(head.content_length));
  return text.append(head.event_stream ? "|e|" : "|-|");
}

std::unique_ptr<char[]> exact(std::string_view bytes) {
  auto copy = std::make_unique<char[]>(bytes.size() + (bytes.empty() ? 1 : 0));
  bytes.copy(copy.get(), bytes.size());
  return copy;
}

std::string run(const ResponseCase& test, const std::vector<std::size_t>& ends) {
  static HeaderTable table;
  Expected expected;
  if (test.asked == 'H') expected.method = Method::head;
  if (test.asked == 'W') expected.upgrade_protocol = "websocket";
  ResponseParser parser;
  std::string text;
  bool in_body = false;
  bool done = false;
  std::size_t at = 0;
  for (const std::size_t end : ends) {
    while (!in_body) {
      const auto copy = exact(test.bytes.substr(at, end - at));
      ResponseHead head;
      const HeadResult result =
          parser.parse_head({copy.get(), end - at}, HeadLimits{}, expected, head, table);
      if (result.refused()) {
        CHECK(result.http_status == 502);
        return "";
      }
      if (!result.complete()) break;
      text += summarise(head);
      at += result.consumed;
      in_body = !head.interim();
    }
    if (!in_body) continue;
    std::string_view pieces[3];
    while (!done) {
      const auto copy = exact(test.bytes.substr(at, end - at));
      const BodyStep step = parser.feed_body({copy.get(), end - at}, pieces);
      for (std::size_t i = 0; i < step.pieces; ++i)
        text += pieces[i];
      at += step.consumed;
      if (step.refused()) {
        CHECK(step.http_status == 502);
        return "";
      }
      done = step.done();
      if (at == end) break;
    }
  }
  if (done) return at < test.bytes.size() ? text + "+" + std::to_string(test.bytes.size() - at) : text;
  if (!test.end) return "...";
  switch (parser.finish()) {
    case ResponseEnd::complete: return text;
    case ResponseEnd::cut: return text + " cut";
    case ResponseEnd::nothing: return "nothing";
  }
  return "?";
}

}  // namespace

TEST_CASE("response cases, whole") {
  for (const ResponseCase& test : kResponseCases) {
    CAPTURE(test.rule);
    CHECK(run(test, {test.bytes.size()}) == test.expect);
  }
  CHECK(std::size(kResponseCases) >= 80);
}

TEST_CASE("response cases, byte by byte and split in two at every place") {
  for (const ResponseCase& test : kResponseCases) {
    CAPTURE(test.rule);
    std::vector<std::size_t> ends;
    for (std::size_t i = 1; i <= test.bytes.size(); ++i)
      ends.push_back(i);
    CHECK(run(test, ends) == test.expect);
    for (std::size_t i = 1; i < test.bytes.size(); ++i) {
      CAPTURE(i);
      CHECK(run(test, {i, test.bytes.size()}) == test.expect);
    }
  }
}

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
