// Chats for ORBIT workers, at a rate (Poisson arrivals that wait for nobody) or all at once, each on a
// connection of its own with a session of its own; and the workers' /health, asked directly.
//
//   chat_load --target 127.0.0.1:3000 --rate 40 --seconds 120 --measure-s 60 --seed 42
//   chat_load --target 127.0.0.1:3101 --target 127.0.0.1:3102 --burst 400 --probe 127.0.0.1:3101 …
//
// Several targets are taken in turn. Chats that end in the last --measure-s seconds of --seconds are the
// measured ones (a burst: all of them). After --seconds no chat begins; running ones are given --drain-s.
// Prints "started" when the load begins and one line of JSON at the end.
#include <random>

#include "common.h"

namespace {

using namespace bench;

struct Chat {
  int fd = -1;
  bool connected = false;
  bool done = false;  // terminal event seen
  std::int64_t began = 0;
  std::int64_t first = 0;  // first event with model output
  Answer answer;
  std::string held;
  std::string request;
};

struct Probe {
  std::string name;
  sockaddr_in where{};
  int fd = -1;
  bool connected = false;
  bool out = false;  // asked and not yet answered
  std::int64_t sent = 0;
  std::int64_t due = 0;
  Answer answer;
  Samples times;
  long failed = 0;
};

struct Tally {
  long started = 0;
  long served = 0;
  std::map<std::string, long> refused;  // "503 queue_timeout" → how many
  std::map<std::string, long> broken;   // what there was before it broke
  Samples first_event;
  Samples whole;
  Samples told;         // retry-after of the refused
  Samples refused_in;   // arrival → refusal
  long untold = 0;      // refused without a retry-after

  std::string json() {
    std::string text = "{\"started\":" + std::to_string(started) + ",\"served\":" + std::to_string(served);
    text += ",\"refused\":" + counts(refused) + ",\"broken\":" + counts(broken);
    text += ",\"first_event\":" + first_event.json() + ",\"whole\":" + whole.json();
    text += ",\"untold\":" + std::to_string(untold) + ",\"refused_in\":" + refused_in.json();
    return text + ",\"told\":" + told.json() + "}";
  }
  static std::string counts(const std::map<std::string, long>& map) {
    std::string text = "{";
    for (const auto& [name, count] : map) {
      text += (text.size() > 1 ? ",\"" : "\"") + name + "\":" + std::to_string(count);
    }
    return text + "}";
  }
};

constexpr std::uint64_t kProbes = std::uint64_t{1} << 32;  // poll keys from here on are probes
constexpr std::int64_t kProbeEvery = 250 * kMilli;

class Load {
 public:
  explicit Load(const Options& options)
      : rate_(options.number("--rate", 0)),
        burst_(static_cast<std::size_t>(options.number("--burst", 0))),
        seconds_(options.number("--seconds", 60)),
        measure_(options.number("--measure-s", seconds_)),
        drain_(options.number("--drain-s", 0)),
        seed_(static_cast<unsigned>(options.number("--seed", 42))),
        rng_(seed_) {
    for (const std::string& target : options.all("--target"))
      targets_.push_back(address_of(target));
    if (targets_.empty() || (rate_ <= 0) == (burst_ == 0)) fail("chat_load: --target, and --rate or --burst");
    for (const std::string& where : options.all("--probe")) {
      probes_.emplace_back();
      probes_.back().name = where;
      probes_.back().where = address_of(where);
    }
  }

