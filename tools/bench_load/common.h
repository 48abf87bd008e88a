// What the load programs share: sockets that never block, an incremental reader of answers, samples, options.
//
// These are measuring instruments, not a client library: loopback only, one thread, one epoll, and where
// something is not as expected they count it and go on, or say so and end with status 2.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace bench {

[[noreturn]] inline void fail(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::exit(2);
}

inline std::int64_t now_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kMilli = 1'000'000;

// `--name value …`; a name may come more than once.
class Options {
 public:
  Options(int argc, char** argv, std::string_view known) {
    for (int i = 1; i < argc; i += 2) {
      const std::string name = argv[i];
      if (i + 1 == argc || known.find(" " + name + " ") == std::string_view::npos) {
        fail("usage: " + std::string(argv[0]) + std::string(known) + "(each with a value)");
      }
      values_[name].emplace_back(argv[i + 1]);
    }
  }
  [[nodiscard]] const std::vector<std::string>& all(const std::string& name) const {
    static const std::vector<std::string> none;
    const auto found = values_.find(name);
    return found == values_.end() ? none : found->second;
  }
  [[nodiscard]] double number(const std::string& name, double otherwise) const {
    const auto& found = all(name);
    return found.empty() ? otherwise : std::strtod(found.back().c_str(), nullptr);
  }
  [[nodiscard]] std::string text(const std::string& name, const std::string& otherwise) const {
    const auto& found = all(name);
    return found.empty() ? otherwise : found.back();
  }

 private:
  std::map<std::string, std::vector<std::string>> values_;
};

// Ten thousand sockets need more than the usual 1,024 descriptors.
inline void prepare_process() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  std::signal(SIGPIPE, SIG_IGN);
  setvbuf(stdout, nullptr, _IOLBF, 1 << 16);
}

inline sockaddr_in address_of(const std::string& text) {
  const std::size_t colon = text.rfind(':');
  sockaddr_in address{};
  address.sin_family = AF_INET;
  if (colon == std::string::npos ||
      inet_pton(AF_INET, text.substr(0, colon).c_str(), &address.sin_addr) != 1) {
    fail("not an ADDRESS:PORT: " + text);
  }
  address.sin_port = htons(static_cast<std::uint16_t>(std::atoi(text.c_str() + colon + 1)));
  return address;
}

inline void set(int fd, int level, int option) {
  const int on = 1;
  setsockopt(fd, level, option, &on, sizeof on);
}

inline sockaddr* generic(sockaddr_in& address) {
  return static_cast<sockaddr*>(static_cast<void*>(&address));
}

inline int listen_on(const std::string& where) {
  sockaddr_in address = address_of(where);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  set(fd, SOL_SOCKET, SO_REUSEADDR);
  if (bind(fd, generic(address), sizeof address) != 0 || listen(fd, 4096) != 0) {
    fail("cannot listen on " + where + ": " + std::strerror(errno));
  }
  return fd;
}

// Begins a connection from 127.0.0.`host`; -1 where not even that was possible (errno says why). A local port
// is chosen at the connect, not at the bind, so that the ports of one address serve every destination.
inline int begin_connect(sockaddr_in to, int host = 1) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  set(fd, IPPROTO_TCP, TCP_NODELAY);
  set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT);
  sockaddr_in from{};
  from.sin_family = AF_INET;
  from.sin_addr.s_addr = htonl(0x7f000000U + static_cast<std::uint32_t>(host));
  if (bind(fd, generic(from), sizeof from) == 0 &&
      (connect(fd, generic(to), sizeof to) == 0 || errno == EINPROGRESS)) {
    return fd;
  }
  const int why = errno;
  close(fd);
  errno = why;
  return -1;
}

inline int connect_error(int fd) {
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  return error;
}

