// Times small keep-alive requests to several targets in turns: an open loop at a low rate, in blocks, each round's
// blocks in an order of its own. What the machine does meanwhile falls on neighbours in time alike.
//
//   latency_client --target 127.0.0.1:3000 --target 127.0.0.1:3001 --rate 500 --block 250 --rounds 80
//
// A request is due every 1/rate seconds, whether the one before it was answered or not, and takes an idle
// connection of its target (or a new one, --connections at most). Its time runs from its sending; where no
// connection was free, from when it was due. The first --warm requests of a block are sent and not counted.
// Prints one line of JSON: {"failed":N,"blocks":[[ROUND,TARGET,[MICROSECONDS,…]],…]}.
#include <numeric>
#include <random>

#include "common.h"

namespace {

using namespace bench;

constexpr std::string_view kAsk = "GET / HTTP/1.1\r\nHost: bench\r\nUser-Agent: latency_client\r\n\r\n";
constexpr std::int64_t kLate = 5 * kSecond;  // an answer that takes longer has failed

struct Connection {
  int fd = -1;
  bool connected = false;
  std::int64_t since = 0;  // of the request that is out; 0 = idle
  Answer answer;
};

class Latency {
 public:
  explicit Latency(const Options& options)
      : gap_(static_cast<std::int64_t>(1e9 / options.number("--rate", 500))),
        block_(static_cast<std::size_t>(options.number("--block", 250))),
        warm_(static_cast<std::size_t>(options.number("--warm", 10))),
        rounds_(static_cast<std::size_t>(options.number("--rounds", 80))),
        most_(static_cast<std::size_t>(options.number("--connections", 8))),
        rng_(static_cast<unsigned>(options.number("--seed", 42))) {
    for (const std::string& target : options.all("--target"))
      targets_.push_back(address_of(target));
    if (targets_.empty()) fail("latency_client: --target");
    connections_.resize(targets_.size());
    for (auto& of_target : connections_)
      of_target.resize(most_);
  }

  int run() {
    std::vector<std::size_t> order(targets_.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    for (std::size_t round = 0; round < rounds_; ++round) {
      std::shuffle(order.begin(), order.end(), rng_);
      for (const std::size_t target : order)
        block(round, target);
    }
    std::printf("{\"failed\":%ld,\"blocks\":[%s]}\n", failed_, blocks_.c_str());
    return failed_ == 0 ? 0 : 1;
  }

 private:
  void block(std::size_t round, std::size_t target) {
    taken_.clear();
    const std::size_t all = warm_ + block_;
    std::size_t sent = 0;
    out_ = 0;
    std::int64_t due = now_ns();
    const std::int64_t last = due + static_cast<std::int64_t>(all) * gap_ + kLate;
    while (sent < all || out_ > 0) {
      const std::int64_t now = now_ns();
      if (now > last) {
        give_up(target);
        break;
      }
      while (sent < all && due <= now) {
        Connection* const free = idle(target);
        if (free == nullptr) break;
        // Our own late waking is not the proxy's; that nobody was free is.
        ask(*free, target, waited_ ? due : 0);
        waited_ = false;
        due += gap_;
        ++sent;
      }
      waited_ = sent < all && due <= now;
      poll_.wait_exactly(sent < all && !waited_ ? due : last,
                         [this](std::uint64_t what, std::uint32_t) { ready(what); });
    }
    blocks_ += (blocks_.empty() ? "[" : ",[") + std::to_string(round) + "," + std::to_string(target) + ",[";
    for (std::size_t i = std::min(warm_, taken_.size()); i < taken_.size(); ++i) {
      char text[32];
      std::snprintf(text, sizeof text, "%s%.1f", i == warm_ ? "" : ",", static_cast<double>(taken_[i]) / 1e3);
      blocks_ += text;
    }
    blocks_ += "]]";
  }

  Connection* idle(std::size_t target) {
    for (Connection& one : connections_[target]) {
      if (one.since == 0) return &one;
    }
    return nullptr;
  }

  void ask(Connection& one, std::size_t target, std::int64_t since) {
    one.since = since != 0 ? since : now_ns();
    one.answer = {};
    ++out_;
    if (one.fd >= 0) return send_to(one);
    one.fd = begin_connect(targets_[target]);
    one.connected = false;
    if (one.fd < 0) return broken(one);
    const auto at = static_cast<std::uint64_t>(&one - connections_[target].data());
    poll_.add(one.fd, EPOLLIN | EPOLLOUT | EPOLLET, target * most_ + at);
  }

  void send_to(Connection& one) {
    if (send(one.fd, kAsk.data(), kAsk.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(kAsk.size()))
      broken(one);
  }

  void ready(std::uint64_t what) {
    Connection& one = connections_[what / most_][what % most_];
    if (one.fd < 0) return;
    if (!one.connected) {
      if (connect_error(one.fd) != 0) return broken(one);
      one.connected = true;
      one.since = now_ns();  // a new connection is warm-up, not latency
      send_to(one);
      return;
    }
    char data[8192];
    for (ssize_t size; one.fd >= 0;) {
      size = recv(one.fd, data, sizeof data, 0);
      if (size < 0 && errno == EAGAIN) return;
      if (size <= 0) return broken(one);
      const auto state = one.answer.feed({data, static_cast<std::size_t>(size)}, [](std::string_view) {});
      if (state == Answer::State::broken ||
          (state == Answer::State::complete && one.answer.status() != 200)) {
        return broken(one);
      }
      if (state == Answer::State::complete && one.since != 0) {
        taken_.push_back(now_ns() - one.since);
        one.since = 0;
        --out_;
        return;
      }
    }
  }

  // A kept connection that was closed while idle is opened again by the next request; all else is a failure.
  void broken(Connection& one) {
    if (one.since != 0) {
      ++failed_;
      --out_;
    }
    if (one.fd >= 0) close(one.fd);
    one = {};
  }

  void give_up(std::size_t target) {
    for (Connection& one : connections_[target]) {
      if (one.since != 0) broken(one);
    }
  }

  std::int64_t gap_;
  std::size_t block_;
  std::size_t warm_;
  std::size_t rounds_;
  std::size_t most_;
  std::mt19937_64 rng_;
  std::vector<sockaddr_in> targets_;
  std::vector<std::vector<Connection>> connections_;  // of each target, most_ of them
  std::vector<std::int64_t> taken_;
  Poll poll_;
  std::size_t out_ = 0;
  bool waited_ = false;  // the next request was due and no connection was free
  long failed_ = 0;
  std::string blocks_;
};

}  // namespace

int main(int argc, char** argv) {
  const Options options(argc, argv, " --target --rate --block --warm --rounds --connections --seed ");
  prepare_process();
  return Latency(options).run();
}