  void run() {
    // The probes get a second to themselves, so that the load meets connections that stand.
    const std::int64_t start = now_ns() + (probes_.empty() ? 0 : kSecond);
    const std::int64_t stop = start + static_cast<std::int64_t>(seconds_ * 1e9);
    const std::int64_t last = stop + static_cast<std::int64_t>(drain_ * 1e9);
    measured_from_ = stop - static_cast<std::int64_t>(measure_ * 1e9);
    measured_to_ = stop;
    std::int64_t next = start;
    std::exponential_distribution<double> gap(rate_ > 0 ? rate_ : 1);
    bool said = false;
    for (;;) {
      std::int64_t now = now_ns();
      if (!said && now >= start) {
        std::puts("started");
        said = true;
      }
      while (next <= now && next < stop && (burst_ == 0 || chats_.size() < burst_)) {
        begin();
        if (burst_ == 0) next += static_cast<std::int64_t>(gap(rng_) * 1e9);
      }
      const bool all_begun = burst_ != 0 ? chats_.size() == burst_ : next >= stop;
      if (now >= last || (all_begun && running_ == 0 && (burst_ != 0 || now >= stop))) break;
      std::int64_t until = all_begun ? last : std::min(next, last);
      for (Probe& probe : probes_)
        until = std::min(until, ask(probe, now));
      poll_.wait(until, [this](std::uint64_t what, std::uint32_t) {
        if (what >= kProbes) {
          probe_ready(probes_[what - kProbes], what);
        } else {
          ready(what);
        }
      });
    }
    report(static_cast<double>(now_ns() - start) / 1e9);
  }

 private:
  [[nodiscard]] std::string session(std::size_t i) const {
    return "bench-" + std::to_string(seed_) + "-" + std::to_string(i);
  }

  void begin() {
    const std::size_t i = chats_.size();
    Chat& chat = chats_.emplace_back();
    const std::string body =
        R"({"messages":[{"role":"user","content":"Why does a moon have a perigee?"}],"stream":true})";
    chat.request =
        "POST /v1/chat HTTP/1.1\r\nHost: bench\r\nUser-Agent: chat_load\r\nAccept: text/event-stream\r\n"
        "X-API-Key: orbit_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\nX-Session-ID: " +
        session(i) + "\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) +
        "\r\n\r\n" + body;
    chat.began = now_ns();
    ++total_.started;
    if (chat.began >= measured_from_) ++measured_.started;
    ++running_;
    chat.fd = begin_connect(targets_[i % targets_.size()]);
    if (chat.fd < 0) return end(i, "connect");
    poll_.add(chat.fd, EPOLLOUT, i);
  }

  void ready(std::size_t i) {
    Chat& chat = chats_[i];
    if (chat.fd < 0) return;
    if (!chat.connected) {
      if (connect_error(chat.fd) != 0) return end(i, "connect");
      if (send(chat.fd, chat.request.data(), chat.request.size(), MSG_NOSIGNAL) !=
          static_cast<ssize_t>(chat.request.size())) {
        return end(i, "send");
      }
      chat.connected = true;
      chat.request = {};
      return poll_.change(chat.fd, EPOLLIN, i);
    }
    char data[16384];
    const ssize_t size = recv(chat.fd, data, sizeof data, 0);
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) {
      chat.answer.end();
      return finish(i);
    }
    const Answer::State state =
        chat.answer.feed({data, static_cast<std::size_t>(size)}, [&](std::string_view part) {
          split_events(chat.held, part, [&](std::string_view event) {
            if (event.find("\"done\": true") != std::string_view::npos ||
                event.find("\"done\":true") != std::string_view::npos) {
              chat.done = true;
            }
            if (chat.first == 0 && event.find("\"response\"") != std::string_view::npos)
              chat.first = now_ns();
          });
        });
    if (state == Answer::State::complete || state == Answer::State::broken) finish(i);
  }

  void finish(std::size_t i) {
    const Chat& chat = chats_[i];
    const bool complete = chat.answer.state() == Answer::State::complete;
    if (complete && chat.answer.status() == 200 && chat.done) return end(i, nullptr);
    if (complete && chat.answer.status() != 200) return end(i, nullptr);
    end(i, chat.answer.status() == 0 ? "before the head"
           : chat.first == 0         ? "after the head"
           : chat.done               ? "after the terminal event"
           : complete                ? "without the terminal event"
                                     : "in the middle");
  }

