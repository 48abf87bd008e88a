// Streams as ORBIT sends them (recorded in tests/data/orbit/traces), whole and in every kind of pieces.
#include <doctest/doctest.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "perigee/base/random.h"
#include "perigee/http/parser.h"
#include "perigee/http/sse.h"

namespace perigee::http {
namespace {

struct Watched {
  SseVerdict verdict = SseVerdict::unterminated;
  bool output = false;
  bool terminal = false;
  bool boundary = false;
  int first_outputs = 0;
  int terminals = 0;
  std::size_t first_output_at = 0;  // bytes fed when it was told
  bool operator==(const Watched&) const = default;
};

Watched watch(SseDialect dialect, std::string_view text, std::size_t step,
              std::string* request_id = nullptr) {
  SseScanner scanner(dialect);
  Watched watched;
  for (std::size_t at = 0; at < text.size(); at += step) {
    const SseScanner::Seen seen = scanner.feed(text.substr(at, step));
    if (seen.first_output) {
      ++watched.first_outputs;
      watched.first_output_at = at;
    }
    watched.terminals += seen.terminal ? 1 : 0;
    if (request_id != nullptr && !seen.request_id.empty()) *request_id = seen.request_id;
  }
  watched.verdict = scanner.verdict();
  watched.output = scanner.had_output();
  watched.terminal = scanner.had_terminal();
  watched.boundary = scanner.at_boundary();
  return watched;
}

// The same whichever way the bytes are cut.
Watched watch(SseDialect dialect, const std::string& text) {
  const Watched whole = watch(dialect, text, text.size() + 1);
  for (const std::size_t step : {1UL, 2UL, 3UL, 7UL, 16UL, 17UL}) {
    Watched cut = watch(dialect, text, step);
    cut.first_output_at = whole.first_output_at;
    CAPTURE(step);
    CHECK(cut == whole);
  }
  for (std::size_t i = 1; i < text.size(); ++i) {
    SseScanner scanner(dialect);
    scanner.feed(std::string_view(text).substr(0, i));
    scanner.feed(std::string_view(text).substr(i));
    CHECK(scanner.verdict() == whole.verdict);
    CHECK(scanner.had_output() == whole.output);
  }
  return whole;
}

// The decoded body of a recorded answer; the answer must be well-formed on the way.
std::string recorded(const std::string& name, ResponseHead& head) {
  std::ifstream file(std::string(PERIGEE_TEST_DATA) + "/orbit/traces/" + name + ".http", std::ios::binary);
  REQUIRE(file.good());
  std::stringstream text;
  text << file.rdbuf();
  const std::string bytes = text.str();
  const std::string marker = "=== response (bytes as received) ===\n";
  const std::string answer = bytes.substr(bytes.find(marker) + marker.size());
  HeaderTable table;
  ResponseParser parser;
  Expected expected;
  if (bytes.starts_with("HEAD")) expected.method = Method::head;
  const HeadResult result = parser.parse_head(answer, HeadLimits{}, expected, head, table);
  REQUIRE(result.complete());
  std::vector<std::string_view> pieces(64);
  const BodyStep step = parser.feed_body(std::span(answer).subspan(result.consumed), pieces);
  CHECK(step.done());
  CHECK(result.consumed + step.consumed == answer.size());
  std::string body;
  for (std::size_t i = 0; i < step.pieces; ++i)
    body.append(pieces[i]);
  return body;
}

constexpr const char* kIdEvent = "data: {\"request_id\": \"1dceb20e-3253-4ae5-b2a3-6e91347849e5\"}\n\n";

std::string chunk(const std::string& delta, const std::string& finish = "null") {
  return "data: {\"id\": \"chatcmpl-1\", \"object\": \"chat.completion.chunk\", \"choices\": [{\"index\": 0, "
         "\"delta\": " +
         delta + ", \"finish_reason\": " + finish +
         ", \"logprobs\": null}], \"system_fingerprint\": \"x\"}\n\n";
}
constexpr const char* kDone = "data: [DONE]\n\n";

}  // namespace

TEST_CASE("recorded streams") {
  struct Recorded {
    const char* name;
    SseDialect dialect;
    SseVerdict verdict;
    bool output;
    bool terminal;
  };
  using enum SseDialect;
  using enum SseVerdict;
  for (const Recorded& test : {
           Recorded{"chat-stream", orbit_chat, completed, true, true},
           Recorded{"chat-stream-stopped", orbit_chat, unterminated, true, false},
           Recorded{"completions-stream", openai, completed, true, true},
           Recorded{"upstream-401-chat-stream", orbit_chat, unterminated, true, false},
           Recorded{"upstream-500-chat-stream", orbit_chat, unterminated, true, false},
           Recorded{"upstream-drop-chat-stream", orbit_chat, unterminated, true, false},
           Recorded{"upstream-429-completions-stream", openai, unterminated, true, true},
           Recorded{"upstream-drop-completions-stream", openai, unterminated, true, true},
           Recorded{"err-unknown-model-chat-stream", orbit_chat, failed, false, true},
           Recorded{"err-unknown-model-completions-stream", openai, failed, false, true},
           Recorded{"err-empty-message-stream", orbit_chat, failed, false, true},
           Recorded{"a2a-subscribe", generic, completed, true, false},
       }) {
    CAPTURE(test.name);
    ResponseHead head;
    const std::string body = recorded(test.name, head);
    CHECK(head.event_stream);
    const Watched watched = watch(test.dialect, body);
    CHECK(watched.verdict == test.verdict);
    CHECK(watched.output == test.output);
    CHECK(watched.terminal == test.terminal);
    CHECK(watched.boundary);
    CHECK(watched.first_outputs == (test.output ? 1 : 0));
  }
  ResponseHead head;
  CHECK(recorded("chat-nonstream", head).starts_with("{\"response\""));
  CHECK_FALSE(head.event_stream);
  CHECK(recorded("head-health", head).empty());
  recorded("http10", head);
  CHECK_FALSE(head.keep_alive);
}

TEST_CASE("/v1/chat: the first event with output is neither the id nor a comment nor empty") {
  const std::string before =
      std::string(": hello\n\n") + kIdEvent + "data: {\"response\": \"\", \"done\": false}\n\n";
  CHECK_FALSE(watch(SseDialect::orbit_chat, before).output);
  const std::string token = "data: {\"response\": \"a\", \"done\": false}\n\n";
  const Watched watched = watch(SseDialect::orbit_chat, before + token, 1);
  CHECK(watched.first_output_at == before.size() + token.size() - 1);  // told when its event is complete
  CHECK(watch(SseDialect::orbit_chat, "data: {\"audio_chunk\": \"AAAA\", \"done\":false}\n\n").output);
  CHECK(watch(SseDialect::orbit_chat, "data:{\"response\":\"\\n\",\"done\":false}\n\n").output);
  CHECK_FALSE(watch(SseDialect::orbit_chat, "data: {\"response\": \"a\"").output);  // not complete
}

TEST_CASE("/v1/chat: the request id") {
  std::string id;
  watch(SseDialect::orbit_chat, kIdEvent, 1000, &id);
  CHECK(id == "1dceb20e-3253-4ae5-b2a3-6e91347849e5");
  std::string none;
  watch(SseDialect::orbit_chat, "data: {\"a\": {\"request_id\": \"x\"}}\n\n", 1000, &none);
  watch(SseDialect::openai, kIdEvent, 1000, &none);
  watch(SseDialect::orbit_chat, kIdEvent, 30, &none);  // cut within: not told
  CHECK(none.empty());
}

TEST_CASE("/v1/chat: only a true `done` at the top ends it") {
  using enum SseVerdict;
  const auto verdict = [](const std::string& text) { return watch(SseDialect::orbit_chat, text).verdict; };
  CHECK(verdict("data: {\"done\": true}\n\n") == completed);
  CHECK(verdict("data: {\"done\":true,\"model\":\"x\"}\n\n") == completed);
  CHECK(verdict("data: {\"done\":true}\r\n\r\n") == completed);
  CHECK(verdict("data: {\"done\":true}\r\r") == completed);
  CHECK(verdict("data: {\"done\": true}\n") == unterminated);
  CHECK(verdict("data: {\"done\": false}\n\n") == unterminated);
  CHECK(verdict("data: {\"done\": \"true\"}\n\n") == unterminated);
  CHECK(verdict("data: {\"a\": {\"done\": true}}\n\n") == unterminated);
  CHECK(verdict("data: {\"a\": [{\"done\": true}]}\n\n") == unterminated);
  CHECK(verdict("data: {\"response\": \"\\\"done\\\": true\", \"done\": false}\n\n") == unterminated);
  CHECK(verdict("data: {\"response\": \"{\\\"done\\\": true}\\n\\ndata: {\\\"done\\\": true}\", \"done\": "
                "false}\n\n") == unterminated);
  CHECK(verdict("data: {\"response\": \"\\\\\", \"done\": true}\n\n") == completed);
  CHECK(verdict(": {\"done\": true}\n\n") == unterminated);
  CHECK(verdict("event: x\ndata: {\"done\": true}\n\n") == completed);
  CHECK(verdict("id: {\"done\": true}\n\n") == unterminated);
  CHECK(verdict("database: {\"done\": true}\n\n") == unterminated);
  CHECK(verdict("data\n\ndata: {\"done\": true}\n\n") == completed);
  CHECK(verdict("data: {\"x\": 1,\ndata: \"done\": true}\n\n") == completed);  // one event on two lines
  CHECK(verdict("data: [DONE]\n\n") == unterminated);
  CHECK(verdict("data: {\"error\": \"x\", \"done\": true}\n\n") == failed);
  CHECK(verdict("data: {\"error\": null, \"done\": true}\n\n") == completed);
  CHECK(verdict("data: {\"image\": \"" + std::string(300, 'A') + "\", \"done\": true}\n\n") == completed);
  CHECK(verdict("") == unterminated);
}

TEST_CASE("completions: output, finish and [DONE]") {
  using enum SseVerdict;
  const auto verdict = [](const std::string& text) { return watch(SseDialect::openai, text).verdict; };
  const auto output = [](const std::string& text) { return watch(SseDialect::openai, text).output; };
  CHECK_FALSE(output(chunk("{\"role\": \"assistant\", \"content\": \"\"}")));
  CHECK_FALSE(output(chunk("{\"role\": \"assistant\"}")));
  CHECK_FALSE(output(chunk("{\"content\": null}")));
  CHECK_FALSE(output(chunk("{\"tool_calls\": []}")));
  CHECK_FALSE(output(chunk("{}", "\"stop\"")));
  CHECK_FALSE(output("data: {\"content\": \"x\", \"choices\": []}\n\n"));
  CHECK_FALSE(output(kDone));
  CHECK(output(chunk("{\"role\": \"assistant\", \"content\": \"alpha \"}")));
  CHECK(output(chunk("{\"content\":\"\\u00e9\"}")));
  CHECK(output(chunk("{\"reasoning_content\": \"hm\"}")));
  CHECK(output(chunk("{\"tool_calls\": [{\"index\": 0}]}")));
  CHECK(output("data: {\"choices\": [{\"text\": \"x\"}]}\n\n"));

  const std::string token = chunk("{\"content\": \"a\"}");
  CHECK(verdict(token + chunk("{}", "\"stop\"") + kDone) == completed);
  CHECK(verdict(token + chunk("{\"content\": \"a\"}", "\"length\"") + kDone) == completed);
  CHECK(verdict(token + kDone) == unterminated);
  CHECK(verdict(token + chunk("{}", "\"stop\"")) == unterminated);
  CHECK(verdict(token + chunk("{}", "\"error\"") + kDone) == failed);
  CHECK(verdict(token + chunk("{}", "\"errors\"") + kDone) == completed);
  CHECK(verdict(token + "data: {\"error\": {\"message\": \"x\"}}\n\n") == failed);
  CHECK(verdict(token + chunk("{}", "\"stop\"") + "data: [DONE\n\n") == unterminated);
  CHECK(verdict(token + chunk("{}", "\"stop\"") + "data: [DONE]]\n\n") == unterminated);
  CHECK(verdict(token + chunk("{}", "\"stop\"") + "data:[DONE]\n\n") == completed);
  CHECK(verdict(chunk("{\"content\": \"\\\"finish_reason\\\": \\\"stop\\\"\"}") + kDone) == unterminated);
  CHECK(verdict(chunk("{\"content\": \"a\", \"finish_reason\": \"stop\"}") + kDone) ==
        unterminated);  // not its place
  CHECK(verdict("data: {\"finish_reason\": \"stop\"}\n\n" + std::string(kDone)) == unterminated);
  CHECK(verdict(chunk("{\"content\": \"data: [DONE]\"}") + chunk("{}", "\"stop\"")) == unterminated);
}

TEST_CASE("where an event of ours could stand") {
  SseScanner scanner(SseDialect::openai);
  CHECK(scanner.at_boundary());
  scanner.feed("data: {\"a\"");
  CHECK_FALSE(scanner.at_boundary());
  scanner.feed(": 1}");
  CHECK_FALSE(scanner.at_boundary());
  scanner.feed("\n");
  CHECK_FALSE(scanner.at_boundary());
  scanner.feed("\n");
  CHECK(scanner.at_boundary());
  scanner.feed(": comment");
  CHECK_FALSE(scanner.at_boundary());
  scanner.feed("\n");
  CHECK(scanner.at_boundary());
  scanner.feed("event: x\n");
  CHECK_FALSE(scanner.at_boundary());
  scanner.feed("\r\n");
  CHECK(scanner.at_boundary());
}

TEST_CASE("a stream of nonsense is survived") {
  Rng rng(5);
  static constexpr std::string_view kLetters = "{}[]\":,\\\n\r dataonetrufchisp_0";
  for (const SseDialect dialect : {SseDialect::generic, SseDialect::orbit_chat, SseDialect::openai}) {
    for (int i = 0; i < 3000; ++i) {
      std::string text = "data: {";
      const std::uint32_t n = rng.below(200);
      for (std::uint32_t k = 0; k < n; ++k) {
        text += kLetters[rng.below(static_cast<std::uint32_t>(kLetters.size()))];
        if (rng.below(20) == 0) text += "\n\ndata: {\"choices\": [{";
        if (rng.below(40) == 0) text += std::string(rng.below(40), '{');
      }
      const Watched whole = watch(dialect, text, text.size());
      Watched cut = watch(dialect, text, 1);
      cut.first_output_at = whole.first_output_at;
      REQUIRE(cut == whole);
    }
  }
}

TEST_CASE("a scanner is small") {
  CHECK(sizeof(SseScanner) <= 64);
}

}  // namespace perigee::http
