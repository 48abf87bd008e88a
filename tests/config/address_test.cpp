// Addresses and networks as text.
#include "perigee/config/address.h"

#include <doctest/doctest.h>

namespace perigee::config {

TEST_CASE("addresses that are none") {
  for (const char* text :
       {"",       ":",       "0",       "65536",        "-1",       "3000x",        "host",
        "host:",  ":3000",   "host:0",  "host:99999",   "1.2.3:80", "010.0.0.1:80", "1.2.3.4.5:80",
        "::1:80", "[::1]",   "[::1:80", "[1.2.3.4]:80", "a b:80",   "a/b:80",       "-a:80",
        ".a:80",  "a..b:80", "unix:",   "unix:/",       "unix:rel", "**:80"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_address(text));
  }
  CHECK_FALSE(parse_address("unix:/" + std::string(107, 'a')));
  CHECK_FALSE(parse_address(std::string("unix:/a\0b", 9)));
}

TEST_CASE("an address reads back as it is written") {
  for (const char* text :
       {"0.0.0.0:3000", "[::1]:9300", "localhost:1", "orbit-1.internal:65535", "unix:/run/p.sock"}) {
    CAPTURE(text);
    const auto address = parse_address(text);
    REQUIRE(address);
    CHECK(address->text() == text);
  }
  CHECK(parse_address("3000")->text() == "0.0.0.0:3000");
  CHECK(parse_address("*:3000")->text() == "0.0.0.0:3000");
}

TEST_CASE("loopback is what only this machine reaches") {
  for (const char* text : {"127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1", "unix:/a"}) {
    CHECK(parse_address(text)->is_loopback());
  }
  for (const char* text : {"0.0.0.0:1", "[::]:1", "128.0.0.1:1", "[::2]:1", "localhost.example:1", "3000"}) {
    CHECK_FALSE(parse_address(text)->is_loopback());
  }
}

TEST_CASE("networks") {
  for (const char* text :
       {"", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "::/129", "name", "10.0/8", "/8", "1.2.3.4/8/8"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_cidr(text));
  }
  const auto ip = [](const char* text) { return *parse_ip(text); };
  const Cidr ten = *parse_cidr("10.1.2.3/8");
  CHECK(ten.text() == "10.0.0.0/8");
  CHECK(ten.contains(ip("10.255.0.1")));
  CHECK_FALSE(ten.contains(ip("11.0.0.1")));
  const Cidr odd = *parse_cidr("192.168.4.0/22");
  CHECK(odd.contains(ip("192.168.7.255")));
  CHECK_FALSE(odd.contains(ip("192.168.8.0")));
  CHECK(parse_cidr("0.0.0.0/0")->contains(ip("1.2.3.4")));
  CHECK_FALSE(parse_cidr("0.0.0.0/0")->contains(ip("::1")));
  CHECK(parse_cidr("::/0")->contains(ip("::1")));
  CHECK(parse_cidr("fd00::/9")->text() == "fd00::/9");
  CHECK_FALSE(parse_cidr("fd00::/9")->contains(ip("fd80::1")));
  CHECK(parse_cidr("::1")->contains(ip("::1")));
  CHECK_FALSE(parse_cidr("127.0.0.1")->contains(ip("127.0.0.2")));
}

}  // namespace perigee::config
