// What Perigee says itself: well-formed for our own reader, in the shape of the API, with no way to break out.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "perigee/http/error_body.h"
#include "perigee/http/parser.h"

namespace perigee::http {

using namespace std::string_literals;

namespace {

struct Answer {
  ResponseHead head;
  HeaderTable table;
  std::string bytes;
  std::string body;
  std::string field(HeaderName id) const { return std::string(table.value(id)); }
};

void answer(const ErrorContext& context, Answer& read, bool head_request = false) {
  ByteBuffer out;
  out.append("before");  // it appends
  write_error(out, context);
  REQUIRE(out.view().starts_with("before"));
  read.bytes = std::string(out.view().substr(6));
  ResponseParser parser;
  Expected expected;
  if (head_request) expected.method = Method::head;
  const HeadResult result = parser.parse_head(read.bytes, HeadLimits{}, expected, read.head, read.table);
  REQUIRE(result.complete());
  read.body = read.bytes.substr(result.consumed);
}

}  // namespace

TEST_CASE("every reason: status, words, body") {
  static constexpr std::uint16_t kStatus[kReasonCount] = {400, 408, 413, 403, 429, 502, 503,
                                                          503, 503, 503, 503, 503, 504};
  for (std::size_t i = 0; i < kReasonCount; ++i) {
    const auto reason = static_cast<Reason>(i);
    CAPTURE(to_string(reason));
    CHECK(default_status(reason) == kStatus[i]);
    CHECK_FALSE(status_text(kStatus[i]).empty());
    for (const ErrorShape shape : {ErrorShape::fastapi, ErrorShape::openai}) {
      ErrorContext context;
      context.reason = reason;
      context.shape = shape;
      context.request_id = "id-1";
      context.date = "Thu, 01 Jan 1970 00:00:00 GMT";
      Answer read;
      answer(context, read);
      CHECK(read.head.status == kStatus[i]);
      CHECK(read.head.content_length == read.body.size());
      CHECK(read.head.keep_alive);
      CHECK(read.field(HeaderName::x_perigee_reason) == to_string(reason));
      CHECK(read.field(HeaderName::x_request_id) == "id-1");
      CHECK(read.field(HeaderName::content_type) == "application/json");
      CHECK_FALSE(read.table.has(HeaderName::retry_after));
      const auto json = nlohmann::json::parse(read.body);
      if (shape == ErrorShape::fastapi) {
        CHECK(json["detail"] == std::string(default_message(reason)));
      } else {
        CHECK(json["error"]["message"] == std::string(default_message(reason)));
        CHECK(json["error"]["code"] == std::string(to_string(reason)));
        CHECK(json["error"]["param"].is_null());
        CHECK(json["error"]["type"] == (kStatus[i] == 429  ? "rate_limit_error"
                                        : kStatus[i] < 500 ? "invalid_request_error"
                                                           : "server_error"));
      }
    }
  }
}

TEST_CASE("the optional parts") {
  ErrorContext context;
  context.reason = Reason::queue_full;
  context.retry_after_s = 7;
  context.extra = "Access-Control-Allow-Origin: *\r\n";
  context.close = true;
  Answer read;
  answer(context, read);
  CHECK(read.field(HeaderName::retry_after) == "7");
  CHECK(read.field(HeaderName::allow_origin) == "*");
  CHECK_FALSE(read.head.keep_alive);
  CHECK_FALSE(read.table.has(HeaderName::x_request_id));

  context = ErrorContext{};
  context.status = 405;
  context.message = "CONNECT is not served";
  answer(context, read);
  CHECK(read.head.status == 405);
  CHECK(read.bytes.find("Allow: GET") != std::string::npos);
  CHECK(read.body == "{\"detail\":\"CONNECT is not served\"}");

  context = ErrorContext{};
  context.head = true;
  context.keep_alive_1_0 = true;
  answer(context, read, true);
  CHECK(read.body.empty());
  CHECK(read.head.content_length > 0);
  CHECK(read.field(HeaderName::connection) == "keep-alive");
}

TEST_CASE("text cannot break out of its quotes") {
  ErrorContext context;
  const std::string evil = "a\"b\\c\r\n\0\x1b\x7f</script>"s + "\xE2\x82\xAC";
  context.message = evil;
  Answer read;
  answer(context, read);
  CHECK(nlohmann::json::parse(read.body)["detail"] == evil);
  ByteBuffer out;
  append_json_string(out, "aaa\xE2\x82\xAC", 5);
  CHECK(out.view() == "\"aaa\"");  // not half a character
}

TEST_CASE("shapes by path") {
  CHECK(error_shape("/v1/chat/completions") == ErrorShape::openai);
  CHECK(error_shape("/v1/models") == ErrorShape::openai);
  CHECK(error_shape("/v1/models/x") == ErrorShape::openai);
  CHECK(error_shape("/v1/embeddings") == ErrorShape::openai);
  CHECK(error_shape("/v1/modelsx") == ErrorShape::fastapi);
  CHECK(error_shape("/v1/chat") == ErrorShape::fastapi);
  CHECK(error_shape("/health") == ErrorShape::fastapi);
}

TEST_CASE("statuses of the parsers have their reasons") {
  CHECK(reason_for_status(400) == Reason::bad_request);
  CHECK(reason_for_status(405) == Reason::bad_request);
  CHECK(reason_for_status(417) == Reason::bad_request);
  CHECK(reason_for_status(505) == Reason::bad_request);
  CHECK(reason_for_status(413) == Reason::too_large);
  CHECK(reason_for_status(414) == Reason::too_large);
  CHECK(reason_for_status(431) == Reason::too_large);
  CHECK(reason_for_status(502) == Reason::upstream_failed);
}

TEST_CASE("the event that ends an OpenAI-shaped stream") {
  ByteBuffer out;
  write_sse_error(out, SseDialect::openai, Reason::upstream_failed);
  const std::string text(out.view());
  REQUIRE(text.starts_with("data: {"));
  REQUIRE(text.ends_with("}\n\n"));
  CHECK(text.find('\n') == text.size() - 2);
  const auto json = nlohmann::json::parse(text.substr(6));
  CHECK(json["error"]["code"] == "upstream_failed");
}

TEST_CASE("the same in the words of other dialects") {
  ByteBuffer orbit;
  write_sse_error(orbit, SseDialect::orbit_chat, Reason::upstream_failed, "a \"quote\"");
  CHECK(orbit.view() == "data: {\"error\": \"a \\\"quote\\\"\", \"done\": true}\n\n");
  ByteBuffer other;
  write_sse_error(other, SseDialect::generic, Reason::upstream_timeout);
  CHECK(other.view().starts_with("event: error\ndata: {"));
}

}  // namespace perigee::http
