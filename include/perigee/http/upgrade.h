// When a connection may stop speaking HTTP: what counts as asking for it, and as getting it.
//
// An upgrade is one protocol in Upgrade, named also by Connection, in an HTTP/1.1 request. `h2c` is never
// one (an old way around proxies): both fields are dropped and the request is ordinary. A request with a body
// is no upgrade either; for WebSocket that is an error. Sec-WebSocket-* pass untouched: they are between the
// client and the worker.
#pragma once

#include <string_view>

#include "perigee/http/message.h"

namespace perigee::http {

struct UpgradeAsk {
  UpgradeKind kind = UpgradeKind::none;
  std::string_view protocol;
  const char* refused = nullptr;  // a literal; then answer 400
};
// Needs head.method, version_minor and framing. `connection_names_it`: Connection has the token `upgrade`.
UpgradeAsk asked_upgrade(const RequestHead& head, const HeaderTable& table, bool connection_names_it);

// A 101 is valid if an upgrade was asked, Connection says `upgrade`, and Upgrade names just that protocol.
// Returns nullptr, or a literal that says what is wrong.
const char* check_switch(const HeaderTable& table, std::string_view asked_protocol);

}  // namespace perigee::http
