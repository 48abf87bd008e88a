// PROXY headers, from balancers in front of us and towards workers behind us.
//
// A header is believed, and looked for at all, only on connections from peers that the listener names; there it is
// not optional: a connection without one is closed before a byte of it is read as HTTP, because otherwise whoever
// reaches the port through the balancer's machine could choose whom to be.
#include "inner.h"
#include "stages.h"

namespace perigee::proxy {

using coro::Task;

namespace {

// Until a header is whole. Its bytes are taken off the stream; what follows them is read again.
Task<Result<net::ProxyHeader>> read_header(Client& client) {
  std::string kept;  // rarely used: a header comes in one piece
  for (;;) {
    auto got = co_await client.stream->read();
    CO_TRY(net::Bytes bytes, std::move(got));
    if (!kept.empty()) {
      kept.append(bytes.data(), bytes.size());
      bytes = net::Bytes(kept);
    }
    const net::ProxyHeader header = net::parse_proxy_header(bytes);
    switch (header.state) {
      case net::ProxyHeader::State::refused: co_return fail(ErrorKind::protocol, header.reason, Side::client, 400);
      case net::ProxyHeader::State::complete:
        client.stream->unread(bytes.subspan(header.consumed));
        co_return header;
      case net::ProxyHeader::State::more: break;
    }
    if (kept.empty()) kept.assign(bytes.data(), bytes.size());
  }
}

}  // namespace

Task<bool> learn_peer(Client& client) {
  client.source.reset();
  client.deadline.set_after(client.proxy.plan->config->client.head, kHeadTooSlow);
  const auto header = co_await coro::under(client.source, read_header(client));
  client.deadline.clear();
  if (header) {
    client.peer = net::peer_behind(client.peer, *header);
    co_return true;
  }
  // A connection that ended without a byte is a balancer's look at our port.
  if (client.stream->bytes_in() > 0) client.proxy.metrics().add(telemetry::Count::proxy_headers_refused);
  co_return false;
}

net::ProxyConnector connector_for(const Exchange& x, net::ProxyVersion version) {
  const net::Peer& peer = x.client.peer;
  net::ProxyEnd source{peer.ip, peer.port};
  // Of a client that a trusted peer told of, the port is not known.
  const std::string_view told = x.text(Texts::kClientAddress);
  if (!told.empty()) source = {config::parse_ip(told).value_or(peer.ip), 0};
  return {x.proxy.parts.connector, version, source, peer.local};
}

}  // namespace perigee::proxy
