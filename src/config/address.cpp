// See address.h. Literals are read by inet_pton, which is strict: no octal, no missing parts, no blanks.
#include "perigee/config/address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace perigee::config {
namespace {

constexpr std::size_t kLongestUnixPath = 107;  // sun_path with its NUL
constexpr std::size_t kLongestName = 253;
constexpr std::array<std::uint8_t, 12> kMappedPrefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};

std::optional<std::uint16_t> read_port(std::string_view text) {
  std::uint16_t port = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, port);
  if (error != std::errc() || stop != end || port == 0) return std::nullopt;
  return port;
}

bool is_ipv6(std::string_view text) {
  std::array<std::uint8_t, 16> bytes{};
  return text.find(':') != std::string_view::npos &&
         inet_pton(AF_INET6, std::string(text).c_str(), bytes.data()) == 1;
}

bool looks_numeric(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return (c >= '0' && c <= '9') || c == '.'; });
}

bool is_host(std::string_view text) {
  if (text.empty() || text.size() > kLongestName) return false;
  // All digits and dots must be a whole IPv4 address: `10.1` or `010.0.0.1` means something else elsewhere.
  if (looks_numeric(text)) return parse_ip(text).has_value();
  if (text.front() == '-' || text.front() == '.' || text.find("..") != std::string_view::npos) return false;
  return std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_';
  });
}

}  // namespace

std::optional<std::array<std::uint8_t, 16>> parse_ip(std::string_view text) {
  const std::string name(text);
  if (name.find('\0') != std::string::npos) return std::nullopt;
  std::array<std::uint8_t, 16> bytes{};
  if (inet_pton(AF_INET6, name.c_str(), bytes.data()) == 1) return bytes;
  std::ranges::copy(kMappedPrefix, bytes.begin());
  if (inet_pton(AF_INET, name.c_str(), bytes.data() + kMappedPrefix.size()) == 1) return bytes;
  return std::nullopt;
}

std::optional<Address> parse_address(std::string_view text) {
  if (text.starts_with("unix:")) {
    const std::string_view path = text.substr(5);
    if (path.size() < 2 || path.size() > kLongestUnixPath || path.front() != '/') return std::nullopt;
    if (path.find('\0') != std::string_view::npos) return std::nullopt;
    return Address{Address::Kind::unix_socket, {}, 0, std::string(path)};
  }
  if (const auto bare = read_port(text)) return Address{Address::Kind::tcp, "0.0.0.0", *bare, {}};
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  const auto port = read_port(text.substr(colon + 1));
  std::string_view host = text.substr(0, colon);
  if (!port) return std::nullopt;
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
    if (!is_ipv6(host)) return std::nullopt;
  } else if (host == "*") {
    host = "0.0.0.0";
  } else if (!is_host(host)) {
    return std::nullopt;
  }
  return Address{Address::Kind::tcp, std::string(host), *port, {}};
}

std::string Address::text() const {
  if (kind == Kind::unix_socket) return "unix:" + path;
  const bool v6 = host.find(':') != std::string::npos;
  return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

bool Address::is_loopback() const {
  if (kind == Kind::unix_socket || host == "localhost") return true;
  const auto bytes = parse_ip(host);
  if (!bytes) return false;
  if (std::equal(kMappedPrefix.begin(), kMappedPrefix.end(), bytes->begin())) return (*bytes)[12] == 127;
  std::array<std::uint8_t, 16> one{};
  one[15] = 1;
  return *bytes == one;
}

bool Cidr::contains(const std::array<std::uint8_t, 16>& peer) const {
  const std::size_t whole = prefix / 8U;
  if (std::memcmp(network.data(), peer.data(), whole) != 0) return false;
  const unsigned rest = prefix % 8U;
  if (rest == 0) return true;
  const unsigned mask = 0xFFU << (8U - rest) & 0xFFU;
  return (network[whole] & mask) == (peer[whole] & mask);
}

std::string Cidr::text() const {
  if (*this == Cidr{}) return "unix";
  std::array<char, INET6_ADDRSTRLEN> buffer{};
  const bool v4 = prefix >= 96 && std::equal(kMappedPrefix.begin(), kMappedPrefix.end(), network.begin());
  inet_ntop(v4 ? AF_INET : AF_INET6, network.data() + (v4 ? 12 : 0), buffer.data(), buffer.size());
  return std::string(buffer.data()) + "/" + std::to_string(v4 ? prefix - 96 : prefix);
}

std::optional<Cidr> parse_cidr(std::string_view text) {
  if (text == "unix") return Cidr{};
  const std::size_t slash = text.find('/');
  const auto bytes = parse_ip(text.substr(0, slash));
  if (!bytes) return std::nullopt;
  const bool v4 = text.substr(0, slash).find(':') == std::string_view::npos;
  const unsigned longest = v4 ? 32 : 128;
  unsigned length = longest;
  if (slash != std::string_view::npos) {
    const std::string_view digits = text.substr(slash + 1);
    const char* end = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), end, length);
    if (error != std::errc() || stop != end || length > longest) return std::nullopt;
  }
  Cidr cidr{*bytes, static_cast<std::uint8_t>(v4 ? length + 96 : length)};
  for (unsigned bit = cidr.prefix; bit < 128; ++bit) {
    auto& byte = cidr.network[bit / 8];
    byte = static_cast<std::uint8_t>(byte & ~(0x80U >> (bit % 8U)));
  }
  return cidr;
}

}  // namespace perigee::config