  void end(std::size_t i, const char* broken) {
    Chat& chat = chats_[i];
    const std::int64_t now = now_ns();
    if (chat.fd >= 0) close(chat.fd);
    chat.fd = -1;
    --running_;
    const auto count = [&](Tally& tally) {
      if (broken != nullptr) {
        ++tally.broken[broken];
      } else if (chat.answer.status() != 200) {
        const std::string& reason = chat.answer.reason();
        ++tally.refused[std::to_string(chat.answer.status()) + (reason.empty() ? "" : " " + reason)];
        tally.refused_in.add(now - chat.began);
        if (chat.answer.retry_after() < 0) ++tally.untold;
        else tally.told.add(chat.answer.retry_after() * kSecond);
      } else {
        ++tally.served;
        tally.first_event.add(chat.first - chat.began);
        tally.whole.add(now - chat.began);
      }
    };
    count(total_);
    if (now >= measured_from_ && now <= measured_to_) count(measured_);
    if (broken != nullptr || chat.answer.status() != 200) {
      if (failures_.size() < 20000) {
        failures_ += (failures_.empty() ? "{\"session\":\"" : ",{\"session\":\"") + session(i) +
                     "\",\"status\":" + std::to_string(chat.answer.status()) + ",\"broken\":\"" +
                     (broken != nullptr ? broken : "") + "\"}";
      }
    }
    chat.answer = {};
    chat.held = {};
  }

  // Asks when its time has come; returns when that is next. One question at a time: a late answer is a long
  // time, not many.
  std::int64_t ask(Probe& probe, std::int64_t now) {
    if (probe.out || now < probe.due) return probe.out ? now + kSecond : probe.due;
    const std::uint64_t key = kProbes + static_cast<std::uint64_t>(&probe - probes_.data());
    probe.due = now + kProbeEvery;
    probe.sent = now;
    probe.answer = {};
    probe.out = true;
    if (probe.fd < 0) {
      probe.fd = begin_connect(probe.where);
      probe.connected = false;
      if (probe.fd < 0) {
        probe_failed(probe);
      } else {
        poll_.add(probe.fd, EPOLLOUT, key);
      }
    } else {
      send_probe(probe);
    }
    return probe.due;
  }

  void send_probe(Probe& probe) {
    constexpr std::string_view kAsk = "GET /health HTTP/1.1\r\nHost: bench\r\n\r\n";
    if (send(probe.fd, kAsk.data(), kAsk.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(kAsk.size()))
      probe_failed(probe);
  }

  void probe_ready(Probe& probe, std::uint64_t key) {
    if (probe.fd < 0) return;
    if (!probe.connected) {
      if (connect_error(probe.fd) != 0) return probe_failed(probe);
      probe.connected = true;
      poll_.change(probe.fd, EPOLLIN, key);
      return send_probe(probe);
    }
    char data[4096];
    const ssize_t size = recv(probe.fd, data, sizeof data, 0);
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) return probe_failed(probe);
    if (probe.answer.feed({data, static_cast<std::size_t>(size)}, [](std::string_view) {}) ==
        Answer::State::complete) {
      probe.out = false;
      probe.times.add(now_ns() - probe.sent);
    }
  }

  void probe_failed(Probe& probe) {
    if (probe.out) ++probe.failed;
    if (probe.fd >= 0) close(probe.fd);
    probe.fd = -1;
    probe.out = false;
  }

  void report(double took) {
    std::string probes;
    for (Probe& probe : probes_) {
      if (probe.out) probe.times.add(now_ns() - probe.sent);  // still unanswered: at least so long
      probes += (probes.empty() ? "\"" : ",\"") + probe.name +
                "\":{\"failed\":" + std::to_string(probe.failed) + ",\"times\":" + probe.times.json() + "}";
    }
    std::printf(
        "{\"took_s\":%.3f,\"measured_s\":%.3f,\"unfinished\":%ld,\"total\":%s,\"measured\":%s,"
        "\"health\":{%s},\"failures\":[%s]}\n",
        took, measure_, running_, total_.json().c_str(), measured_.json().c_str(), probes.c_str(),
        failures_.c_str());
  }

  double rate_;
  std::size_t burst_;
  double seconds_;
  double measure_;
  double drain_;
  unsigned seed_;
  std::mt19937_64 rng_;
  std::vector<sockaddr_in> targets_;
  std::vector<Probe> probes_;
  std::vector<Chat> chats_;
  Poll poll_;
  long running_ = 0;
  std::int64_t measured_from_ = 0;
  std::int64_t measured_to_ = 0;
  Tally total_;
  Tally measured_;
  std::string failures_;
};

}  // namespace

int main(int argc, char** argv) {
  const Options options(argc, argv,
                        " --target --rate --burst --seconds --measure-s --drain-s --seed --probe ");
  prepare_process();
  Load(options).run();
  return 0;
}
