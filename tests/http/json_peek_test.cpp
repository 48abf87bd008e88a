// The look into JSON bodies: what is found, what is not, and that nothing goes wrong with what is broken.
#include <doctest/doctest.h>

#include <array>
#include <memory>
#include <string>

#include "perigee/base/random.h"
#include "perigee/http/json_peek.h"

namespace perigee::http {
namespace {

Tristate stream_of(const std::string& body, bool whole = true) {
  return peek_json(body, whole).stream;
}

}  // namespace

TEST_CASE("stream, in every form that is read as a bool") {
  CHECK(stream_of(R"({"messages": [{"role": "user", "content": "hi"}], "stream": true})") == Tristate::yes);
  CHECK(stream_of(R"({"stream":false})") == Tristate::no);
  CHECK(stream_of(R"({"stream" :
     true })") == Tristate::yes);
  CHECK(stream_of(R"({"a":1})") == Tristate::unknown);
  CHECK(stream_of(R"({"stream": 1})") == Tristate::yes);
  CHECK(stream_of(R"({"stream": 0.0})") == Tristate::no);
  CHECK(stream_of(R"({"stream": "Yes"})") == Tristate::yes);
  CHECK(stream_of(R"({"stream": "off"})") == Tristate::no);
  CHECK(stream_of(R"({"stream": "\u0074rue"})") == Tristate::yes);
  CHECK(stream_of(R"({"stream": null})") == Tristate::unknown);
  CHECK(stream_of(R"({"stream": [true]})") == Tristate::unknown);
  CHECK(stream_of(R"({"stream": 2})") == Tristate::unknown);
  CHECK(stream_of(R"({"\u0073tream": true})") == Tristate::yes);
  CHECK(stream_of("\xEF\xBB\xBF{\"stream\": true}") == Tristate::yes);
}

TEST_CASE("only at the top, and not in text") {
  CHECK(stream_of(R"({"a": {"stream": true}})") == Tristate::unknown);
  CHECK(stream_of(R"({"params": {"stream": true}})") == Tristate::unknown);
  CHECK(stream_of(R"({"a": [{"stream": true}]})") == Tristate::unknown);
  CHECK(stream_of(R"({"a": "\"stream\": true"})") == Tristate::unknown);
  CHECK(stream_of(R"({"a": "\\", "stream": true})") == Tristate::yes);
  CHECK(stream_of(R"({"a": {"b": {}}, "c": [], "stream": true, "d": [[{}]]})") == Tristate::yes);
  CHECK(stream_of(R"([{"stream": true}])") == Tristate::unknown);
  CHECK(stream_of(R"("stream")") == Tristate::unknown);
  CHECK(stream_of(R"({"Stream": true})") == Tristate::unknown);
}

TEST_CASE("of repeated names the last counts") {
  CHECK(stream_of(R"({"stream": true, "stream": false})") == Tristate::no);
  CHECK(stream_of(R"({"stream": true, "\u0073tream": false})") == Tristate::no);
  CHECK(stream_of(R"({"stream": true, "stream": null})") == Tristate::unknown);
  CHECK(stream_of(R"({"stream": true, "stream": {}})") == Tristate::unknown);
  CHECK(peek_json(R"({"model": "a", "model": "b"})", true).model.raw == "b");
  CHECK_FALSE(peek_json(R"({"model": "a", "model": 1})", true).model.found);
  CHECK_FALSE(peek_json(R"({"params": {"id": "a"}, "params": {}})", true).params_id.found);
}

TEST_CASE("the other fields") {
  const JsonPeek stop =
      peek_json(R"({"session_id": "s-1", "request_id": "f7d7a6f4-9a04-4b57-b203-c2fb507f0ade"})", true);
  CHECK(stop.valid);
  CHECK(stop.session_id.raw == "s-1");
  CHECK(stop.request_id.raw == "f7d7a6f4-9a04-4b57-b203-c2fb507f0ade");
  const JsonPeek task = peek_json(
      R"({"jsonrpc": "2.0", "id": 2, "method": "tasks/sendSubscribe", "params": {"message": {"id": "no"}, "id": "task-2"}})",
      true);
  CHECK(task.method.raw == "tasks/sendSubscribe");
  CHECK(task.params_id.raw == "task-2");
  CHECK_FALSE(
      peek_json(R"({"id": "x", "other": {"id": "y"}, "params": [{"id": "z"}]})", true).params_id.found);
  const JsonPeek escaped = peek_json(R"({"model": "a\u002fb\n\ud83d\ude00"})", true);
  CHECK(escaped.model.escaped);
  std::array<char, 32> buffer{};
  CHECK(unescape_json(escaped.model.raw, buffer) == "a/b\n\xF0\x9F\x98\x80");
  CHECK_FALSE(peek_json("{\"model\": \"" + std::string(257, 'm') + "\"}", true).model.found);
  CHECK(peek_json("{\"model\": \"" + std::string(256, 'm') + "\"}", true).model.found);
}

TEST_CASE("unescape: broken or too long is empty") {
  std::array<char, 4> buffer{};
  CHECK(unescape_json("abcd", buffer) == "abcd");
  CHECK(unescape_json("abcde", buffer).empty());
  CHECK(unescape_json("\\", buffer).empty());
  CHECK(unescape_json("\\x", buffer).empty());
  CHECK(unescape_json("\\u12", buffer).empty());
  CHECK(unescape_json("\\u00zz", buffer).empty());
}

TEST_CASE("broken JSON tells nothing, and never fails") {
  for (const std::string body : {"",
                                 " ",
                                 "{",
                                 "}",
                                 "{\"stream\"",
                                 "{\"stream\":",
                                 "{\"stream\": tru",
                                 "{\"stream\": true",
                                 "{\"stream\": true,}",
                                 "{\"stream\": true]",
                                 "{\"stream\": true}}",
                                 "{\"stream\": true} x",
                                 "{stream: true}",
                                 "{'stream': true}",
                                 "{\"stream\" true}",
                                 "{\"stream\": true \"a\": 1}",
                                 "{,\"stream\": true}",
                                 "{\"a\": [1,], \"stream\": true}",
                                 "{\"a\": \"\x01\", \"stream\": true}",
                                 "{\"a\": \"\n\", \"stream\": true}",
                                 "{\"a\": nul, \"stream\": true}",
                                 "{\"a\": , \"stream\": true}",
                                 "{1: 2, \"stream\": true}",
                                 "[\"stream\", true",
                                 "{\"stream\": truefalse}"}) {
    CAPTURE(body);
    const JsonPeek peek = peek_json(body, true);
    CHECK(peek.stream == Tristate::unknown);
    CHECK_FALSE(peek.valid);
  }
}

TEST_CASE("a prefix tells what it holds") {
  CHECK(stream_of(R"({"stream": true, "messages": [{"content": "abc)", false) == Tristate::yes);
  CHECK(peek_json(R"({"stream": true, "messages": [{"content": "abc)", false).truncated);
  CHECK(stream_of(R"({"stream": tru)", false) == Tristate::unknown);
  CHECK(stream_of(R"({"stream": 1)", false) == Tristate::unknown);  // it may become 10
  // The field comes last, just within the bound, and just not.
  const std::string text = R"({"m": "")";
  for (const int over : {0, 1}) {
    const std::string tail = R"(, "stream": true})";
    const std::size_t room = kJsonPeekBytes - text.size() - tail.size() + 1;
    std::string body =
        R"({"m": ")" + std::string(room - 1 + static_cast<std::size_t>(over) * 2, 'x') + "\"" + tail;
    CHECK(body.size() == kJsonPeekBytes + static_cast<std::size_t>(over) * 2);
    CHECK(stream_of(body) == (over == 0 ? Tristate::yes : Tristate::unknown));
    CHECK(peek_json(body, true).valid);
  }
}

TEST_CASE("depth and numbers are bounded") {
  const std::string opened(63, '[');
  const std::string closed(63, ']');
  CHECK(stream_of("{\"a\": " + opened + closed + ", \"stream\": true}") == Tristate::yes);
  CHECK(stream_of("{\"a\": [" + opened + closed + "], \"stream\": true}") == Tristate::unknown);
  CHECK(stream_of("{\"a\": " + std::string(40000, '[')) == Tristate::unknown);
  CHECK(stream_of("{\"a\": " + std::string(64, '1') + ", \"stream\": true}") == Tristate::yes);
  CHECK(stream_of("{\"a\": " + std::string(65, '1') + ", \"stream\": true}") == Tristate::unknown);
}

TEST_CASE("every prefix and every damaged byte of a body is survived") {
  const std::string body =
      R"({"messages": [{"role": "user", "content": "a \"quoted\" \\ text"}], "model": "m\u00e9", "params": {"id": "x"}, "stream": true})";
  const auto look = [](const std::string& bytes, bool whole) {
    const auto copy = std::make_unique<char[]>(bytes.size() + (bytes.empty() ? 1 : 0));
    bytes.copy(copy.get(), bytes.size());
    return peek_json({copy.get(), bytes.size()}, whole).stream;
  };
  for (std::size_t n = 0; n < body.size(); ++n) {
    CHECK(look(body.substr(0, n), true) == Tristate::unknown);
    look(body.substr(0, n), false);
  }
  Rng rng(3);
  for (int i = 0; i < 20000; ++i) {
    std::string damaged = body;
    for (std::uint32_t k = 0; k <= rng.below(3); ++k) {
      damaged[rng.below(static_cast<std::uint32_t>(body.size()))] = static_cast<char>(rng.below(256));
    }
    look(damaged, (i & 1) == 0);
  }
  CHECK(look(body, true) == Tristate::yes);
}

}  // namespace perigee::http
