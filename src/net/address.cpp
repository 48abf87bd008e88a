#include "perigee/net/address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <uv.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "perigee/coro/wait.h"
#include "perigee/net/loop.h"

namespace perigee::net {

std::string Endpoint::text() const {
  std::array<char, INET6_ADDRSTRLEN> ip{};
  if (storage.ss_family == AF_INET) {
    const auto* in = reinterpret_cast<const sockaddr_in*>(&storage);
    inet_ntop(AF_INET, &in->sin_addr, ip.data(), ip.size());
    return std::string(ip.data()) + ":" + std::to_string(ntohs(in->sin_port));
  }
  if (storage.ss_family == AF_INET6) {
    const auto* in6 = reinterpret_cast<const sockaddr_in6*>(&storage);
    inet_ntop(AF_INET6, &in6->sin6_addr, ip.data(), ip.size());
    return "[" + std::string(ip.data()) + "]:" + std::to_string(ntohs(in6->sin6_port));
  }
  if (is_unix()) return std::string("unix:") + reinterpret_cast<const sockaddr_un*>(&storage)->sun_path;
  return "unknown";
}

namespace {

constexpr std::array<std::uint8_t, 12> kMapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

// Nothing for a Unix socket: all stays zero.
ProxyEnd end_of(const sockaddr_storage& at) {
  ProxyEnd end;
  if (at.ss_family == AF_INET) {
    const auto* in = reinterpret_cast<const sockaddr_in*>(&at);
    std::copy(kMapped.begin(), kMapped.end(), end.ip.begin());
    std::memcpy(&end.ip[12], &in->sin_addr, 4);
    end.port = ntohs(in->sin_port);
  } else if (at.ss_family == AF_INET6) {
    const auto* in6 = reinterpret_cast<const sockaddr_in6*>(&at);
    std::memcpy(end.ip.data(), &in6->sin6_addr, 16);
    end.port = ntohs(in6->sin6_port);
  }
  return end;
}

}  // namespace

void write_ip(const std::array<std::uint8_t, 16>& ip, std::array<char, 46>& out) {
  const bool v4 = std::equal(kMapped.begin(), kMapped.end(), ip.begin());
  inet_ntop(v4 ? AF_INET : AF_INET6, ip.data() + (v4 ? 12 : 0), out.data(), static_cast<socklen_t>(out.size()));
}

bool is_known(const std::array<std::uint8_t, 16>& ip) {
  std::array<std::uint8_t, 16> unnamed{};
  if (ip == unnamed) return false;
  std::copy(kMapped.begin(), kMapped.end(), unnamed.begin());
  return ip != unnamed;
}

Peer peer_of(int fd) {
  Peer peer;
  sockaddr_storage from{};
  socklen_t length = sizeof from;
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&from), &length) != 0) from.ss_family = AF_UNSPEC;
  if (from.ss_family != AF_INET && from.ss_family != AF_INET6) {
    std::memcpy(peer.text.data(), "unix", 5);
    return peer;
  }
  const ProxyEnd end = end_of(from);
  peer.ip = end.ip;
  peer.port = end.port;
  write_ip(peer.ip, peer.text);
  sockaddr_storage local{};
  length = sizeof local;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&local), &length) == 0) peer.local = end_of(local);
  return peer;
}

Peer peer_behind(const Peer& sender, const ProxyHeader& header) {
  Peer peer = sender;
  if (!header.has_addresses) {
    // Not ::, which stands for Unix sockets: only who trusts all of 0.0.0.0/0 trusts this.
    peer.ip = {};
    std::copy(kMapped.begin(), kMapped.end(), peer.ip.begin());
    return peer;
  }
  peer.ip = header.source.ip;
  peer.port = header.source.port;
  peer.local = header.destination;
  peer.text = {};
  write_ip(peer.ip, peer.text);
  return peer;
}

