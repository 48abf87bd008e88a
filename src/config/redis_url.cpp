#include "perigee/config/redis_url.h"

#include <algorithm>

#include "units.h"

namespace perigee::config {
namespace {

int digit_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

std::optional<std::string> unescaped(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (i + 2 >= text.size() || digit_of(text[i + 1]) < 0 || digit_of(text[i + 2]) < 0) return std::nullopt;
    out += static_cast<char>(digit_of(text[i + 1]) * 16 + digit_of(text[i + 2]));
    i += 2;
  }
  return out;
}

}  // namespace

std::optional<RedisPlace> parse_redis_url(std::string_view url) {
  RedisPlace place;
  place.tls = url.starts_with("rediss://");
  if (!place.tls && !url.starts_with("redis://")) return std::nullopt;
  url.remove_prefix(place.tls ? 9 : 8);
  if (url.find_first_of("?#") != std::string_view::npos) return std::nullopt;
  if (const std::size_t at = url.rfind('@'); at != std::string_view::npos) {
    const std::string_view who = url.substr(0, at);
    const std::size_t colon = who.find(':');
    const auto user = unescaped(who.substr(0, colon));
    const auto password = colon == std::string_view::npos ? std::string() : unescaped(who.substr(colon + 1));
    if (!user || !password || password->empty()) return std::nullopt;
    place.user = *user;
    place.password = *password;
    url.remove_prefix(at + 1);
  }
  if (url.starts_with("unix:")) {
    const auto address = parse_address(url);
    if (!address || place.tls) return std::nullopt;
    place.address = *address;
    return place;
  }
  const std::size_t slash = url.find('/');
  if (slash != std::string_view::npos && slash + 1 < url.size()) {
    const auto database = read_integer(url.substr(slash + 1));
    if (!database || *database < 0 || *database > 1'000'000) return std::nullopt;
    place.database = static_cast<std::uint32_t>(*database);
  }
  std::string authority(url.substr(0, slash));
  const std::size_t colon = authority.rfind(':');
  if (colon == std::string::npos || authority.find(']', colon) != std::string::npos) authority += ":6379";
  const auto address = parse_address(authority);
  if (!address || address->kind != Address::Kind::tcp || authority.starts_with(':') || authority.starts_with('*')) return std::nullopt;
  place.address = *address;
  return place;
}

}  // namespace perigee::config
