#include "perigee/http/conversation.h"

#include <doctest/doctest.h>

#include <string>

namespace perigee::http {
namespace {

ConversationStart of(const std::string& body) {
  const std::string_view look = body;
  return conversation_start(look);
}

const std::string kTurn = R"({"model":"m","messages":[{"role":"system","content":"be brief"},{"content":"hi \"you\"","role":"user"},)"
                          R"({"role":"assistant","content":"yes?"},{"role":"user","content":"more"}],"stream":true,"user":"ann"})";

}  // namespace

TEST_CASE("conversation: its first system and user message, and whom the caller speaks for") {
  const ConversationStart start = of(kTurn);
  CHECK(start.system == "\"be brief\"");
  CHECK(start.user == R"("hi \"you\"")");
  CHECK(start.person == "\"ann\"");
}

TEST_CASE("conversation: a later turn begins as the first one did") {
  const std::string first = R"({"messages": [ {"role": "user", "content": "hello"} ], "stream": true})";
  const std::string later = R"({"messages": [ {"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"},)"
                            R"( {"role": "system", "content": "late"}, {"role": "user", "content": "and?"} ]})";
  CHECK(of(first).user == "\"hello\"");
  CHECK(of(later).user == "\"hello\"");
  CHECK(of(later).system.empty());  // it came after: the first turn could not have had it
}

TEST_CASE("conversation: content of parts counts as it is written; odd shapes say nothing") {
  CHECK(of(R"({"messages":[{"role":"user","content":[{"type":"text","text":"a, ] }"}]}]})").user == R"([{"type":"text","text":"a, ] }"}])");
  for (const char* odd : {"", "[]", "null", "\"messages\"", "{", R"({"messages":{"role":"user","content":"x"}})", R"({"messages":["user"]})",
                          R"({"a":{"messages":[{"role":"user","content":"x"}]}})", R"({"messages":[{"role":"user"}]})"}) {
    CAPTURE(odd);
    CHECK(of(odd).user.empty());
    CHECK(of(odd).system.empty());
  }
}

TEST_CASE("conversation: long texts are cut, and nothing behind the look makes a difference") {
  const std::string many(10'000, 'x');
  const std::string body = R"({"messages":[{"role":"system","content":")" + many + R"("},{"role":"user","content":"q"}]})";
  CHECK(of(body).system.size() == kConversationText);
  CHECK(of(body).user == "\"q\"");
  std::string beyond = R"({"messages":[{"role":"system","content":")" + std::string(70'000, 'y') + R"("},{"role":"user","content":"q"}]})";
  const ConversationStart whole = of(beyond);
  beyond.resize(kConversationLook);
  CHECK(whole.system == of(beyond).system);
  CHECK(whole.user == of(beyond).user);
  CHECK(whole.system.size() == kConversationText);
  CHECK(whole.user.empty());
}

TEST_CASE("conversation: any cut and any damaged byte is read to its end without harm") {
  for (std::size_t n = 0; n <= kTurn.size(); ++n) {
    const std::string cut = kTurn.substr(0, n);
    static_cast<void>(of(cut));
    for (const char damage : {'"', '\\', '{', ']', ',', '\0'}) {
      std::string damaged = kTurn;
      if (n < damaged.size()) damaged[n] = damage;
      static_cast<void>(of(damaged));
    }
  }
  const std::string deep(60'000, '[');
  CHECK(of(R"({"messages":)" + deep).user.empty());
  CHECK(of(R"({"x":)" + deep + R"(,"user":"a"})").person.empty());
}

}  // namespace perigee::http
