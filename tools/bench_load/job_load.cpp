// Requests at a rate that waits for nobody (Poisson), a share of them with `X-Priority: high`, from clients that
// give up after --deadline-s.
//
//   job_load --target 127.0.0.1:3000 --rate 1950 --seconds 30 --skip-s 5 --high 0.2 --deadline-s 2 --seed 1
//
// Kept connections are used where one is free. What begins in the first --skip-s seconds is not measured. Prints
// "started" when the load begins and one line of JSON at the end: good = 200 before the client gave up.
#include <deque>
#include <random>

#include "common.h"

namespace {

using namespace bench;

struct Tally {
  long offered = 0;
  long good = 0;
  long late = 0;    // given up
  long broken = 0;  // closed without an answer
  long untold = 0;  // refused without a retry-after
  std::map<std::string, long> refused;
  Samples good_in, refused_in;

  std::string json() {
    std::string text = "{\"offered\":" + std::to_string(offered) + ",\"good\":" + std::to_string(good) +
                       ",\"late\":" + std::to_string(late) + ",\"broken\":" + std::to_string(broken) +
                       ",\"untold\":" + std::to_string(untold) + ",\"refused\":{";
    bool first = true;
    for (const auto& [name, count] : refused) {
      text += std::string(first ? "\"" : ",\"") + name + "\":" + std::to_string(count);
      first = false;
    }
    return text + "},\"good_in\":" + good_in.json() + ",\"refused_in\":" + refused_in.json() + "}";
  }
};

// One connection, and the request on it where there is one.
struct Client {
  int fd = -1;
  bool connected = false;
  bool busy = false;
  bool high = false;
  bool measured = false;
  std::uint64_t turn = 0;  // of the request: an old deadline is not its own
  std::int64_t began = 0;
  Answer answer;
};

class Load {
 public:
  explicit Load(const Options& options)
      : to_(address_of(options.text("--target", "127.0.0.1:3000"))),
        rate_(options.number("--rate", 100)),
        seconds_(options.number("--seconds", 30)),
        skip_(options.number("--skip-s", 5)),
        high_(options.number("--high", 0.2)),
        deadline_(static_cast<std::int64_t>(options.number("--deadline-s", 2) * 1e9)),
        rng_(static_cast<unsigned>(options.number("--seed", 1))) {}

  void run() {
    const std::int64_t start = now_ns();
    const auto stop = start + static_cast<std::int64_t>(seconds_ * 1e9);
    const auto measured = start + static_cast<std::int64_t>(skip_ * 1e9);
    std::exponential_distribution<double> gap(rate_);
    std::int64_t next = start;
    std::puts("started");
    for (;;) {
      const std::int64_t now = now_ns();
      for (; next <= now && next < stop; next += static_cast<std::int64_t>(gap(rng_) * 1e9)) begin(next, next >= measured);
      while (!deadlines_.empty() && deadlines_.front().at <= now) give_up();
      if (next >= stop && running_ == 0) break;
      std::int64_t until = next < stop ? next : now + kSecond;
      if (!deadlines_.empty()) until = std::min(until, deadlines_.front().at);
      poll_.wait(until, [this](std::uint64_t what, std::uint32_t) { ready(what); });
    }
    const std::string high = of_[1].json();
    std::printf("{\"measured_s\":%.3f,\"high\":%s,\"other\":%s,\"late_start\":%s}\n", seconds_ - skip_, high.c_str(),
                of_[0].json().c_str(), behind_.json().c_str());
  }

 private:
  struct Deadline {
    std::int64_t at;
    std::size_t client;
    std::uint64_t turn;
  };