Result<Endpoint> to_endpoint(const config::Address& address) {
  Endpoint e;
  if (address.kind == config::Address::Kind::unix_socket) {
    auto* un = reinterpret_cast<sockaddr_un*>(&e.storage);
    if (address.path.size() >= sizeof un->sun_path) return fail(ErrorKind::invalid, "the socket's path is too long");
    un->sun_family = AF_UNIX;
    std::memcpy(un->sun_path, address.path.data(), address.path.size());
    e.length = static_cast<socklen_t>(sizeof(sockaddr_un));
    return e;
  }
  auto* in = reinterpret_cast<sockaddr_in*>(&e.storage);
  if (inet_pton(AF_INET, address.host.c_str(), &in->sin_addr) == 1) {
    in->sin_family = AF_INET;
    in->sin_port = htons(address.port);
    e.length = sizeof(sockaddr_in);
    return e;
  }
  e.storage = {};
  auto* in6 = reinterpret_cast<sockaddr_in6*>(&e.storage);
  if (inet_pton(AF_INET6, address.host.c_str(), &in6->sin6_addr) == 1) {
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(address.port);
    e.length = sizeof(sockaddr_in6);
    return e;
  }
  return fail(ErrorKind::invalid, "not an address literal");
}

namespace {

// One look-up. The request lives on the heap: after a cancel the resolver still owns it.
struct Lookup;
class LookupWait : public coro::Wait {
 public:
  LookupWait(Loop& loop, const std::string& host, std::uint16_t port);
  bool await_ready() const noexcept { return lookup_ == nullptr; }
  template <typename P>
  bool await_suspend(std::coroutine_handle<P> h) {
    return suspend(h);
  }
  Result<Endpoint> await_resume() { return result_; }
  void done(Result<Endpoint> result) {
    lookup_ = nullptr;
    result_ = std::move(result);
    wake();
  }

 private:
  static void on_cancel(Wait& w, const Error& reason);
  Lookup* lookup_ = nullptr;
  Result<Endpoint> result_ = fail(ErrorKind::io, "the look-up could not start");
};

struct Lookup {
  uv_getaddrinfo_t request{};
  LookupWait* wait = nullptr;  // null after a cancel
};

void finished(uv_getaddrinfo_t* request, int status, addrinfo* found) {
  const std::unique_ptr<Lookup> lookup(static_cast<Lookup*>(request->data));
  Loop::of(request->loop).enter();
  if (lookup->wait != nullptr) {
    if (status != 0 || found == nullptr) {
      lookup->wait->done(fail(ErrorKind::refused, "the name is not known", Side::upstream, status));
    } else {
      Endpoint e;
      std::memcpy(&e.storage, found->ai_addr, found->ai_addrlen);
      e.length = found->ai_addrlen;
      lookup->wait->done(e);
    }
  }
  uv_freeaddrinfo(found);
}

LookupWait::LookupWait(Loop& loop, const std::string& host, std::uint16_t port) : Wait(&on_cancel) {
  auto lookup = std::make_unique<Lookup>();
  lookup->request.data = lookup.get();
  lookup->wait = this;
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG;
  const std::string service = std::to_string(port);
  if (uv_getaddrinfo(loop.uv(), &lookup->request, &finished, host.c_str(), service.c_str(), &hints) == 0) {
    lookup_ = lookup.release();
  }
}

void LookupWait::on_cancel(Wait& w, const Error& reason) {
  auto& self = static_cast<LookupWait&>(w);
  if (self.lookup_ != nullptr) {
    self.lookup_->wait = nullptr;
    uv_cancel(reinterpret_cast<uv_req_t*>(&self.lookup_->request));
    self.lookup_ = nullptr;
  }
  self.result_ = std::unexpected(reason);
}

}  // namespace

coro::Task<Result<Endpoint>> resolve(Loop& loop, config::Address address) {
  auto literal = to_endpoint(address);
  if (literal || address.kind == config::Address::Kind::unix_socket) co_return literal;
  LookupWait lookup(loop, address.host, address.port);
  co_return co_await lookup;
}

}  // namespace perigee::net
