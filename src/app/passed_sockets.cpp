#include "passed_sockets.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "perigee/net/socket.h"

namespace perigee::app {

namespace {

constexpr int kFirst = 3;
constexpr int kMost = 64;  // as many as there may be listeners

int number_of(const std::string& text) {
  int value = -1;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  return error == std::errc{} && stop == end ? value : -1;
}

}  // namespace

PassedSockets PassedSockets::take(const ServiceEnvironment& said) {
  PassedSockets taken;
  if (number_of(said.listen_pid) != getpid()) return taken;
  const int count = std::clamp(number_of(said.listen_fds), 0, kMost);
  std::string names = said.listen_names;
  for (int fd = kFirst; fd < kFirst + count; ++fd) {
    const std::size_t colon = std::min(names.find(':'), names.size());
    Socket socket{fd, names.substr(0, colon), net::local_endpoint(fd)};
    names.erase(0, colon + 1);
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    taken.sockets_.push_back(std::move(socket));
  }
  return taken;
}

int PassedSockets::claim(const std::string& name) {
  for (Socket& socket : sockets_) {
    if (socket.fd >= 0 && socket.name == name) return std::exchange(socket.fd, -1);
  }
  return -1;
}

int PassedSockets::claim(const net::Endpoint& at) {
  for (Socket& socket : sockets_) {
    if (socket.fd >= 0 && socket.at.length != 0 && socket.at.text() == at.text()) return std::exchange(socket.fd, -1);
  }
  return -1;
}

std::vector<std::string> PassedSockets::close_unclaimed() {
  std::vector<std::string> unwanted;
  for (Socket& socket : sockets_) {
    if (socket.fd < 0) continue;
    unwanted.push_back(socket.name + " " + socket.at.text());
    ::close(std::exchange(socket.fd, -1));
  }
  return unwanted;
}

}  // namespace perigee::app
