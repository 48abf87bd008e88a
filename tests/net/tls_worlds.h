// The worlds of worlds.h with TLS over them, and contexts made of the test certificates (tests/data/tls).
#pragma once

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "perigee/net/tls.h"
#include "worlds.h"

namespace perigee::test {

inline std::string tls_file(const std::string& name) {
  return std::string(PERIGEE_TEST_DATA) + "/tls/" + name;
}
inline config::Certificate certificate(const std::string& name, const std::string& key = {}) {
  return {tls_file(name + ".pem"), tls_file((key.empty() ? name : key) + ".key")};
}

// Remembers what handshakes came to, in order.
class TlsLog final : public net::TlsEvents {
 public:
  void handshake(TlsSide side, TlsResult result, std::string_view, std::string_view, std::string_view detail) noexcept override {
    (side == TlsSide::client ? of_clients : of_workers).push_back(result);
    details.emplace_back(detail);
  }
  // As seen by the server, and by the client.
  std::vector<TlsResult> of_clients;
  std::vector<TlsResult> of_workers;
  std::vector<std::string> details;

  void clear() {
    of_clients.clear();
    of_workers.clear();
    details.clear();
  }
};

// Settings that work together; a test changes what it is about.
struct TlsSettings {
  config::ServerTls server;
  config::ClientTls client;
  TlsSettings() {
    server.certificates = {certificate("server"), certificate("other")};
    client.ca_file = tls_file("ca.pem");
    client.server_name = "orbit.test";
  }
};

class TlsContexts {
 public:
  explicit TlsContexts(const TlsSettings& settings = {}) { set(settings); }

  void set(const TlsSettings& settings) {
    net::TlsNotes notes;
    auto made_server = net::load_tls_server(settings.server, "server", parts(), notes);
    if (!made_server) FAIL(made_server.error());
    server = *made_server;
    set_client(settings.client);
  }
  void set_client(const config::ClientTls& how) {
    net::TlsNotes notes;
    auto made = net::load_tls_client(how, "worker", "127.0.0.1", parts(), notes);
    if (!made) FAIL(made.error());
    client = *made;
  }
  [[nodiscard]] net::TlsParts parts() { return {tickets, &log, 1'700'000'000'000}; }

  TlsLog log;
  ManualClock clock;
  std::shared_ptr<net::TlsTicketKeys> tickets = std::make_shared<net::TlsTicketKeys>(clock);
  net::TlsServerPtr server;
  net::TlsClientPtr client;
};

// A connector whose one connection is at hand already.
class Handed final : public net::Connector {
 public:
  explicit Handed(net::StreamPtr stream) : stream_(std::move(stream)) {}
  coro::Task<Result<net::StreamPtr>> connect(const net::Endpoint&) override { co_return std::move(stream_); }

 private:
  net::StreamPtr stream_;
};

inline coro::Task<Result<net::StreamPtr>> shake_hands(net::StreamPtr below, net::TlsClientPtr client) {
  Handed connector(std::move(below));
  const net::Endpoint nowhere;
  co_return co_await net::connect_tls(connector, nowhere, client);
}

// `a` is the client.
template <typename Base>
class TlsWorld : public Base {
 public:
  // A cut never looks like an end, whatever lies below.
  static constexpr bool kResets = true;

  coro::Task<Pair> secured() {
    Pair plain = this->pair();
    net::Peer peer;
    net::StreamPtr b = net::accept_tls(std::move(plain.b), tls_.server, peer);
    auto a = co_await shake_hands(std::move(plain.a), tls_.client);
    REQUIRE(a.has_value());
    const auto done = co_await b->drained(0);
    REQUIRE(done.has_value());
    // The tickets that follow a handshake of 1.3 arrive: closing over unread bytes is a reset, here as anywhere.
    co_await settle(*this);
    Pair pair{std::move(*a), std::move(b)};
    co_return pair;
  }

 private:
  TlsContexts tls_;
};

// A pair that is ready for use, of any world.
template <typename World>
coro::Task<Pair> connected(World& w) {
  if constexpr (requires { w.secured(); }) {
    co_return co_await w.secured();
  } else {
    co_return w.pair();
  }
}

}  // namespace perigee::test
