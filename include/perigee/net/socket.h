// TCP and Unix sockets of one loop: connected, accepted, listening.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "perigee/base/result.h"
#include "perigee/coro/task.h"
#include "perigee/net/address.h"
#include "perigee/net/stream.h"

namespace perigee::net {

class Loop;

// Takes over a connected, non-blocking descriptor, closed in any case. TCP_NODELAY is set.
[[nodiscard]] Result<StreamPtr> adopt(Loop& loop, int fd, bool is_unix);

// The address that a socket is bound to; length 0 where it has none that we know.
[[nodiscard]] Endpoint local_endpoint(int fd);

// Where the proxy gets its connections to workers from; sockets in the product, memory pairs in tests.
class Connector {
 public:
  virtual ~Connector() = default;
  // Fails with `refused` (the peer said no), `exhausted` (no descriptor left), or what cancelled the wait.
  // Nothing was sent in any case. `to` must outlive the task.
  virtual coro::Task<Result<StreamPtr>> connect(const Endpoint& to) = 0;
};

class SocketConnector final : public Connector {
 public:
  explicit SocketConnector(Loop& loop) : loop_(loop) {}
  coro::Task<Result<StreamPtr>> connect(const Endpoint& to) override;

 private:
  Loop& loop_;
};

// A listening socket, accepting on the loop it was opened on. Accepted descriptors are handed to a function,
// which may pass them to another loop. Out of descriptors: accepting pauses, connections stay queued in the
// system, and it is tried again a tenth of a second later.
class Listener {
 public:
  // `fd` is non-blocking and belongs to the receiver.
  using OnAccept = std::function<void(int fd, bool is_unix)>;

  // `mode`: permissions of a Unix socket's file, 0 = what the umask leaves. The file is removed with the listener,
  // unless somebody else has put another in its place meanwhile; a file that nobody listens on any more is replaced.
  static Result<std::unique_ptr<Listener>> open(Loop& loop, const Endpoint& at, OnAccept on_accept, unsigned mode = 0);
  // Takes over a socket that somebody else has bound and listens on (systemd): closed with the listener, its file
  // stays. `invalid` (and the descriptor is left alone) where it is not such a socket of a kind we serve.
  static Result<std::unique_ptr<Listener>> adopt(Loop& loop, int fd, OnAccept on_accept);
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  ~Listener();

  // Stops or resumes taking connections; the socket stays open and its queue fills.
  void pause(bool pause);
  // The address as bound.
  [[nodiscard]] const std::string& text() const;

 private:
  struct Impl;
  explicit Listener(std::unique_ptr<Impl> impl);
  static std::unique_ptr<Listener> on(Loop& loop, int fd, const Endpoint& at, OnAccept on_accept);
  std::unique_ptr<Impl> impl_;
};

}  // namespace perigee::net
