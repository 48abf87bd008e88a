#include "service_manager.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstring>

namespace perigee::app {

namespace {

// Nothing but digits, or zero.
std::uint64_t number_of(const std::string& text) {
  std::uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  return error == std::errc{} && stop == end ? value : 0;
}

}  // namespace

ServiceManager::ServiceManager(const ServiceEnvironment& said) {
  const std::string& at = said.notify_socket;
  const bool usable = at.size() > 1 && at.size() < sizeof(sockaddr_un::sun_path) && (at.front() == '/' || at.front() == '@');
  if (!usable) return;
  address_ = at;
  if (address_.front() == '@') address_.front() = '\0';
  fd_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const bool ours = said.watchdog_pid.empty() || number_of(said.watchdog_pid) == static_cast<std::uint64_t>(getpid());
  // A day is as good as never, and keeps the sum from overflowing.
  const std::uint64_t most = 86'400'000'000ULL;
  if (ours) watchdog_ = std::chrono::microseconds(std::min(number_of(said.watchdog_usec), most));
}

ServiceManager::~ServiceManager() {
  if (fd_ >= 0) ::close(fd_);
}

void ServiceManager::ready(std::string_view status) {
  std::string lines = "READY=1\nSTATUS=";
  tell(lines.append(status).append("\n"));
}

void ServiceManager::reloading(TimePoint now) {
  const auto us = std::chrono::duration_cast<std::chrono::microseconds>(now.time_since_epoch()).count();
  tell("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(us) + "\n");
}

void ServiceManager::stopping() { tell("STOPPING=1\n"); }
void ServiceManager::alive() { tell("WATCHDOG=1\n"); }

void ServiceManager::tell(const std::string& lines) {
  if (fd_ < 0) return;
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  std::memcpy(to.sun_path, address_.data(), address_.size());
  // An abstract name is as long as it is told; a path ends in its NUL.
  const bool abstract = address_.front() == '\0';
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address_.size() + (abstract ? 0 : 1));
  (void)::sendto(fd_, lines.data(), lines.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&to), length);
}

}  // namespace perigee::app