class Poll {
 public:
  Poll() : fd_(epoll_create1(EPOLL_CLOEXEC)) {}
  void add(int fd, std::uint32_t events, std::uint64_t what) { control(EPOLL_CTL_ADD, fd, events, what); }
  void change(int fd, std::uint32_t events, std::uint64_t what) { control(EPOLL_CTL_MOD, fd, events, what); }
  // Calls `each(what, events)` for what is ready, waiting until `until` at most.
  template <class Each>
  void wait(std::int64_t until, Each each) {
    const std::int64_t left = std::clamp<std::int64_t>(until - now_ns(), 0, kSecond);
    epoll_event ready[512];
    const int count = epoll_wait(fd_, ready, 512, static_cast<int>((left + kMilli - 1) / kMilli));
    for (int i = 0; i < count; ++i)
      each(ready[i].data.u64, ready[i].events);
  }
  // The same to the microsecond, where `until` is when something must be done.
  template <class Each>
  void wait_exactly(std::int64_t until, Each each) {
    const std::int64_t left = std::clamp<std::int64_t>(until - now_ns(), 0, kSecond - 1);
    const timespec time{0, left};
    epoll_event ready[64];
    const int count = epoll_pwait2(fd_, ready, 64, &time, nullptr);
    for (int i = 0; i < count; ++i)
      each(ready[i].data.u64, ready[i].events);
  }

 private:
  void control(int how, int fd, std::uint32_t events, std::uint64_t what) const {
    epoll_event event{};
    event.events = events;
    event.data.u64 = what;
    if (epoll_ctl(fd_, how, fd, &event) != 0) fail(std::string("epoll_ctl: ") + std::strerror(errno));
  }
  int fd_;
};

// One HTTP/1.1 answer, as it comes. Body bytes go to the caller without their framing.
class Answer {
 public:
  enum class State : std::uint8_t { head, body, complete, broken };

  template <class OnBody>
  State feed(std::string_view data, OnBody on_body) {
    if (state_ == State::head) {
      held_.append(data);
      const std::size_t end = held_.find("\r\n\r\n");
      if (end == std::string::npos) return held_.size() > 65536 ? state_ = State::broken : state_;
      const std::string all = std::move(held_);
      held_ = {};
      read_head(std::string_view(all).substr(0, end + 2));
      return state_ == State::body ? feed_body(std::string_view(all).substr(end + 4), on_body) : state_;
    }
    return state_ == State::body ? feed_body(data, on_body) : state_;
  }
  // The peer closed.
  State end() {
    if (state_ == State::body && until_close_) return state_ = State::complete;
    if (state_ != State::complete) state_ = State::broken;
    return state_;
  }
  [[nodiscard]] State state() const { return state_; }
  [[nodiscard]] int status() const { return status_; }
  [[nodiscard]] const std::string& reason() const { return reason_; }  // x-perigee-reason, or empty
  [[nodiscard]] int retry_after() const { return retry_after_; }       // seconds; -1 = none
  [[nodiscard]] bool closes() const { return closes_ || until_close_; }

