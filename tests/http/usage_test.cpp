#include "perigee/http/usage.h"

#include <string>

#include <doctest/doctest.h>

using namespace perigee::http;

TEST_CASE("usage: nothing where nothing is said, or only in a text") {
  CHECK_FALSE(read_usage(""));
  CHECK_FALSE(read_usage(R"({"choices":[]})"));
  CHECK_FALSE(read_usage(R"({"content":"he said \"total_tokens\": 5"})"));
  CHECK_FALSE(read_usage(R"({"total_tokens":null})"));
  CHECK_FALSE(read_usage(R"({"total_tokens":-3})"));
  CHECK_FALSE(read_usage(R"({"total_tokens":99999999999999999999})"));
  CHECK_FALSE(read_usage(R"({"prompt_tokens":5)"));
}

TEST_CASE("usage: in OpenAI's words and in ORBIT's, with blanks and without") {
  const auto openai = read_usage(R"(,"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}})");
  REQUIRE(openai);
  CHECK(openai->total == 18);
  CHECK(openai->output == 7);
  const auto orbit = read_usage(
      R"("metadata":{"usage":{},"prompt_tokens": 3, "completion_tokens" : 4},"assistant_message_id":"x","model":"m"})");
  REQUIRE(orbit);
  CHECK(orbit->total == 7);
  // The last one counts, and a text behind it changes nothing.
  const auto last = read_usage(R"({"total_tokens":1} {"total_tokens":2} {"text":"\"total_tokens\":9"})");
  REQUIRE(last);
  CHECK(last->total == 2);
  CHECK_FALSE(last->output);
}

TEST_CASE("the tail of a body in any pieces") {
  std::string body;
  for (int i = 0; i < 3000; ++i) body += static_cast<char>('a' + i % 26);
  for (const std::size_t step : {1U, 7U, 100U, 1023U, 1024U, 5000U}) {
    BodyTail tail;
    for (std::size_t at = 0; at < body.size(); at += step) tail.see(std::string_view(body).substr(at, step));
    CHECK(tail.text().size() >= 1024);
    CHECK(tail.text().size() <= 2048);
    CHECK(body.ends_with(tail.text()));
  }
  BodyTail short_one;
  short_one.see("abc");
  CHECK(short_one.text() == "abc");
}
