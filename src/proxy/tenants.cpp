// Who asks: the tenant of a request, found at most once and only where somebody wants to know.
//
// In the turn in which the head was parsed. A key is looked for where ORBIT looks for it: X-API-Key, else a bearer token;
// of a WebSocket, which cannot carry fields in a browser, `api_key` in the query.
#include <algorithm>
#include <array>
#include <span>

#include "inner.h"
#include "perigee/admission/tenant.h"
#include "stages.h"

namespace perigee::proxy {

using http::HeaderName;

namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// `value` with its escapes undone, in `place`: ORBIT takes `orbit%5F1` for `orbit_1`. As it came where it does not fit.
std::string_view unescaped(std::string_view value, std::span<char> place) {
  if (value.find_first_of("%+") == std::string_view::npos || value.size() > place.size()) return value;
  std::size_t size = 0;
  for (std::size_t i = 0; i < value.size(); ++i) {
    const bool escape = value[i] == '%' && i + 2 < value.size() && hex_digit(value[i + 1]) >= 0 && hex_digit(value[i + 2]) >= 0;
    if (escape) {
      place[size++] = static_cast<char>(hex_digit(value[i + 1]) * 16 + hex_digit(value[i + 2]));
      i += 2;
    } else {
      place[size++] = value[i] == '+' ? ' ' : value[i];
    }
  }
  return {place.data(), size};
}

std::string_view key_in_query(std::string_view target, std::span<char> place) {
  constexpr std::string_view kName = "api_key=";
  const std::size_t mark = target.find('?');
  if (mark == std::string_view::npos) return {};
  for (std::string_view rest = target.substr(mark + 1); !rest.empty();) {
    const std::string_view one = rest.substr(0, rest.find('&'));
    if (one.starts_with(kName)) return unescaped(one.substr(kName.size()), place);
    rest.remove_prefix(std::min(rest.size(), one.size() + 1));
  }
  return {};
}

}  // namespace

void identify(Exchange& x, std::string_view path) {
  const admission::TenantTable* const tenants = x.plan->tenants.get();
  if (tenants == nullptr) return;
  const http::HeaderTable& table = x.proxy.request_table;
  std::array<char, 256> place;
  admission::Claims claims;
  if (x.verdict.request_class == RequestClass::voice) claims.api_key = key_in_query(x.proxy.request_head.target, place);
  if (claims.api_key.empty()) {
    claims.api_key = admission::api_key_of(table.value(HeaderName::x_api_key), table.value(HeaderName::authorization));
  }
  if (x.trusted) claims.user = table.value(HeaderName::x_user_id);
  const std::string_view told = x.text(Texts::kClientAddress);
  const auto behind = told.empty() ? std::nullopt : config::parse_ip(told);
  claims.address = behind.value_or(x.client.peer.ip);
  x.tenant = tenants->identify(claims);
  match_rates(x, path, claims);
}

}  // namespace perigee::proxy
