// The PROXY protocol, versions 1 and 2: the line or block that a balancer puts in front of a connection to
// say whom it comes from. Bytes in, verdict out; nothing here touches a socket.
//
//   bytes.append(more);
//   const ProxyHeader header = parse_proxy_header(bytes);   // more / complete / refused
//
// Hand in all bytes received so far, from the connection's first one on. However they were cut, the verdict
// is the same: a prefix of a good header is `more`, what was refused stays refused whatever follows, and what
// follows a complete header changes nothing about it. No allocation, any thread.
//
// Source: "The PROXY protocol, versions 1 & 2" (Willy Tarreau, 2020/03/05).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "perigee/config/config.h"

namespace perigee::net {

// A whole line of version 1, CR LF included. The protocol's own bound.
inline constexpr std::size_t kProxyV1Max = 107;
// Fixed part, addresses and extensions (TLVs) of version 2. The protocol allows 64 KiB; what balancers send in
// fact (a TLS block with a client's name, a VPC id) is a few hundred bytes.
inline constexpr std::size_t kProxyHeaderMax = 4096;

// Who sends PROXY headers, to us or to a worker.
enum class ProxyVersion : std::uint8_t { none, v1, v2 };
[[nodiscard]] constexpr ProxyVersion version_of(config::ProxyProtocolOut written) {
  switch (written) {
    case config::ProxyProtocolOut::v1: return ProxyVersion::v1;
    case config::ProxyProtocolOut::v2: return ProxyVersion::v2;
    case config::ProxyProtocolOut::off: break;
  }
  return ProxyVersion::none;
}

// One end of a connection. IPv4 is kept as IPv4-mapped IPv6 (::ffff:a.b.c.d), in network byte order.
struct ProxyEnd {
  std::array<std::uint8_t, 16> ip{};
  std::uint16_t port = 0;
  bool operator==(const ProxyEnd&) const = default;
};

struct ProxyHeader {
  enum class State : std::uint8_t {
    more,      // a header so far; hand in more
    complete,  // `consumed` bytes of it; what follows is the connection's own
    refused,   // no header, or a broken one: `reason` says which
  };
  State state = State::more;
  std::size_t consumed = 0;           // with `complete`: 1 … the number of bytes handed in
  const char* reason = nullptr;       // with `refused`; a literal
  ProxyVersion version = ProxyVersion::none;  // with `complete`
  // With `complete`: `source` and `destination` hold. False for LOCAL (the balancer speaks for itself), UNKNOWN,
  // UNSPEC and Unix sockets: nothing is known of the client.
  bool has_addresses = false;
  ProxyEnd source;       // the client
  ProxyEnd destination;  // what the client connected to
};

// `bytes`: all that came, from the first byte on. An empty span is `more`. Never `more` with kProxyHeaderMax
// bytes or above.
[[nodiscard]] ProxyHeader parse_proxy_header(std::span<const char> bytes);

// What write_proxy_header writes at most: a line of version 1.
inline constexpr std::size_t kProxyWrittenMax = kProxyV1Max;

// Writes the header for a connection from `source` to `destination` and returns its length. Two IPv4 ends are
// told as IPv4, any other pair as IPv6. `version` is v1 or v2.
std::size_t write_proxy_header(ProxyVersion version, const ProxyEnd& source, const ProxyEnd& destination,
                               std::span<char, kProxyWrittenMax> out);
// The same where no client stands behind the connection (a probe), or none with an address (a Unix socket):
// `PROXY UNKNOWN` or the LOCAL command.
std::size_t write_proxy_header_local(ProxyVersion version, std::span<char, kProxyWrittenMax> out);

}  // namespace perigee::net
