// Opens many WebSockets that are idle most of the time: each says something when it is open, and then every
// --interval-s, and checks that just this comes back. Beside ws_origin.
//
//   ws_client --target 127.0.0.1:3000 --sockets 9000 --ramp-s 9 --seconds 60 --interval-s 20
//
// Prints a line a second ("tick SECONDS OPEN ECHOES"; OPEN = those that have had an echo and not ended), and at
// the end one line of JSON. After --seconds nothing new is said; each socket is closed by a close frame, which
// must be answered. `lost` are messages that never came back, `wrong` answers that were not what was said.
#include "websocket.h"

namespace {

using namespace bench;

enum class Stage : std::uint8_t { connecting, shaking, open, closing, ended };

struct Socket {
  int fd = -1;
  Stage stage = Stage::connecting;
  bool counted = false;  // in `open`
  long said = 0;
  long heard = 0;
  std::int64_t since = 0;  // of the message that is out
  std::string held;
};

struct Totals {
  long open = 0;
  long ended = 0;
  long complete = 0;
  long refused = 0;
  long broken = 0;
  long said = 0;
  long echoes = 0;
  long lost = 0;
  long wrong = 0;
  Samples echo;
};

class Client {
 public:
  explicit Client(const Options& options)
      : target_(address_of(options.text("--target", "127.0.0.1:3000"))),
        ramp_(static_cast<std::int64_t>(options.number("--ramp-s", 5) * 1e9)),
        talk_(static_cast<std::int64_t>(options.number("--seconds", 60) * 1e9)),
        interval_(static_cast<std::int64_t>(options.number("--interval-s", 20) * 1e9)),
        limit_(static_cast<std::int64_t>(options.number("--limit-s", 300) * 1e9)),
        sockets_(static_cast<std::size_t>(options.number("--sockets", 100))) {}

  int run() {
    began_ = now_ns();
    std::int64_t tick = began_ + kSecond;
    const auto count = static_cast<std::int64_t>(sockets_.size());
    // Socket i has its turn at these times: to open, then every interval to say something, then to close.
    const auto opens = [&](std::int64_t turn) {
      return began_ + ramp_ * (turn % count) / count + interval_ * (turn / count);
    };
    std::int64_t turn = 0;
    std::int64_t closing = 0;
    while (totals_.ended < count) {
      const std::int64_t now = now_ns();
      const bool talking = now < began_ + talk_;
      while (talking && opens(turn) <= now) {
        take_turn(static_cast<std::size_t>(turn % count), turn < count);
        ++turn;
      }
      if (turn < count && !talking) fail("ws_client: --seconds is over before all sockets were opened");
      // A ramp down, too: nine thousand closes at once would measure the closing.
      while (!talking && closing < count && began_ + talk_ + ramp_ * closing / count <= now)
        finish(static_cast<std::size_t>(closing++));
      if (now >= tick) {
        std::printf("tick %.3f %ld %ld\n", static_cast<double>(now - began_) / 1e9, totals_.open,
                    totals_.echoes);
        tick += kSecond;
      }
      if (now - began_ > limit_) break;
      std::int64_t until = tick;
      if (talking)
        until = std::min({until, opens(turn), began_ + talk_});
      else if (closing < count)
        until = std::min(until, began_ + talk_ + ramp_ * closing / count);
      poll_.wait(until, [this](std::uint64_t what, std::uint32_t) { ready(what); });
    }
    std::printf(
        "{\"sockets\":%lld,\"complete\":%ld,\"unfinished\":%lld,\"refused\":%ld,\"broken\":%ld,"
        "\"said\":%ld,\"echoes\":%ld,\"lost\":%ld,\"wrong\":%ld,\"echo\":%s}\n",
        static_cast<long long>(count), totals_.complete, static_cast<long long>(count - totals_.ended),
        totals_.refused, totals_.broken, totals_.said, totals_.echoes, totals_.lost, totals_.wrong,
        totals_.echo.json().c_str());
    return totals_.ended == count ? 0 : 1;
  }

