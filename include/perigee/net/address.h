// A resolved address: what a socket can be bound or connected to.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "perigee/base/result.h"
#include "perigee/config/address.h"
#include "perigee/coro/task.h"
#include "perigee/net/proxy_protocol.h"

namespace perigee::net {

class Loop;

struct Endpoint {
  sockaddr_storage storage{};
  socklen_t length = 0;

  [[nodiscard]] const sockaddr* raw() const { return reinterpret_cast<const sockaddr*>(&storage); }
  [[nodiscard]] bool is_unix() const { return storage.ss_family == AF_UNIX; }
  // `127.0.0.1:3000`, `[::1]:3000`, `unix:/path`; for logs and messages.
  [[nodiscard]] std::string text() const;
};

// The peer of an accepted connection, as the trust list and X-Forwarded-For want it.
struct Peer {
  std::array<std::uint8_t, 16> ip{};  // IPv4 mapped; all zero for a Unix socket
  std::array<char, 46> text{};        // without port, NUL-terminated; "unix" for a Unix socket
  bool secure = false;                // it speaks TLS with us
  std::uint16_t port = 0;
  ProxyEnd local;  // what it connected to; all zero for a Unix socket
};
[[nodiscard]] Peer peer_of(int fd);
// The peer that a PROXY header on a connection of `sender` speaks for. Where it names no client the sender's
// address stays in logs and in X-Forwarded-For, but nobody trusts it: its `ip` becomes 0.0.0.0.
[[nodiscard]] Peer peer_behind(const Peer& sender, const ProxyHeader& header);
// It is somebody's address: not a Unix socket's, nor of a client that nobody named (see peer_behind).
[[nodiscard]] bool is_known(const std::array<std::uint8_t, 16>& ip);
// An address as text, IPv4 where it is mapped; no port, no brackets.
void write_ip(const std::array<std::uint8_t, 16>& ip, std::array<char, 46>& out);

// An address literal or Unix path without asking anybody; `invalid` for a name.
[[nodiscard]] Result<Endpoint> to_endpoint(const config::Address& address);
// Also names, through the system's resolver on libuv's thread pool; the first usable answer.
[[nodiscard]] coro::Task<Result<Endpoint>> resolve(Loop& loop, config::Address address);

}  // namespace perigee::net
