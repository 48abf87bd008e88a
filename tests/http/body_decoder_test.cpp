// Our decoder of chunks against llhttp's: what ours takes, llhttp takes too, with the same data. Two readers
// that divide the same bytes differently are how requests are smuggled.
#include <doctest/doctest.h>
#include <llhttp.h>

#include <array>
#include <string>

#include "perigee/base/random.h"
#include "perigee/http/parser.h"

namespace perigee::http {
namespace {

struct Decoded {
  bool complete = false;
  std::string data;
  std::size_t used = 0;
};

Decoded by_llhttp(const std::string& body) {
  struct State {
    std::string data;
    bool complete = false;
  } state;
  llhttp_settings_t settings;
  llhttp_settings_init(&settings);
  settings.on_body = [](llhttp_t* parser, const char* at, std::size_t size) {
    static_cast<State*>(parser->data)->data.append(at, size);
    return 0;
  };
  settings.on_message_complete = [](llhttp_t* parser) {
    static_cast<State*>(parser->data)->complete = true;
    return static_cast<int>(HPE_PAUSED);
  };
  llhttp_t parser;
  llhttp_init(&parser, HTTP_REQUEST, &settings);
  parser.data = &state;
  static constexpr std::string_view kHead = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
  REQUIRE(llhttp_execute(&parser, kHead.data(), kHead.size()) == HPE_OK);
  const llhttp_errno_t error = llhttp_execute(&parser, body.data(), body.size());
  Decoded decoded;
  decoded.complete = state.complete && error == HPE_PAUSED;
  decoded.data = state.data;
  if (decoded.complete) decoded.used = static_cast<std::size_t>(llhttp_get_error_pos(&parser) - body.data());
  return decoded;
}

Decoded by_us(const std::string& body, std::size_t step_bytes, std::size_t places) {
  BodyDecoder decoder;
  decoder.start(Framing::chunked, 0);
  Decoded decoded;
  std::array<std::string_view, 8> pieces;
  while (decoded.used < body.size()) {
    const std::size_t n = std::min(step_bytes, body.size() - decoded.used);
    const BodyStep step =
        decoder.decode(std::span(body).subspan(decoded.used, n), std::span(pieces).first(places));
    for (std::size_t i = 0; i < step.pieces; ++i)
      decoded.data.append(pieces[i]);
    decoded.used += step.consumed;
    if (step.refused()) return {};
    if (step.done()) {
      decoded.complete = true;
      return decoded;
    }
    if (step.consumed == 0) break;
  }
  return decoded;
}

std::string random_body(Rng& rng) {
  static constexpr std::array<std::string_view, 24> kParts = {"0\r\n\r\n",  "5\r\nhello\r\n",
                                                              "1\r\nx\r\n", "\r\n",
                                                              "\n",         "\r",
                                                              "0",          "a",
                                                              "F",          ";",
                                                              ";a=b",       ";\"x\"",
                                                              " ",          "\t",
                                                              "X: y\r\n",   "X:y",
                                                              ":",          "hello",
                                                              "00",         "ffffffffffffffff",
                                                              "0\r\n",      "5;e\r\nhello\r\n",
                                                              "-1",         "\x01"};
  std::string body;
  const std::uint32_t parts = 1 + rng.below(8);
  for (std::uint32_t i = 0; i < parts; ++i)
    body.append(kParts[rng.below(kParts.size())]);
  return body + "0\r\n\r\n";
}

}  // namespace

TEST_CASE("chunked: ours and llhttp's agree on every body that ours takes") {
  Rng rng(7);
  int taken = 0;
  for (int i = 0; i < 200000; ++i) {
    const std::string body = random_body(rng);
    const Decoded ours = by_us(body, body.size(), 8);
    const Decoded bytewise = by_us(body, 1, 1);
    CAPTURE(body);
    REQUIRE(ours.complete == bytewise.complete);
    if (!ours.complete) continue;
    ++taken;
    const Decoded theirs = by_llhttp(body);
    // What stands in an extension is checked for controls only, since it goes no further; llhttp parses it.
    if (!theirs.complete && body.find(';') != std::string::npos) continue;
    REQUIRE(theirs.complete);
    REQUIRE(ours.data == theirs.data);
    REQUIRE(ours.used == theirs.used);
    REQUIRE(bytewise.data == ours.data);
    REQUIRE(bytewise.used == ours.used);
  }
  CHECK(taken > 1000);
}

TEST_CASE("a body with a length and one until close") {
  std::array<std::string_view, 2> pieces;
  static constexpr std::string_view kBytes = "hello world";
  BodyDecoder decoder;
  decoder.start(Framing::length, 5);
  BodyStep step = decoder.decode(kBytes.substr(0, 3), pieces);
  CHECK(step.pieces == 1);
  CHECK(pieces[0].data() == kBytes.data());  // a view, no copy
  CHECK(decoder.remaining() == 2);
  CHECK_FALSE(step.done());
  step = decoder.decode(kBytes.substr(3), pieces);
  CHECK(step.done());
  CHECK(step.consumed == 2);
  CHECK(pieces[0] == "lo");

  decoder.start(Framing::until_close, 0);
  step = decoder.decode(kBytes, pieces);
  CHECK_FALSE(step.done());
  CHECK(pieces[0] == kBytes);
  decoder.bound(5);
  step = decoder.decode(kBytes, pieces);
  CHECK(step.refused());
  CHECK(step.http_status == 413);

  decoder.start(Framing::none, 0);
  CHECK(decoder.decode(kBytes, pieces).done());
}

TEST_CASE("more pieces than places: the rest comes with the next call") {
  const std::string body = "1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n";
  std::array<std::string_view, 2> pieces;
  BodyDecoder decoder;
  decoder.start(Framing::chunked, 0);
  BodyStep step = decoder.decode(body, pieces);
  CHECK(step.pieces == 2);
  CHECK(step.bytes == 2);
  CHECK(step.status == BodyStep::Status::more);
  step = decoder.decode(std::span(body).subspan(step.consumed), pieces);
  CHECK(step.pieces == 1);
  CHECK(pieces[0] == "c");
  CHECK(step.done());
}

TEST_CASE("a broken body stays broken") {
  std::array<std::string_view, 2> pieces;
  BodyDecoder decoder;
  decoder.start(Framing::chunked, 0);
  CHECK(decoder.decode(std::string_view("zz"), pieces).refused());
  CHECK(decoder.decode(std::string_view("0\r\n\r\n"), pieces).refused());
}

}  // namespace perigee::http
