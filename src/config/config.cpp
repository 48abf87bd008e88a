// What is derived from a configuration whenever it is asked for. See config.h.
#include "perigee/config/config.h"

#include <algorithm>

namespace perigee::config {

std::uint32_t Config::slot_ceiling(const Worker& w, WorkerKind kind) const {
  const auto written = w.max_concurrent_requests ? w.max_concurrent_requests : max_concurrent_requests;
  if (kind == WorkerKind::http) return written.value_or(slots.http);
  // Beyond the provider's connections a chat gets its head and then waits where nobody sees it.
  return std::min(written.value_or(kUnbounded), w.provider_connections.value_or(provider_connections));
}

bool ProxyProtocol::expected_from(const std::array<std::uint8_t, 16>& peer) const {
  return std::ranges::any_of(from, [&](const Cidr& c) { return c.contains(peer); });
}

bool Config::is_trusted(const std::array<std::uint8_t, 16>& peer) const {
  return std::ranges::any_of(trusted, [&](const Cidr& c) { return c.contains(peer); });
}

}  // namespace perigee::config
