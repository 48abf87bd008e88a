// systemd, or whoever speaks its protocol: what it said in the environment, and what it wants to hear.
//
// sd_notify in a few lines, without a library: one datagram of `NAME=value` lines to the Unix socket that
// NOTIFY_SOCKET names (a path, or `@name` in the abstract space). Nobody listening is no error. Control thread only.
// Source: sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3).
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "perigee/base/time.h"

namespace perigee::app {

// The variables, as text; empty = not set. Read once at the start by main.cpp.
struct ServiceEnvironment {
  std::string listen_fds;
  std::string listen_pid;
  std::string listen_names;
  std::string notify_socket;
  std::string watchdog_usec;
  std::string watchdog_pid;

  [[nodiscard]] std::array<std::pair<const char*, std::string&>, 6> variables() {
    return {{{"LISTEN_FDS", listen_fds},
             {"LISTEN_PID", listen_pid},
             {"LISTEN_FDNAMES", listen_names},
             {"NOTIFY_SOCKET", notify_socket},
             {"WATCHDOG_USEC", watchdog_usec},
             {"WATCHDOG_PID", watchdog_pid}}};
  }
};

class ServiceManager {
 public:
  explicit ServiceManager(const ServiceEnvironment& said);
  ServiceManager(const ServiceManager&) = delete;
  ServiceManager& operator=(const ServiceManager&) = delete;
  ~ServiceManager();

  // After start, and after each reload. `status`: one line for `systemctl status`; empty = none.
  void ready(std::string_view status = {});
  void reloading(TimePoint now);
  void stopping();
  void alive();
  // Silence after which we are taken for dead; zero = nobody looks.
  [[nodiscard]] Duration watchdog() const { return watchdog_; }

 private:
  void tell(const std::string& lines);
  int fd_ = -1;
  std::string address_;  // as it stands in sun_path
  Duration watchdog_{};
};

}  // namespace perigee::app
