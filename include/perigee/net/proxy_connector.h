// Connections that begin with a PROXY header: a Connector in front of another one, so that TLS, or whatever else is
// spoken on the connection, comes behind the header.
#pragma once

#include <array>
#include <cstddef>

#include "perigee/net/proxy_protocol.h"
#include "perigee/net/socket.h"

namespace perigee::net {

class ProxyConnector final : public Connector {
 public:
  // For nobody: a probe. `inner` outlives this; with ProxyVersion::none its connections are passed as they are.
  ProxyConnector(Connector& inner, ProxyVersion version);
  // For a client at `source`, who connected to `destination`; for nobody where either has no address (is_known).
  ProxyConnector(Connector& inner, ProxyVersion version, const ProxyEnd& source, const ProxyEnd& destination);

  // This object and `to` must outlive the task.
  coro::Task<Result<StreamPtr>> connect(const Endpoint& to) override;

 private:
  Connector& inner_;
  std::array<char, kProxyWrittenMax> header_{};
  std::size_t size_ = 0;
};

}  // namespace perigee::net