 private:
  static bool begins(std::string_view line, std::string_view name) {
    if (line.size() < name.size()) return false;
    return std::equal(name.begin(), name.end(), line.begin(),
                      [](char a, char b) { return a == (b >= 'A' && b <= 'Z' ? b + 32 : b); });
  }
  static std::string_view value_of(std::string_view line) {
    line.remove_prefix(line.find(':') + 1);
    while (!line.empty() && line.front() == ' ')
      line.remove_prefix(1);
    return line;
  }
  void read_head(std::string_view head) {
    if (head.size() < 12 || !begins(head, "http/1.")) {
      state_ = State::broken;
      return;
    }
    status_ = std::atoi(std::string(head.substr(9, 3)).c_str());
    bool chunked = false;
    bool length = false;
    for (std::size_t at = head.find('\n') + 1; at < head.size(); at = head.find('\n', at) + 1) {
      const std::string_view line = head.substr(at, head.find('\r', at) - at);
      if (begins(line, "transfer-encoding:")) chunked = true;
      if (begins(line, "content-length:")) {
        const std::string_view value = value_of(line);
        std::from_chars(value.data(), value.data() + value.size(), left_);
        length = true;
      }
      if (begins(line, "x-perigee-reason:")) reason_ = value_of(line);
      if (begins(line, "retry-after:")) retry_after_ = std::atoi(std::string(value_of(line)).c_str());
      if (begins(line, "connection: close")) closes_ = true;
    }
    chunked_ = chunked;
    until_close_ = !chunked && !length;
    state_ = length && left_ == 0 ? State::complete : State::body;
  }
  template <class OnBody>
  State feed_body(std::string_view data, OnBody& on_body) {
    while (!data.empty() && state_ == State::body) {
      if (!chunked_ || left_ > 0) {
        const std::string_view part = until_close_ ? data : data.substr(0, left_);
        on_body(part);
        data.remove_prefix(part.size());
        if (!until_close_) left_ -= part.size();
        if (!chunked_ && !until_close_ && left_ == 0) state_ = State::complete;
        if (chunked_ && left_ == 0) skip_line_ = true;
        continue;
      }
      const char c = data.front();  // the end of a chunk, or a line of framing
      data.remove_prefix(1);
      if (c != '\n') {
        if (c != '\r') held_.push_back(c);
        continue;
      }
      if (skip_line_) {
        skip_line_ = false;
      } else if (last_) {
        state_ = held_.empty() ? State::complete : state_;
      } else {
        const auto read = std::from_chars(held_.data(), held_.data() + held_.size(), left_, 16);
        if (read.ec != std::errc{}) state_ = State::broken;
        last_ = left_ == 0;
      }
      held_.clear();
    }
    return state_;
  }

  State state_ = State::head;
  int status_ = 0;
  int retry_after_ = -1;
  bool closes_ = false;
  bool chunked_ = false;
  bool until_close_ = false;
  bool skip_line_ = false;  // the line end after a chunk's data
  bool last_ = false;       // the chunk of size 0 was there
  std::size_t left_ = 0;
  std::string held_;
  std::string reason_;
};

// Calls `each(event)` for each whole event ("…\n\n") of a body, keeping what is not yet whole in `held`.
template <class Each>
void split_events(std::string& held, std::string_view part, Each each) {
  if (!held.empty()) {
    held.append(part);
    std::string all = std::move(held);
    held = {};
    std::string_view rest = all;
    for (std::size_t end; (end = rest.find("\n\n")) != std::string_view::npos; rest.remove_prefix(end + 2)) {
      each(rest.substr(0, end));
    }
    held.assign(rest);
    return;
  }
  for (std::size_t end; (end = part.find("\n\n")) != std::string_view::npos; part.remove_prefix(end + 2)) {
    each(part.substr(0, end));
  }
  held.assign(part);
}

// Times in nanoseconds; shown in milliseconds.
class Samples {
 public:
  void add(std::int64_t ns) { values_.push_back(ns); }
  [[nodiscard]] std::size_t count() const { return values_.size(); }
  // The least value that at least the share `q` of all do not exceed.
  double quantile_ms(double q) {
    if (values_.empty()) return 0;
    std::sort(values_.begin(), values_.end());
    const auto rank = static_cast<std::size_t>(std::max(0.0, q * static_cast<double>(values_.size()) - 1e-9));
    return static_cast<double>(values_[std::min(rank, values_.size() - 1)]) / 1e6;
  }
  [[nodiscard]] double mean_ms() const {
    double sum = 0;
    for (const std::int64_t v : values_)
      sum += static_cast<double>(v);
    return values_.empty() ? 0 : sum / static_cast<double>(values_.size()) / 1e6;
  }
  std::string json() {
    char text[200];
    std::snprintf(text, sizeof text,
                  R"({"count":%zu,"mean_ms":%.3f,"p50_ms":%.3f,"p95_ms":%.3f,"p99_ms":%.3f,"max_ms":%.3f})",
                  count(), mean_ms(), quantile_ms(.5), quantile_ms(.95), quantile_ms(.99), quantile_ms(1));
    return text;
  }

 private:
  std::vector<std::int64_t> values_;
};

}  // namespace bench
