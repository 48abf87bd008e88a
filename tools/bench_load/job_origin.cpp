// A worker with so many hands and no more: runs --slots jobs at once, queues what comes beyond them without a
// bound, and never notices that a client has left. What it did for nobody is what it is asked about afterwards.
//
//   job_origin --listen 127.0.0.1:9001 --slots 8 --mean-ms 40 --sigma 0.8 --factor 4 --seed 1
//
// GET /job is a job of log-normal length (the mean given, times the factor); GET /stats says in JSON how many
// began, ended and were for nobody since GET /reset; anything else is answered at once.
#include <sys/timerfd.h>

#include <cmath>
#include <deque>
#include <functional>
#include <memory>
#include <queue>
#include <random>
#include <utility>

#include "common.h"

namespace {

using namespace bench;

struct Client {
  int fd = -1;
  std::uint64_t generation = 0;  // a descriptor is reused, its old jobs are not
  std::string head;
};

struct Job {
  int fd;
  std::uint64_t generation;
  std::int64_t end = 0;
  bool operator>(const Job& o) const { return end > o.end; }
};

class Origin {
 public:
  explicit Origin(const Options& options)
      : listener_(listen_on(options.text("--listen", "127.0.0.1:9001"))),
        timer_(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)),
        slots_(static_cast<std::size_t>(options.number("--slots", 8))),
        rng_(static_cast<unsigned>(options.number("--seed", 1))) {
    const double sigma = options.number("--sigma", 0.8);
    const double mean = options.number("--mean-ms", 40) * options.number("--factor", 1) * 1e6;
    work_ = std::lognormal_distribution<double>(std::log(mean) - sigma * sigma / 2, sigma);
    poll_.add(listener_, EPOLLIN, static_cast<std::uint64_t>(listener_));
    poll_.add(timer_, EPOLLIN, static_cast<std::uint64_t>(timer_));
  }

  [[noreturn]] void run() {
    for (;;) {
      poll_.wait(now_ns() + kSecond, [this](std::uint64_t what, std::uint32_t) {
        const int fd = static_cast<int>(what);
        if (fd == listener_) accept_all();
        else if (fd == timer_) end_jobs();
        else read(fd);
      });
    }
  }

 private:
  void accept_all() {
    for (int fd; (fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
      set(fd, IPPROTO_TCP, TCP_NODELAY);
      if (clients_.size() <= static_cast<std::size_t>(fd)) clients_.resize(static_cast<std::size_t>(fd) + 1);
      clients_[static_cast<std::size_t>(fd)] = std::make_unique<Client>(Client{fd, ++generation_, {}});
      poll_.add(fd, EPOLLIN, static_cast<std::uint64_t>(fd));
    }
  }

  void read(int fd) {
    char data[4096];
    const ssize_t size = recv(fd, data, sizeof data, 0);
    if (size < 0 && errno == EAGAIN) return;
    Client& client = *clients_[static_cast<std::size_t>(fd)];
    if (size <= 0) {
      clients_[static_cast<std::size_t>(fd)].reset();
      close(fd);
      return;
    }
    client.head.append(data, static_cast<std::size_t>(size));
    if (client.head.find("\r\n\r\n") == std::string::npos) return;
    const std::string head = std::exchange(client.head, {});
    if (head.starts_with("GET /job ")) return enter({fd, client.generation});
    if (head.starts_with("GET /reset ")) began_ = ended_ = for_nobody_ = most_ = 0;
    char text[160];
    std::snprintf(text, sizeof text, R"({"began":%ld,"ended":%ld,"for_nobody":%ld,"most":%ld})", began_, ended_,
                  for_nobody_, most_);
    answer(fd, text);
  }

  void enter(Job job) {
    waiting_.push_back(job);
    most_ = std::max(most_, static_cast<long>(running_.size() + waiting_.size()));
    begin_jobs();
  }

  void begin_jobs() {
    while (running_.size() < slots_ && !waiting_.empty()) {
      Job job = waiting_.front();
      waiting_.pop_front();
      job.end = now_ns() + static_cast<std::int64_t>(work_(rng_));
      ++began_;
      running_.push(job);
    }
    if (running_.empty()) return;
    itimerspec at{};
    at.it_value.tv_sec = running_.top().end / kSecond;
    at.it_value.tv_nsec = running_.top().end % kSecond;
    timerfd_settime(timer_, TFD_TIMER_ABSTIME, &at, nullptr);
  }

  void end_jobs() {
    std::uint64_t fired = 0;
    (void)!::read(timer_, &fired, sizeof fired);
    for (const std::int64_t now = now_ns(); !running_.empty() && running_.top().end <= now;) {
      const Job job = running_.top();
      running_.pop();
      ++ended_;
      const auto& client = clients_[static_cast<std::size_t>(job.fd)];
      if (client && client->generation == job.generation) answer(job.fd, "done");
      else ++for_nobody_;
    }
    begin_jobs();
  }

  static void answer(int fd, const std::string& body) {
    const std::string all = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " +
                            std::to_string(body.size()) + "\r\n\r\n" + body;
    (void)!send(fd, all.data(), all.size(), MSG_NOSIGNAL);  // who has left is found out by the read
  }

  Poll poll_;
  int listener_;
  int timer_;
  std::size_t slots_;
  std::mt19937_64 rng_;
  std::lognormal_distribution<double> work_;
  std::vector<std::unique_ptr<Client>> clients_;  // by descriptor
  std::deque<Job> waiting_;
  std::priority_queue<Job, std::vector<Job>, std::greater<>> running_;
  std::uint64_t generation_ = 0;
  long began_ = 0, ended_ = 0, for_nobody_ = 0, most_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  const Options options(argc, argv, " --listen --slots --mean-ms --sigma --factor --seed ");
  prepare_process();
  Origin origin(options);
  std::printf("job_origin ready %s\n", options.text("--listen", "127.0.0.1:9001").c_str());
  origin.run();
}
