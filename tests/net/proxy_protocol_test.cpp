// The PROXY protocol as bytes: what is refused, what waits for more, what is understood, each case whole and cut
// at every byte.
#include "perigee/net/proxy_protocol.h"

#include <doctest/doctest.h>

#include <cstring>
#include <string>
#include <string_view>

#include "perigee/config/address.h"

namespace perigee::test {
namespace {

using namespace std::string_view_literals;
using State = net::ProxyHeader::State;

const std::string kSignature("\r\n\r\n\0\r\nQUIT\n"sv);

net::ProxyHeader parse(std::string_view text) { return net::parse_proxy_header({text.data(), text.size()}); }

net::ProxyEnd end(const char* ip, std::uint16_t port) { return {*config::parse_ip(ip), port}; }

// A block of version 2: command, family, what follows.
std::string block(int command, int family, std::string_view rest) {
  std::string text = kSignature;
  text += static_cast<char>(command);
  text += static_cast<char>(family);
  text += static_cast<char>(rest.size() >> 8U);
  text += static_cast<char>(rest.size() & 0xffU);
  return text.append(rest);
}

const std::string kInet("\xcb\x00\x71\x07\xc0\x00\x02\x01\xdc\x04\x01\xbb"sv);  // 203.0.113.7:56324 → 192.0.2.1:443

TEST_CASE("proxy protocol: what is no header, or a broken one, is refused") {
  const std::vector<std::string> cases = {
      "G", "GET / HTTP/1.1\r\n", "proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n", "PROXYTCP4", "PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n", "\r\nG",
      "\r\n\r\n\r", "PROXY \r\n", "PROXY TCP4\r\n", "PROXY TCP4 \r\n", "PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
      "PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n", "PROXY UNKNOWNX\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n",
      "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", "PROXY TCP4 1.2.3.4  1.2.3.4 1 2\r\n",
      "PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n", "PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n", "PROXY TCP4 256.2.3.4 1.2.3.4 1 2\r\n",
      "PROXY TCP4 ::1 ::1 1 2\r\n", "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
      "PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
      "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 0x1 2\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
      "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\r\n", "PROXY TCP4 1.2.3.4\t1.2.3.4 1 2\r\n", std::string("PROXY UNKNOWN \0\r\n"sv),
      "PROXY UNKNOWN \x80\r\n", "PROXY UNKNOWN " + std::string(92, 'x') + "\r\n", "PROXY " + std::string(200, 'x'),
      block(0x22, 0x11, kInet), block(0x11, 0x11, kInet), block(0x00, 0x11, kInet), block(0x31, 0x11, kInet),
      block(0x21, 0x11, kInet.substr(1)), block(0x21, 0x21, kInet), block(0x21, 0x31, kInet), block(0x21, 0x12, kInet),
      block(0x21, 0x10, kInet), block(0x21, 0x41, kInet), block(0x21, 0x11, kInet + std::string(4096, 'x'))};
  for (const std::string& text : cases) {
    CAPTURE(text);
    CHECK(parse(text).state == State::refused);
    CHECK(parse(text).reason != nullptr);
    bool was = false;
    for (std::size_t n = 0; n <= text.size(); ++n) {
      const bool is = parse(std::string_view(text).substr(0, n)).state == State::refused;
      CHECK_FALSE((was && !is));  // stays refused
      was = is;
    }
    CHECK(parse(text + "GET / HTTP/1.1\r\n\r\n").state == State::refused);
  }
}

struct Good {
  std::string text;
  bool has_addresses;
  net::ProxyEnd source;
  net::ProxyEnd destination;
};

TEST_CASE("proxy protocol: what is understood, cut anywhere and with anything behind it") {
  std::string inet6 = block(0x21, 0x21, std::string(36, '\0'));
  inet6[16 + 15] = 1;                       // ::1
  inet6[16 + 31] = 2;                       // ::2
  inet6.replace(16 + 32, 4, "\x00\x50\x1f\x90"sv);  // 80, 8080
  const std::vector<Good> cases = {
      {"PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n", true, end("203.0.113.7", 56324), end("192.0.2.1", 443)},
      {"PROXY TCP4 255.255.255.255 255.255.255.255 65535 0\r\n", true, end("255.255.255.255", 65535), end("255.255.255.255", 0)},
      {"PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n", true, end("2001:db8::7", 1), end("2001:db8::1", 2)},
      {"PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n", true, end("203.0.113.7", 1), end("::1", 2)},
      {"PROXY UNKNOWN\r\n", false, {}, {}},
      {"PROXY UNKNOWN ffff:f...f:ffff 1 2 whatever\r\n", false, {}, {}},
      {"PROXY UNKNOWN " + std::string(91, 'x') + "\r\n", false, {}, {}},  // 107 bytes
      {block(0x21, 0x11, kInet), true, end("203.0.113.7", 56324), end("192.0.2.1", 443)},
      {block(0x21, 0x11, kInet + std::string("\x04\x00\x02ok"sv)), true, end("203.0.113.7", 56324), end("192.0.2.1", 443)},  // a TLV
      {block(0x21, 0x11, kInet + std::string(4096 - 16 - 12, 'x')), true, end("203.0.113.7", 56324), end("192.0.2.1", 443)},
      {inet6, true, end("::1", 80), end("::2", 8080)},
      {block(0x21, 0x00, ""), false, {}, {}},
      {block(0x21, 0x00, "whatever"), false, {}, {}},
      {block(0x21, 0x31, std::string(216, 'u')), false, {}, {}},
      {block(0x20, 0x00, ""), false, {}, {}},
      {block(0x20, 0x11, kInet), false, {}, {}},
      {block(0x20, 0x99, "x"), false, {}, {}},
  };
  for (const Good& good : cases) {
    CAPTURE(good.text);
    for (std::size_t n = 0; n < good.text.size(); ++n) {
      CHECK(parse(std::string_view(good.text).substr(0, n)).state == State::more);
    }
    for (const std::string_view behind : {""sv, "G"sv, "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n"sv, "\0\r\n"sv}) {
      const net::ProxyHeader header = parse(good.text + std::string(behind));
      REQUIRE(header.state == State::complete);
      CHECK(header.consumed == good.text.size());
      CHECK(header.has_addresses == good.has_addresses);
      if (!good.has_addresses) continue;
      CHECK(header.source == good.source);
      CHECK(header.destination == good.destination);
    }
  }
}

TEST_CASE("proxy protocol: what is written is read back as the same") {
  const std::vector<std::pair<net::ProxyEnd, net::ProxyEnd>> pairs = {
      {end("203.0.113.7", 56324), end("192.0.2.1", 443)},
      {end("203.0.113.7", 0), end("::1", 65535)},
      {end("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", 65535), end("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535)}};
  for (const net::ProxyVersion version : {net::ProxyVersion::v1, net::ProxyVersion::v2}) {
    std::array<char, net::kProxyWrittenMax> out{};
    for (const auto& [source, destination] : pairs) {
      const std::size_t n = net::write_proxy_header(version, source, destination, out);
      const net::ProxyHeader header = parse({out.data(), n});
      REQUIRE(header.state == State::complete);
      CHECK(header.consumed == n);
      CHECK(header.version == version);
      CHECK(header.source == source);
      CHECK(header.destination == destination);
    }
    const std::size_t n = net::write_proxy_header_local(version, out);
    const net::ProxyHeader header = parse({out.data(), n});
    REQUIRE(header.state == State::complete);
    CHECK(header.consumed == n);
    CHECK_FALSE(header.has_addresses);
  }
  std::array<char, net::kProxyWrittenMax> out{};
  const std::size_t n = net::write_proxy_header(net::ProxyVersion::v1, end("203.0.113.7", 56324), end("192.0.2.1", 443), out);
  CHECK(std::string_view(out.data(), n) == "PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n");
}

}  // namespace
}  // namespace perigee::test
