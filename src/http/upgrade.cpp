// Which request asks to leave HTTP, and which answer grants it.
#include "perigee/http/upgrade.h"

#include "bytes.h"

namespace perigee::http {

UpgradeAsk asked_upgrade(const RequestHead& head, const HeaderTable& table, bool connection_names_it) {
  UpgradeAsk ask;
  if (!connection_names_it || head.version_minor != 1 || table.repeated(HeaderName::upgrade)) return ask;
  const std::string_view protocol = table.value(HeaderName::upgrade);
  const std::size_t slash = protocol.find('/');  // "name/version"
  if (!is_token(protocol.substr(0, slash)) ||
      (slash != std::string_view::npos && !is_token(protocol.substr(slash + 1)))) {
    return ask;
  }
  if (equals_ignoring_case(protocol, "websocket")) {
    if (head.method != Method::get) ask.refused = "WebSocket upgrade of a request that is not GET";
    if (head.has_body()) ask.refused = "WebSocket upgrade of a request with a body";
    if (ask.refused == nullptr) ask.kind = UpgradeKind::websocket;
  } else if (equals_ignoring_case(protocol, "h2c") || head.has_body()) {
    return ask;
  } else {
    ask.kind = UpgradeKind::other;
  }
  if (ask.kind != UpgradeKind::none) ask.protocol = protocol;
  return ask;
}

const char* check_switch(const HeaderTable& table, std::string_view asked_protocol) {
  if (asked_protocol.empty()) return "101 that nobody asked for";
  bool named = false;
  for (const Header& field : table) {
    if (field.id != HeaderName::connection) continue;
    std::string_view list = field.value;
    while (!list.empty())
      named |= equals_ignoring_case(next_element(list), "upgrade");
  }
  if (!named) return "101 whose Connection does not say upgrade";
  if (table.repeated(HeaderName::upgrade) ||
      !same_ignoring_case(table.value(HeaderName::upgrade), asked_protocol)) {
    return "101 to another protocol than asked";
  }
  return nullptr;
}

}  // namespace perigee::http
