#include "admin_client.h"

#include <netdb.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <string_view>

namespace perigee::app {

namespace {

using config::Command;

// A reload may look names up.
constexpr timeval kPatience{70, 0};
constexpr std::size_t kAnswerMax = 16UL * 1024 * 1024;

struct Question {
  std::string_view method = "POST";
  std::string path;
  std::string body;
};

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) >= 0x20) out += c;
  }
  return out + "\"";
}

// A name as one segment of a path.
std::string escaped(const std::string& name) {
  constexpr std::string_view kPlain = "-._~:@";
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string out;
  for (const char c : name) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || kPlain.find(c) != kPlain.npos;
    if (plain) {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out += '%';
      out += kHex[byte >> 4U];
      out += kHex[byte & 15U];
    }
  }
  return out;
}

Question question_of(const config::CommandLine& line) {
  const std::string backend = "/api/v1/backends/" + escaped(line.name);
  const std::string pool = line.name.empty() ? std::string() : "{\"pool\":" + quoted(line.name) + "}";
  switch (line.command) {
    case Command::reload: return {"POST", "/api/v1/reload", {}};
    case Command::drain: return {"POST", line.name.empty() ? "/api/v1/drain" : backend + "/drain", {}};
    case Command::pause: return {"POST", "/api/v1/pause", pool};
    case Command::resume: return {"POST", "/api/v1/resume", pool};
    case Command::enable: return {"POST", backend + "/enable", {}};
    case Command::eject: return {"POST", backend + "/eject", {}};
    case Command::limit: return {"POST", backend + "/limit", "{\"slots\":" + (line.slots == "none" ? "null" : line.slots) + "}"};
    default: return {"GET", "/api/v1/status", {}};
  }
}

struct Socket {
  int fd = -1;
  explicit Socket(int descriptor) : fd(descriptor) {}
  ~Socket() {
    if (fd >= 0) ::close(fd);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
};

int connect_unix(const std::string& path) {
  sockaddr_un at{};
  at.sun_family = AF_UNIX;
  if (path.size() >= sizeof at.sun_path) return -1;
  std::memcpy(at.sun_path, path.c_str(), path.size() + 1);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd >= 0 && ::connect(fd, reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0) return fd;
  if (fd >= 0) ::close(fd);
  return -1;
}

int connect_tcp(const config::Address& at) {
  // What listens everywhere is asked on loopback.
  const std::string host = at.host == "0.0.0.0" ? "127.0.0.1" : at.host == "::" ? "::1" : at.host;
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), std::to_string(at.port).c_str(), &hints, &found) != 0) return -1;
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> all(found, &::freeaddrinfo);
  for (const addrinfo* a = found; a != nullptr; a = a->ai_next) {
    const int fd = ::socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && ::connect(fd, a->ai_addr, a->ai_addrlen) == 0) return fd;
    if (fd >= 0) ::close(fd);
  }
  return -1;
}

bool send_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

Told failed(std::string why) { return {false, 0, std::move(why)}; }

}  // namespace

Told ask_admin(const config::Admin& admin, const config::CommandLine& line) {
  if (!admin.enabled) return failed("`admin: off`: nobody can be asked");
  const bool is_unix = admin.address.kind == config::Address::Kind::unix_socket;
  const Socket socket(is_unix ? connect_unix(admin.address.path) : connect_tcp(admin.address));
  if (socket.fd < 0) return failed("nobody answers at " + admin.address.text() + ": " + std::strerror(errno));
  ::setsockopt(socket.fd, SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  ::setsockopt(socket.fd, SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience);

  const Question question = question_of(line);
  std::string request = std::string(question.method) + " " + question.path + " HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
  if (!admin.token.empty()) request += "authorization: Bearer " + admin.token + "\r\n";
  if (!question.body.empty()) request += "content-type: application/json\r\n";
  if (question.method == "POST") request += "content-length: " + std::to_string(question.body.size()) + "\r\n";
  request += "\r\n" + question.body;
  if (!send_all(socket.fd, request)) return failed("the connection to " + admin.address.text() + " broke");

  std::string answer;
  char buffer[16 * 1024];
  for (;;) {
    const ssize_t n = ::recv(socket.fd, buffer, sizeof buffer, 0);
    if (n < 0) return failed("no answer from " + admin.address.text() + " in time");
    if (n == 0) break;
    answer.append(buffer, static_cast<std::size_t>(n));
    if (answer.size() > kAnswerMax) return failed("an answer of more than 16 MiB");
  }
  const std::size_t end = answer.find("\r\n\r\n");
  constexpr std::string_view kStart = "HTTP/1.1 ";
  if (end == std::string::npos || !answer.starts_with(kStart)) return failed("no HTTP at " + admin.address.text());
  Told told{true, 0, answer.substr(end + 4)};
  std::from_chars(answer.data() + kStart.size(), answer.data() + kStart.size() + 3, told.status);
  return told;
}

}  // namespace perigee::app
