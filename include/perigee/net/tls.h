// TLS over any stream: 1.2 and 1.3 by OpenSSL 3, HTTP/1.1 only.
//
// A context is what one listener (TlsServer) or one worker (TlsClient) is spoken to with: certificates, trust,
// versions. It is read from files once, never changed, and shared by all loops; a reload makes new ones and
// running connections keep theirs. A TLS stream keeps the promises of stream.h, and these:
//  - an end without close_notify is a break (`reset`), never an end in good order: somebody may have cut it;
//  - shutdown() says close_notify, then FIN; letting go says close_notify where nothing is left unsent;
//  - until the handshake is done backlog() is at least 1, so that drained(0) waits for it;
//  - a stream at rest holds no buffers of its own.
#pragma once

#include <algorithm>
#include <algorithm>
#include <array>
#include <cstdint>
#include <expected>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "perigee/base/time.h"
#include "perigee/base/tls_result.h"
#include "perigee/config/config.h"
#include "perigee/coro/task.h"
#include "perigee/net/address.h"
#include "perigee/net/socket.h"
#include "perigee/net/stream.h"

namespace perigee::net {

// Told of each handshake, once, on the loop that it happened on: must be safe on any thread.
class TlsEvents {
 public:
  virtual ~TlsEvents() = default;
  // `name`: the listener's address or the worker's name. `peer`: the client's address, empty for workers.
  // `detail`: OpenSSL's reason or ours.
  virtual void handshake(TlsSide side, TlsResult result, std::string_view name, std::string_view peer,
                         std::string_view detail) noexcept = 0;
};

// The keys that session tickets are sealed with (AES-256, HMAC-SHA-256): nobody holds sessions, any loop and any
// listener opens them, and they outlive a reload. A key seals for an hour and opens for another one. Any thread.
class TlsTicketKeys {
 public:
  static constexpr Duration kLife = std::chrono::hours(1);

  // `clock` outlives the keys.
  explicit TlsTicketKeys(const Clock& clock) : clock_(clock) {}
  ~TlsTicketKeys();
  TlsTicketKeys(const TlsTicketKeys&) = delete;
  TlsTicketKeys& operator=(const TlsTicketKeys&) = delete;

  struct Key {
    std::array<unsigned char, 16> name{};
    std::array<unsigned char, 32> cipher{};
    std::array<unsigned char, 32> mac{};
    TimePoint made;
  };
  // The key to seal with now. Nothing when the system has no randomness to give.
  [[nodiscard]] std::optional<Key> sealing();
  // The key of that name, if it still opens; `fresh` = it still seals.
  [[nodiscard]] std::optional<Key> opening(const unsigned char* name, bool& fresh);

 private:
  bool turn();  // under the lock: brings the two keys up to date

  const Clock& clock_;
  std::mutex mutex_;
  std::optional<Key> current_;
  std::optional<Key> previous_;
};

// What contexts are made of besides their files.
struct TlsParts {
  std::shared_ptr<TlsTicketKeys> tickets;  // of servers
  TlsEvents* events = nullptr;             // outlives all contexts and streams; null: nobody listens
  std::int64_t wall_ms = 0;                // now, to judge the validity of our own certificates
};

// What is said of files that could be read.
struct TlsNotes {
  std::vector<std::string> warnings;            // an expired certificate of ours
  std::optional<std::int64_t> earliest_expiry;  // of all our own certificates, in seconds since 1970

  void expires(std::int64_t at) { earliest_expiry = earliest_expiry ? std::min(*earliest_expiry, at) : at; }
};

class TlsServer;
class TlsClient;
using TlsServerPtr = std::shared_ptr<const TlsServer>;
using TlsClientPtr = std::shared_ptr<const TlsClient>;

// Reads and checks the files, blocking. The error is `FILE: reason`. `name` is for logs.
std::expected<TlsServerPtr, std::string> load_tls_server(const config::ServerTls& how, std::string name,
                                                         const TlsParts& parts, TlsNotes& notes);
// `host`: the worker's name or address as its URL has it, used unless `how` names another.
std::expected<TlsClientPtr, std::string> load_tls_client(const config::ClientTls& how, std::string name,
                                                         const std::string& host, const TlsParts& parts,
                                                         TlsNotes& notes);

// The server's side of a connection. The handshake is done while somebody reads: the clock of that read is its
// clock. `peer` is for logs.
[[nodiscard]] StreamPtr accept_tls(StreamPtr below, TlsServerPtr server, const Peer& peer);

// Connects and shakes hands; without `client` connects only. Fails as Connector::connect does, and with `refused`
// when the handshake fails. Nothing was sent in any case. `to` must outlive the task's first step only.
[[nodiscard]] coro::Task<Result<StreamPtr>> connect_tls(Connector& connector, const Endpoint& to,
                                                        TlsClientPtr client);

}  // namespace perigee::net
