// An origin of WebSockets: says back every message as it came, and closes when asked to. Any request that is no
// handshake is answered by a short 200, which satisfies a proxy's health check.
//
//   ws_origin --listen 127.0.0.1:9000
//
// Runs until a signal ends it.
#include <memory>

#include "websocket.h"

namespace {

using namespace bench;

constexpr std::string_view kShort =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n";

struct Peer {
  bool open = false;  // the handshake is done
  std::string held;
};

class Origin {
 public:
  explicit Origin(const std::string& where) : listener_(listen_on(where)) {
    poll_.add(listener_, EPOLLIN, static_cast<std::uint64_t>(listener_));
  }

  [[noreturn]] void run() {
    for (;;) {
      poll_.wait(now_ns() + kSecond, [this](std::uint64_t what, std::uint32_t) {
        const int fd = static_cast<int>(what);
        if (fd == listener_) {
          accept_all();
        } else {
          read(fd);
        }
      });
    }
  }

 private:
  void accept_all() {
    for (int fd; (fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
      set(fd, IPPROTO_TCP, TCP_NODELAY);
      if (peers_.size() <= static_cast<std::size_t>(fd)) peers_.resize(static_cast<std::size_t>(fd) + 1);
      peers_[static_cast<std::size_t>(fd)] = std::make_unique<Peer>();
      poll_.add(fd, EPOLLIN, static_cast<std::uint64_t>(fd));
    }
  }

  void read(int fd) {
    char data[4096];
    const ssize_t size = recv(fd, data, sizeof data, 0);
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) return drop(fd);
    Peer& peer = *peers_[static_cast<std::size_t>(fd)];
    peer.held.append(data, static_cast<std::size_t>(size));
    if (!peer.open && !shake_hands(fd, peer)) return;
    while (const auto got = take_frame(peer.held)) {
      if (got->opcode == Opcode::text && got->masked) {
        if (!write(fd, frame(Opcode::text, got->text, false))) return;
      } else {
        if (got->opcode == Opcode::close) write(fd, frame(Opcode::close, got->text, false));
        return drop(fd);
      }
    }
  }

  // True when what follows in `held` is frames.
  bool shake_hands(int fd, Peer& peer) {
    const std::size_t end = peer.held.find("\r\n\r\n");
    if (end == std::string::npos) return false;
    const bool wanted = peer.held.find(kWebSocketKey) < end;
    peer.held.erase(0, end + 4);
    if (peer.held.empty()) peer.held = {};
    if (!wanted) {
      write(fd, kShort);
      return false;
    }
    peer.open = true;
    return write(fd,
                 "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 "Sec-WebSocket-Accept: " +
                     std::string(kWebSocketAccept) + "\r\n\r\n");
  }

  // A few bytes now and then: a socket that takes no more of them is a fault, not back-pressure.
  bool write(int fd, std::string_view data) {
    if (send(fd, data.data(), data.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(data.size())) return true;
    drop(fd);
    return false;
  }

  void drop(int fd) {
    if (!peers_[static_cast<std::size_t>(fd)]) return;
    peers_[static_cast<std::size_t>(fd)].reset();
    close(fd);
  }

  Poll poll_;
  int listener_;
  std::vector<std::unique_ptr<Peer>> peers_;  // by descriptor
};

}  // namespace

int main(int argc, char** argv) {
  const Options options(argc, argv, " --listen ");
  prepare_process();
  const std::string where = options.text("--listen", "127.0.0.1:9000");
  Origin origin(where);
  std::printf("ws_origin ready %s\n", where.c_str());
  origin.run();
}
