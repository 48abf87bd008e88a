// Names of header fields, the table, and the small writers: chunk heads, dates.
#include <doctest/doctest.h>

#include <array>
#include <cctype>
#include <string>

#include "perigee/http/chunk.h"
#include "perigee/http/date.h"
#include "perigee/http/message.h"

namespace perigee::http {

TEST_CASE("every known name is found, in any case, and nothing beside it") {
  for (std::size_t i = 2; i < kHeaderNameCount; ++i) {
    const auto id = static_cast<HeaderName>(i);
    const std::string name(to_string(id));
    CAPTURE(name);
    CHECK(header_name_from(name) == id);
    std::string upper = name;
    for (char& c : upper)
      c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    CHECK(header_name_from(upper) == id);
    CHECK(header_name_from(name + "x") == HeaderName::other);
    CHECK(header_name_from("x" + name) == HeaderName::other);
    for (std::size_t k = 0; k < name.size(); ++k) {
      for (const char c : {'!', '~', 'q', '0'}) {
        std::string near = name;
        if (near[k] == c) continue;
        near[k] = c;
        if (near == "range" || near == "etag") continue;
        CHECK(header_name_from(near) == HeaderName::other);
      }
    }
  }
  CHECK(header_name_from("a") == HeaderName::other);
  CHECK(header_name_from("x-unknown") == HeaderName::other);
}

TEST_CASE("aliases of guarded names") {
  for (const std::string_view name :
       {"X_Forwarded_For", "x-forwarded_for", "X.Forwarded.For", "Content_Length", "Transfer_Encoding",
        "X_API_Key", "X_User_ID", "X_Priority", "content_type"}) {
    CAPTURE(name);
    CHECK(header_name_from(name) == HeaderName::alias);
  }
  CHECK(header_name_from("X_Unknown") == HeaderName::other);
  CHECK(header_name_from("accept_language") == HeaderName::other);  // nobody decides by it
  CHECK(header_name_from("_") == HeaderName::other);
  CHECK(header_name_from(std::string(300, '_')) == HeaderName::other);
}

TEST_CASE("the table: first of a name, and whether there are more") {
  HeaderTable table;
  REQUIRE(table.add("Via", "1"));
  REQUIRE(table.add("Host", "h"));
  REQUIRE(table.add("via", "2"));
  REQUIRE(table.add("X-A", "3"));
  REQUIRE(table.add("X-B", "4"));
  CHECK(table.size() == 5);
  CHECK(table.value(HeaderName::via) == "1");
  CHECK(table.repeated(HeaderName::via));
  CHECK(table.has(HeaderName::host));
  CHECK_FALSE(table.repeated(HeaderName::host));
  CHECK_FALSE(table.has(HeaderName::cookie));
  CHECK(table.find(HeaderName::cookie) == nullptr);
  CHECK(table.value(HeaderName::cookie).empty());
  table.clear();
  CHECK(table.size() == 0);
  CHECK_FALSE(table.has(HeaderName::host));
}

TEST_CASE("sets of names reach over both words") {
  constexpr HeaderSet low = {HeaderName::accept};
  constexpr HeaderSet high = {HeaderName::x_xss_protection};
  CHECK(low.contains(HeaderName::accept));
  CHECK_FALSE(low.contains(HeaderName::x_xss_protection));
  CHECK((low | high).contains(HeaderName::x_xss_protection));
  CHECK_FALSE(low.intersects(high));
  CHECK((low | high).intersects(high));
}

TEST_CASE("chunk heads") {
  CHECK(ChunkHead(1).view() == "1\r\n");
  CHECK(ChunkHead(15).view() == "f\r\n");
  CHECK(ChunkHead(16).view() == "10\r\n");
  CHECK(ChunkHead(0x1a2b).view() == "1a2b\r\n");
  CHECK(ChunkHead(~0ULL).view() == "ffffffffffffffff\r\n");
}

TEST_CASE("dates") {
  const auto date = [](std::int64_t seconds) {
    std::array<char, kHttpDateBytes> text{};
    format_http_date(seconds * 1000 + 999, text);
    return std::string(text.data(), text.size());
  };
  CHECK(date(784111777) == "Sun, 06 Nov 1994 08:49:37 GMT");  // RFC 9110, 5.6.7
  CHECK(date(0) == "Thu, 01 Jan 1970 00:00:00 GMT");
  CHECK(date(951782400) == "Tue, 29 Feb 2000 00:00:00 GMT");
  CHECK(date(951868800) == "Wed, 01 Mar 2000 00:00:00 GMT");
  CHECK(date(1709210096) == "Thu, 29 Feb 2024 12:34:56 GMT");
  CHECK(date(4102444799) == "Thu, 31 Dec 2099 23:59:59 GMT");
  CHECK(date(4107542400) == "Mon, 01 Mar 2100 00:00:00 GMT");
}

}  // namespace perigee::http
