#include "guard.h"

#include <string>

#include "perigee/config/address.h"

namespace perigee::admin {

bool host_is_local(std::string_view authority) {
  std::string_view host = authority;
  if (host.starts_with('[')) {
    const auto end = host.find(']');
    if (end == std::string_view::npos) return false;
    return config::parse_ip(host.substr(1, end - 1)).has_value();
  }
  host = host.substr(0, host.find(':'));
  if (host == "localhost" || host.ends_with(".localhost")) return true;
  return config::parse_ip(host).has_value();
}

bool origin_is_ours(std::string_view origin, std::string_view authority) {
  if (origin.empty()) return true;
  const std::size_t scheme = origin.find("://");
  return scheme != std::string_view::npos && origin.substr(scheme + 3) == authority;
}

bool bearer_matches(std::string_view authorization, std::string_view token) {
  constexpr std::string_view kScheme = "Bearer ";
  if (!authorization.starts_with(kScheme)) return false;
  const std::string_view given = authorization.substr(kScheme.size());
  unsigned differs = given.size() == token.size() ? 0 : 1;
  for (std::size_t i = 0; i < given.size(); ++i) {
    const char expected = token.empty() ? '\0' : token[i % token.size()];
    differs |= static_cast<unsigned char>(given[i]) ^ static_cast<unsigned char>(expected);
  }
  return differs == 0 && !token.empty();
}

}  // namespace perigee::admin
