// Takes connections on the first data-plane loop and hands each to the loop with the fewest.
//
// One listening descriptor an address: SO_REUSEPORT would balance badly and drop queued connections. At
// max_connections accepting pauses, connections wait in the system's queue, and nobody is cut. Belongs to the first
// loop's thread but for open().
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "io_thread.h"
#include "perigee/coro/timer_wheel.h"
#include "perigee/net/socket.h"
#include "perigee/net/tls.h"

namespace perigee::app {

class Acceptor {
 public:
  // `threads` are joined before the acceptor goes; `most` connections in all.
  Acceptor(std::vector<std::unique_ptr<IoThread>>& threads, std::size_t most);
  ~Acceptor();

  // On the first loop: opens a listener, or takes over `passed` (a descriptor; -1 = none); what failed is said by the
  // error's detail. `tls`: null = plain.
  Result<void> listen(const config::Listener& listener, const net::Endpoint& at, int passed, net::TlsServerPtr tls);
  // On the first loop: what connections to the n-th listener speak from now on.
  void set_tls(std::size_t listener, net::TlsServerPtr tls) {
    if (listener < doors_.size()) doors_[listener]->tls = std::move(tls);
  }
  void close();

 private:
  // Stays until the threads are gone, which may still have connections of it.
  struct Door {
    const config::Listener settings;  // it was opened with
    net::TlsServerPtr tls;
    std::unique_ptr<net::Listener> listener;  // null: closed
  };
  void accepted(int fd, bool is_unix, const Door& door);
  [[nodiscard]] bool full() const;
  void pause(bool pause);

  struct Recheck : coro::Timer {
    explicit Recheck(Acceptor& a) : Timer([](coro::Timer& t) { static_cast<Recheck&>(t).acceptor.recheck(); }), acceptor(a) {}
    Acceptor& acceptor;
  };
  void recheck();

  std::vector<std::unique_ptr<IoThread>>& threads_;
  std::size_t most_;
  std::vector<std::unique_ptr<Door>> doors_;
  Recheck recheck_{*this};
};

}  // namespace perigee::app