 private:
  void take_turn(std::size_t i, bool first) {
    if (!first) return say(i);
    sockets_[i].fd = begin_connect(target_, 1 + static_cast<int>(i % 4));
    if (sockets_[i].fd < 0) return end(sockets_[i], false);
    poll_.add(sockets_[i].fd, EPOLLOUT, i);
  }

  [[nodiscard]] static std::string message(std::size_t i, long n) {
    return "socket " + std::to_string(i) + " says " + std::to_string(n);
  }

  // One message at a time: where the last one is not back, it is late, and the end will tell whether it is lost.
  void say(std::size_t i) {
    Socket& socket = sockets_[i];
    if (socket.stage != Stage::open || socket.heard < socket.said) return;
    socket.since = now_ns();
    if (!write(socket, frame(Opcode::text, message(i, socket.said++), true))) return;
    ++totals_.said;
  }

  void finish(std::size_t i) {
    Socket& socket = sockets_[i];
    if (socket.stage == Stage::ended) return;
    if (socket.stage != Stage::open) return end(socket, false);
    socket.stage = Stage::closing;
    write(socket, frame(Opcode::close, "\x03\xe8", true));
  }

  void ready(std::uint64_t what) {
    Socket& socket = sockets_[what];
    if (socket.fd < 0) return;
    if (socket.stage == Stage::connecting) {
      if (connect_error(socket.fd) != 0) return end(socket, false);
      socket.stage = Stage::shaking;
      poll_.change(socket.fd, EPOLLIN, what);
      write(socket,
            "GET /ws HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " +
                std::string(kWebSocketKey) + "\r\n\r\n");
      return;
    }
    char data[4096];
    const ssize_t size = recv(socket.fd, data, sizeof data, 0);
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) return end(socket, false);
    socket.held.append(data, static_cast<std::size_t>(size));
    if (socket.stage == Stage::shaking) {
      const std::size_t head = socket.held.find("\r\n\r\n");
      if (head == std::string::npos) return;
      if (!socket.held.starts_with("HTTP/1.1 101 ") || socket.held.find(kWebSocketAccept) > head) {
        ++totals_.refused;
        --totals_.broken;  // which the end counts it as
        return end(socket, false);
      }
      socket.held = socket.held.substr(head + 4);
      socket.stage = Stage::open;
      return say(what);
    }
    while (const auto got = take_frame(socket.held)) {
      if (got->opcode == Opcode::close && socket.stage == Stage::closing) return end(socket, true);
      if (got->opcode != Opcode::text || got->masked) return end(socket, false);
      if (got->text != message(what, socket.heard)) ++totals_.wrong;
      ++socket.heard;
      ++totals_.echoes;
      totals_.echo.add(now_ns() - socket.since);
      if (!socket.counted) {
        socket.counted = true;
        ++totals_.open;
      }
    }
  }

  bool write(Socket& socket, std::string_view data) {
    if (send(socket.fd, data.data(), data.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(data.size()))
      return true;
    end(socket, false);
    return false;
  }

  void end(Socket& socket, bool in_order) {
    if (socket.fd >= 0) close(socket.fd);
    socket.fd = -1;
    socket.stage = Stage::ended;
    socket.held = {};
    if (socket.counted) --totals_.open;
    ++totals_.ended;
    totals_.lost += socket.said - socket.heard;
    ++(in_order && socket.said == socket.heard ? totals_.complete : totals_.broken);
  }

  sockaddr_in target_;
  std::int64_t ramp_;
  std::int64_t talk_;
  std::int64_t interval_;
  std::int64_t limit_;
  std::int64_t began_ = 0;
  Poll poll_;
  std::vector<Socket> sockets_;
  Totals totals_;
};

}  // namespace

int main(int argc, char** argv) {
  const Options options(argc, argv, " --target --sockets --ramp-s --seconds --interval-s --limit-s ");
  prepare_process();
  return Client(options).run();
}
