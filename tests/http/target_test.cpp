// Paths as classification sees them.
#include <doctest/doctest.h>

#include <array>
#include <string>

#include "perigee/http/target.h"

namespace perigee::http {
namespace {

constexpr std::string_view kRefused = "REFUSED";

std::string path_of(std::string_view target, EncodedSlash slash = EncodedSlash::separator) {
  std::array<char, 128> buffer{};
  const NormalPath result = normalise_path(target, slash, buffer);
  return result.ok() ? std::string(result.path) + "|" + std::string(result.query) : std::string(kRefused);
}

}  // namespace

TEST_CASE("paths as they are") {
  CHECK(path_of("/") == "/|");
  CHECK(path_of("/v1/chat") == "/v1/chat|");
  CHECK(path_of("/v1/chat/") == "/v1/chat/|");
  CHECK(path_of("/a?b=c&d=/../x//y%zz\\") == "/a|b=c&d=/../x//y%zz\\");
  CHECK(path_of("/a?") == "/a|");
  CHECK(path_of("/?a?b") == "/|a?b");
  CHECK(path_of("*") == "*|");
  CHECK(path_of("/.well-known/agent.json") == "/.well-known/agent.json|");
  CHECK(path_of("/...") == "/...|");
  CHECK(path_of("/a..b/c.") == "/a..b/c.|");
  CHECK(path_of("/a;b=c/d") == "/a;b=c/d|");
  CHECK(path_of("/ADMIN") == "/ADMIN|");
  static constexpr std::string_view kTarget = "/v1/chat";
  CHECK(normalise_path(kTarget, EncodedSlash::separator, {}).path.data() == kTarget.data());  // no copy
}

TEST_CASE("escapes are decoded once, as ORBIT decodes them") {
  CHECK(path_of("/%61dmin/info") == "/admin/info|");
  CHECK(path_of("/v1%2Fchat") == "/v1/chat|");
  CHECK(path_of("/v1%2fchat?q=%2F") == "/v1/chat|q=%2F");
  CHECK(path_of("/a%20b") == "/a b|");
  CHECK(path_of("/a%3Fb") == "/a?b|");
  CHECK(path_of("/%2561") == "/%61|");
  CHECK(path_of("/caf%C3%A9") == "/caf\xC3\xA9|");
}

TEST_CASE("what two readers could understand differently is refused") {
  for (const std::string_view target :
       {"",        "a",       "?a",     "/a/../b",     "/..",    "/.",         "/./",     "/a/.",
        "/a/..",   "/../",    "//",     "//a",         "/a//b",  "/a//",       "/a\\b",   "/a%5cb",
        "/a%5Cb",  "/a#b",    "/a%23b", "/a%00b",      "/%00",   "/%",         "/%4",     "/%4?1",
        "/%zz",    "/%+1",    "/a%",    "/%2e%2e/a",   "/%2e",   "/.%2e/a",    "/a/%2E.", "/a%2f%2fb",
        "/a%2f/b", "/a/%2fb", "/%2f",   "/a%2f..%2fb", "/a%2f.", "/%2E%2e%2fa"}) {
    CAPTURE(target);
    CHECK(path_of(target) == kRefused);
    CHECK(path_of(target, EncodedSlash::refuse) == kRefused);
    CHECK(path_of(target, EncodedSlash::pass) == kRefused);
  }
  CHECK(path_of("/a%2Fb", EncodedSlash::refuse) == kRefused);
  CHECK(path_of("/a%2fb", EncodedSlash::pass) == "/a%2Fb|");
  CHECK(path_of("/a%252fb", EncodedSlash::refuse) == "/a%2fb|");
}

TEST_CASE("the buffer bounds what is decoded") {
  std::array<char, 4> buffer{};
  CHECK(normalise_path("/%61b", EncodedSlash::separator, buffer).refused != nullptr);
  CHECK(normalise_path("/%61", EncodedSlash::separator, buffer).path == "/a");
}

}  // namespace perigee::http
