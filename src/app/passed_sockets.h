// Listening sockets that systemd opened for us (socket activation) and that a configured listener may claim, by the
// name they were given or by the address they are bound to.
#pragma once

#include <string>
#include <vector>

#include "perigee/net/address.h"
#include "service_manager.h"

namespace perigee::app {

class PassedSockets {
 public:
  // Descriptors from 3 on, where LISTEN_PID is this process and LISTEN_FDS says how many; none otherwise.
  static PassedSockets take(const ServiceEnvironment& said);

  // The descriptor, now the caller's; -1 = there is none. Each is handed out once.
  [[nodiscard]] int claim(const std::string& name);
  [[nodiscard]] int claim(const net::Endpoint& at);
  // Closes those that nobody wanted, and tells which they were.
  std::vector<std::string> close_unclaimed();

 private:
  struct Socket {
    int fd = -1;
    std::string name;
    net::Endpoint at;
  };
  std::vector<Socket> sockets_;
};

}  // namespace perigee::app