  // `due`: when it should begin. What this program is late itself counts as waiting.
  void begin(std::int64_t due, bool measured) {
    std::size_t i = 0;
    if (!idle_.empty()) {
      i = idle_.back();
      idle_.pop_back();
    } else if (!gone_.empty()) {
      i = gone_.back();
      gone_.pop_back();
    } else {
      i = clients_.size();
      clients_.emplace_back();
    }
    Client& c = clients_[i];
    c.busy = true;
    c.high = std::uniform_real_distribution<double>()(rng_) < high_;
    c.measured = measured;
    c.began = due;
    c.turn = ++turns_;
    c.answer = {};
    ++running_;
    if (measured) {
      ++tally(c).offered;
      behind_.add(now_ns() - due);
    }
    deadlines_.push_back({due + deadline_, i, c.turn});
    if (c.fd >= 0) return ask(i);
    c.connected = false;
    c.fd = begin_connect(to_, 1 + static_cast<int>(turns_ % 8));
    if (c.fd < 0) return end(i, false);
    poll_.add(c.fd, EPOLLOUT, i);
  }

  void ask(std::size_t i) {
    Client& c = clients_[i];
    constexpr std::string_view kHigh = "GET /job HTTP/1.1\r\nHost: bench\r\nX-Priority: high\r\n\r\n";
    constexpr std::string_view kOther = "GET /job HTTP/1.1\r\nHost: bench\r\n\r\n";
    const std::string_view text = c.high ? kHigh : kOther;
    if (send(c.fd, text.data(), text.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(text.size())) end(i, false);
  }

  void ready(std::size_t i) {
    Client& c = clients_[i];
    if (c.fd < 0) return;
    if (!c.connected) {
      if (connect_error(c.fd) != 0) return end(i, false);
      c.connected = true;
      poll_.change(c.fd, EPOLLIN, i);
      return ask(i);
    }
    char data[4096];
    const ssize_t size = recv(c.fd, data, sizeof data, 0);
    if (size < 0 && errno == EAGAIN) return;
    if (!c.busy) return forget(i);  // an idle one was closed
    if (size <= 0) return end(i, c.answer.end() == Answer::State::complete);
    const Answer::State state = c.answer.feed({data, static_cast<std::size_t>(size)}, [](std::string_view) {});
    if (state == Answer::State::complete) end(i, true);
    if (state == Answer::State::broken) end(i, false);
  }

  void end(std::size_t i, bool answered) {
    Client& c = clients_[i];
    const std::int64_t took = now_ns() - c.began;
    if (c.measured) {
      Tally& t = tally(c);
      if (!answered) {
        ++t.broken;
      } else if (c.answer.status() == 200) {
        ++t.good;
        t.good_in.add(took);
      } else {
        ++t.refused[std::to_string(c.answer.status()) + (c.answer.reason().empty() ? "" : " " + c.answer.reason())];
        t.refused_in.add(took);
        if (c.answer.retry_after() < 0) ++t.untold;
      }
    }
    c.busy = false;
    --running_;
    if (answered && !c.answer.closes()) idle_.push_back(i);
    else drop(i);
  }

  void give_up() {
    const Deadline d = deadlines_.front();
    deadlines_.pop_front();
    Client& c = clients_[d.client];
    if (!c.busy || c.turn != d.turn) return;
    if (c.measured) ++tally(c).late;
    c.busy = false;
    --running_;
    drop(d.client);
  }

  void forget(std::size_t i) {
    std::erase(idle_, i);
    drop(i);
  }
  void drop(std::size_t i) {
    Client& c = clients_[i];
    if (c.fd >= 0) close(c.fd);
    c.fd = -1;
    gone_.push_back(i);
  }
  Tally& tally(const Client& c) { return of_[c.high ? 1 : 0]; }

  sockaddr_in to_;
  double rate_, seconds_, skip_, high_;
  std::int64_t deadline_;
  std::mt19937_64 rng_;
  Poll poll_;
  std::vector<Client> clients_;
  std::vector<std::size_t> idle_, gone_;
  std::deque<Deadline> deadlines_;
  std::uint64_t turns_ = 0;
  long running_ = 0;
  Tally of_[2];
  Samples behind_;
};

}  // namespace

int main(int argc, char** argv) {
  const Options options(argc, argv, " --target --rate --seconds --skip-s --high --deadline-s --seed ");
  prepare_process();
  Load(options).run();
  return 0;
}
