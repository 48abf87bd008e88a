// Opens many streams and checks every event of every one: number, order, end. Beside sse_origin.
//
//   sse_client --target 127.0.0.1:3000 --streams 5000 --ramp-s 5 --tokens 60
//
// Prints a line a second ("tick SECONDS OPEN EVENTS", OPEN = streams that have had an event and not ended),
// and at the end one line of JSON. `lost` counts numbers that were skipped; `transit` is the time from the
// origin's send to here. Ends when all streams have ended, or with status 1 at --limit-s.
#include <memory>

#include "common.h"

namespace {

using namespace bench;

struct Stream {
  int fd = -1;
  bool connected = false;
  bool done = false;  // terminal event seen
  long next = 0;
  Answer answer;
  std::string held;
};

struct Totals {
  long events = 0;
  long open = 0;
  long ended = 0;
  long complete = 0;
  long lost = 0;
  long disordered = 0;
  long refused = 0;  // answered, but not by 200
  long broken = 0;   // no connection, cut, or nonsense
  Samples transit;
};

long long number_after(std::string_view text, std::string_view key) {
  const std::size_t at = text.find(key);
  if (at == std::string_view::npos) return -1;
  long long value = -1;
  std::from_chars(text.data() + at + key.size(), text.data() + text.size(), value);
  return value;
}

class Client {
 public:
  explicit Client(const Options& options)
      : target_(address_of(options.text("--target", "127.0.0.1:3000"))),
        tokens_(static_cast<long>(options.number("--tokens", 60))),
        ramp_(static_cast<std::int64_t>(options.number("--ramp-s", 5) * 1e9)),
        limit_(static_cast<std::int64_t>(options.number("--limit-s", 300) * 1e9)),
        streams_(static_cast<std::size_t>(options.number("--streams", 100))) {
    request_ = "GET /tokens/" + std::to_string(tokens_) +
               " HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\nUser-Agent: sse_client\r\n\r\n";
  }

  int run() {
    const std::int64_t began = now_ns();
    std::int64_t tick = began + kSecond;
    std::size_t opened = 0;
    const auto count = static_cast<std::int64_t>(streams_.size());
    while (totals_.ended < count) {
      const std::int64_t now = now_ns();
      while (opened < streams_.size() && began + ramp_ * static_cast<std::int64_t>(opened) / count <= now) {
        open(opened++);
      }
      if (now >= tick) {
        std::printf("tick %.3f %ld %ld\n", static_cast<double>(now - began) / 1e9, totals_.open,
                    totals_.events);
        tick += kSecond;
      }
      if (now - began > limit_) break;
      std::int64_t until = tick;
      if (opened < streams_.size()) {
        until = std::min(until, began + ramp_ * static_cast<std::int64_t>(opened) / count);
      }
      poll_.wait(until, [this](std::uint64_t what, std::uint32_t events) { ready(what, events); });
    }
    const bool in_time = totals_.ended == count;
    std::printf(
        "{\"streams\":%lld,\"complete\":%ld,\"unfinished\":%lld,\"refused\":%ld,\"broken\":%ld,\"events\":%"
        "ld,"
        "\"expected\":%lld,\"lost\":%ld,\"disordered\":%ld,\"transit\":%s}\n",
        static_cast<long long>(count), totals_.complete, static_cast<long long>(count - totals_.ended),
        totals_.refused, totals_.broken, totals_.events,
        static_cast<long long>(count) * static_cast<long long>(tokens_), totals_.lost, totals_.disordered,
        totals_.transit.json().c_str());
    return in_time ? 0 : 1;
  }

 private:
  void open(std::size_t i) {
    streams_[i].fd = begin_connect(target_, 1 + static_cast<int>(i % 4));
    if (streams_[i].fd < 0) {
      ++totals_.broken;
      ++totals_.ended;
      return;
    }
    poll_.add(streams_[i].fd, EPOLLOUT, i);
  }

  void ready(std::uint64_t what, std::uint32_t) {
    Stream& stream = streams_[what];
    if (!stream.connected) {
      if (connect_error(stream.fd) != 0 || send(stream.fd, request_.data(), request_.size(), MSG_NOSIGNAL) !=
                                               static_cast<ssize_t>(request_.size())) {
        return end(stream);
      }
      stream.connected = true;
      return poll_.change(stream.fd, EPOLLIN, what);
    }
    char data[16384];
    const ssize_t size = recv(stream.fd, data, sizeof data, 0);
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) {
      stream.answer.end();
      return end(stream);
    }
    const std::int64_t now = now_ns();
    const Answer::State state =
        stream.answer.feed({data, static_cast<std::size_t>(size)}, [&](std::string_view part) {
          split_events(stream.held, part, [&](std::string_view event) { take(stream, event, now); });
        });
    if (state == Answer::State::complete || state == Answer::State::broken) end(stream);
  }

  void take(Stream& stream, std::string_view event, std::int64_t now) {
    const auto n = static_cast<long>(number_after(event, "\"n\":"));
    if (event.find("\"done\":true") != std::string_view::npos) {
      stream.done = true;
      totals_.lost += std::max(0L, tokens_ - stream.next);
      return;
    }
    if (n < 0) return;
    if (stream.next == 0) ++totals_.open;
    ++totals_.events;
    if (n > stream.next) totals_.lost += n - stream.next;
    if (n < stream.next) ++totals_.disordered;
    stream.next = n + 1;
    totals_.transit.add(now - number_after(event, "\"t\":"));
  }

  void end(Stream& stream) {
    if (stream.fd >= 0) close(stream.fd);
    stream.fd = -1;
    ++totals_.ended;
    if (stream.next > 0) --totals_.open;
    if (stream.answer.state() == Answer::State::complete && stream.answer.status() != 200) {
      ++totals_.refused;
    } else if (stream.answer.state() == Answer::State::complete && stream.done) {
      ++totals_.complete;
    } else {
      ++totals_.broken;
      if (!stream.done) totals_.lost += std::max(0L, tokens_ - stream.next);
    }
  }

  sockaddr_in target_;
  long tokens_;
  std::int64_t ramp_;
  std::int64_t limit_;
  std::string request_;
  Poll poll_;
  std::vector<Stream> streams_;
  Totals totals_;
};

}  // namespace

int main(int argc, char** argv) {
  const Options options(argc, argv, " --target --streams --ramp-s --tokens --limit-s ");
  prepare_process();
  return Client(options).run();
}
