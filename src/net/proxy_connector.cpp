#include "perigee/net/proxy_connector.h"

#include <utility>

namespace perigee::net {

ProxyConnector::ProxyConnector(Connector& inner, ProxyVersion version) : inner_(inner) {
  if (version != ProxyVersion::none) size_ = write_proxy_header_local(version, header_);
}

ProxyConnector::ProxyConnector(Connector& inner, ProxyVersion version, const ProxyEnd& source, const ProxyEnd& destination)
    : ProxyConnector(inner, version) {
  if (version == ProxyVersion::none || !is_known(source.ip) || !is_known(destination.ip)) return;
  size_ = write_proxy_header(version, source, destination, header_);
}

coro::Task<Result<StreamPtr>> ProxyConnector::connect(const Endpoint& to) {
  auto stream = co_await inner_.connect(to);
  // A connection that broke at once shows to who writes or reads next.
  if (stream && size_ > 0) (void)(*stream)->write(Bytes(header_.data(), size_));
  co_return stream;
}

}  // namespace perigee::net
