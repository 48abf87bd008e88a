// An origin of slow streams: `GET /tokens/N` is answered by N server-sent events, one each `--interval-ms`,
// then a terminal event and the last chunk; any other request by a short 200, which satisfies a proxy's
// health check. Holds thousands of streams in one process.
//
//   sse_origin --listen 127.0.0.1:9000 --interval-ms 1000
//
// Every event has its number and the time of its sending (CLOCK_MONOTONIC), so that the client can tell what
// was lost and how long it was on its way. Runs until a signal ends it.
#include <deque>
#include <memory>

#include "common.h"

namespace {

using namespace bench;

constexpr std::string_view kHead =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    "Transfer-Encoding: chunked\r\n\r\n";
constexpr std::string_view kShort =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n";

struct Stream {
  int fd = -1;
  std::uint64_t generation = 0;  // a descriptor is reused, its old turns in the line are not
  long sent = 0;
  long tokens = 0;
  std::string head;  // of the request, until it is whole
};

struct Turn {
  std::int64_t due;
  int fd;
  std::uint64_t generation;
};

class Origin {
 public:
  Origin(const std::string& where, std::int64_t interval) : listener_(listen_on(where)), interval_(interval) {
    poll_.add(listener_, EPOLLIN, static_cast<std::uint64_t>(listener_));
  }

  [[noreturn]] void run() {
    for (;;) {
      // All intervals are equal, so the line of turns is in order of time by itself.
      const std::int64_t now = now_ns();
      while (!turns_.empty() && turns_.front().due <= now) {
        const Turn turn = turns_.front();
        turns_.pop_front();
        take(turn);
      }
      const std::int64_t until = turns_.empty() ? now + kSecond : turns_.front().due;
      poll_.wait(until, [this](std::uint64_t what, std::uint32_t) {
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
      if (streams_.size() <= static_cast<std::size_t>(fd)) streams_.resize(static_cast<std::size_t>(fd) + 1);
      streams_[static_cast<std::size_t>(fd)] = std::make_unique<Stream>();
      Stream& stream = *streams_[static_cast<std::size_t>(fd)];
      stream.fd = fd;
      stream.generation = ++generation_;
      poll_.add(fd, EPOLLIN, static_cast<std::uint64_t>(fd));
    }
  }

  void read(int fd) {
    char data[4096];
    const ssize_t size = recv(fd, data, sizeof data, 0);
    Stream& stream = *streams_[static_cast<std::size_t>(fd)];
    if (size <= 0) {
      if (size < 0 && errno == EAGAIN) return;
      return drop(stream);
    }
    if (stream.tokens > 0) return;  // one request at a time
    stream.head.append(data, static_cast<std::size_t>(size));
    if (stream.head.find("\r\n\r\n") == std::string::npos) return;
    constexpr std::string_view kOwn = "GET /tokens/";
    stream.tokens = stream.head.starts_with(kOwn) ? std::atol(stream.head.c_str() + kOwn.size()) : 0;
    if (stream.tokens <= 0) {
      stream.tokens = 0;
      stream.head = {};
      write(stream, kShort);
      return;
    }
    stream.head = {};
    stream.sent = 0;
    if (!write(stream, kHead)) return;
    take({now_ns(), fd, stream.generation});
  }

  void take(const Turn& turn) {
    const auto& kept = streams_[static_cast<std::size_t>(turn.fd)];
    if (!kept || kept->generation != turn.generation) return;
    Stream& stream = *kept;
    char event[160];
    char framed[200];
    const bool last = stream.sent == stream.tokens;
    const int size =
        last ? std::snprintf(event, sizeof event, "data: {\"done\":true,\"n\":%ld}\n\n", stream.sent)
             : std::snprintf(event, sizeof event, "data: {\"response\":\" token\",\"n\":%ld,\"t\":%lld}\n\n",
                             stream.sent, static_cast<long long>(now_ns()));
    const int all = std::snprintf(framed, sizeof framed, "%x\r\n%s\r\n%s", static_cast<unsigned>(size), event,
                                  last ? "0\r\n\r\n" : "");
    if (!write(stream, {framed, static_cast<std::size_t>(all)})) return;
    if (last) {
      stream.tokens = 0;
      return;
    }
    ++stream.sent;
    turns_.push_back({turn.due + interval_, turn.fd, turn.generation});
  }

  // A stream is a few bytes a second: a socket that takes no more of them is a fault, not back-pressure.
  bool write(Stream& stream, std::string_view data) {
    if (send(stream.fd, data.data(), data.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(data.size()))
      return true;
    drop(stream);
    return false;
  }

  void drop(Stream& stream) {
    const int fd = stream.fd;
    streams_[static_cast<std::size_t>(fd)].reset();
    close(fd);
  }

  Poll poll_;
  int listener_;
  std::int64_t interval_;
  std::uint64_t generation_ = 0;
  std::vector<std::unique_ptr<Stream>> streams_;  // by descriptor
  std::deque<Turn> turns_;
};

}  // namespace

int main(int argc, char** argv) {
  const Options options(argc, argv, " --listen --interval-ms ");
  prepare_process();
  const std::string where = options.text("--listen", "127.0.0.1:9000");
  Origin origin(where, static_cast<std::int64_t>(options.number("--interval-ms", 1000) * 1e6));
  std::printf("sse_origin ready %s\n", where.c_str());
  origin.run();
}
