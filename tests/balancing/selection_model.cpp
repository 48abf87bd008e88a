#include "selection_model.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <queue>

#include "perigee/balancing/backend_load.h"
#include "perigee/balancing/picker.h"

namespace perigee::model {
namespace {

using balancing::BackendLoad;
using balancing::LoadShare;

constexpr std::size_t kWorkers = 8;
constexpr double kForever = std::numeric_limits<double>::infinity();

TimePoint at(double seconds) { return TimePoint(from_seconds(seconds)); }

struct Job {
  RequestClass kind = RequestClass::embeddings;
  std::uint32_t worker = 0;
  double arrived = 0;
  LoadShare share;
};

// Something that will happen to a job: it fails, its provider answers, its stream ends.
enum class Due : std::uint8_t { failed, waited, stream_ends };
struct Timer {
  double when;
  std::uint32_t job;
  Due what;
  bool operator>(const Timer& other) const { return when > other.when; }
};

struct Server {
  struct Running {
    double until;  // in attained service
    std::uint32_t job;
    bool operator>(const Running& other) const { return until > other.until; }
  };
  double speed = 1.0;
  double served = 0;  // CPU seconds that each running job has got since the start
  double updated = 0;
  double finish = kForever;  // of the first one to finish
  std::uint32_t streams = 0;
  std::priority_queue<Running, std::vector<Running>, std::greater<>> running;

  [[nodiscard]] double rate() const {
    return std::max(0.02, speed - 0.0125 * streams) /
           static_cast<double>(std::max<std::size_t>(1, running.size()));
  }
  void advance(double now) {
    if (!running.empty()) served += (now - updated) * rate();
    updated = now;
  }
  void plan() {
    finish = running.empty() ? kForever : updated + std::max(0.0, running.top().until - served) / rate();
  }
};

class Simulation {
 public:
  explicit Simulation(const SelectionSetup& setup)
      : setup_(setup), rng_(setup.seed), choice_rng_(setup.seed + 1000), speeds_rng_(setup.seed + 2000) {
    picker_ = balancing::make_picker(setup.picker, {.stream_cost = setup.stream_cost});
    for (std::uint32_t i = 0; i < kWorkers; ++i) {
      candidates_[i] = {i, 1.0, &loads_[i]};
      members_[i] = {&loads_[i], true};
    }
    costs_.weight.fill(1.0);
    costs_.weight[static_cast<std::size_t>(RequestClass::chat)] = setup.chat_weight;
  }

  SelectionFigures run() {
    if (setup_.scenario == Scenario::two_slow) servers_[0].speed = servers_[1].speed = 0.4;
    double capacity = 0;
    for (const Server& s : servers_) capacity += s.speed;
    constexpr double kMeanWork = 0.8 * 0.03 + 0.14 * 0.06 + 0.06 * (0.06 + 22 * 0.0125);
    const double rate = setup_.load * capacity / kMeanWork;
    if (setup_.scenario == Scenario::redrawn) redraw(0);

    double arrival = rng_.exponential(1 / rate);
    double refresh = 0.05;
    double change = setup_.scenario == Scenario::redrawn ? 30.0 : 800.0;
    while (true) {
      std::size_t first = 0;
      for (std::size_t i = 1; i < kWorkers; ++i) {
        if (servers_[i].finish < servers_[first].finish) first = i;
      }
      const double timer = timers_.empty() ? kForever : timers_.top().when;
      const double now = std::min({arrival, refresh, change, timer, servers_[first].finish});
      if (now >= setup_.seconds) break;
      if (now == refresh) {
        speeds_.refresh(members_, at(now));
        refresh += 0.05;
      } else if (now == change) {
        change = change_speeds(now);
      } else if (now == arrival) {
        dispatch(now);
        arrival = now + rng_.exponential(1 / rate);
      } else if (now == timer) {
        const Timer due = timers_.top();
        timers_.pop();
        on_timer(due, now);
      } else {
        finish_cpu(servers_[first], now);
      }
    }
    return figures();
  }

 private:
  void redraw(double now) {
    int slow = 0;
    for (Server& s : servers_) {
      s.advance(now);
      s.speed = speeds_rng_.uniform() < 0.25 && ++slow <= 3 ? 0.3 : 1.0;
      s.plan();
    }
  }

  double change_speeds(double now) {
    if (setup_.scenario == Scenario::redrawn) {
      redraw(now);
      return now + 30.0;
    }
    if (setup_.scenario != Scenario::slow_spell) return kForever;
    servers_[7].advance(now);
    servers_[7].speed = now < 900 ? 0.05 : 1.0;
    servers_[7].plan();
    return now < 900 ? 1000.0 : kForever;
  }

  void dispatch(double now) {
    const double kind = rng_.uniform();
    Job job;
    job.arrived = now;
    if (kind >= 0.94) job.kind = RequestClass::chat;
    else if (kind >= 0.80) job.kind = RequestClass::search;
    const double work = rng_.exponential(job.kind == RequestClass::embeddings ? 0.03 : 0.06);
    job.worker = static_cast<std::uint32_t>(picker_->pick(candidates_, choice_rng_));
    ++figures_.decisions;
    count_share(job.worker, now);
    Server& server = servers_[job.worker];
    if (server.running.size() >= 400) {
      ++figures_.refused;
      return;
    }
    job.share = loads_[job.worker].begin(job.kind, costs_.of(job.kind, 0));
    const std::uint32_t slot = keep(job);
    if (setup_.scenario == Scenario::fails_fast && job.worker == 7 && now >= 1200) {
      timers_.push({now + 0.001, slot, Due::failed});
      return;
    }
    server.advance(now);
    server.running.push({server.served + work, slot});
    server.plan();
  }

  std::uint32_t keep(const Job& job) {
    if (free_.empty()) {
      jobs_.push_back(job);
      return static_cast<std::uint32_t>(jobs_.size() - 1);
    }
    const std::uint32_t slot = free_.back();
    free_.pop_back();
    jobs_[slot] = job;
    return slot;
  }

  void finish_cpu(Server& server, double now) {
    server.advance(now);
    const std::uint32_t slot = server.running.top().job;
    server.served = std::max(server.served, server.running.top().until);
    server.running.pop();
    if (jobs_[slot].kind == RequestClass::chat && setup_.chat_waits) {
      timers_.push({now + rng_.uniform(0.3, 3.0), slot, Due::waited});
    } else {
      first_event(slot, now);
    }
    server.plan();
  }

  void first_event(std::uint32_t slot, double now) {
    Job& job = jobs_[slot];
    BackendLoad& load = loads_[job.worker];
    const RequestClass learned = setup_.normalised ? job.kind : RequestClass::other;
    speeds_.sample(load, learned, from_seconds(now - job.arrived), at(now));
    load.first_event(job.share);
    if (job.kind == RequestClass::chat) {
      Server& server = servers_[job.worker];
      server.advance(now);
      ++server.streams;
      server.plan();
      timers_.push({now + rng_.uniform(4, 40), slot, Due::stream_ends});
      return;
    }
    if (job.arrived >= 300) short_ms_.push_back((now - job.arrived) * 1000);
    load.end(job.share);
    free_.push_back(slot);
  }

  void on_timer(const Timer& due, double now) {
    Job& job = jobs_[due.job];
    BackendLoad& load = loads_[job.worker];
    if (due.what == Due::waited) {
      first_event(due.job, now);
      return;
    }
    if (due.what == Due::stream_ends) {
      Server& server = servers_[job.worker];
      server.advance(now);
      --server.streams;
      server.plan();
    } else if (setup_.penalty) {
      speeds_.failure(load, setup_.normalised ? job.kind : RequestClass::other, Duration::zero(), at(now));
    } else {
      speeds_.sample(load, setup_.normalised ? job.kind : RequestClass::other, from_seconds(0.001), at(now));
    }
    load.end(job.share);
    free_.push_back(due.job);
  }

  void count_share(std::uint32_t worker, double now) {
    if (now >= 300) ++counts_[0][worker];
    if (now >= 1210) ++counts_[1][worker];
    if (now >= 1100) ++counts_[2][worker];
  }

  SelectionFigures figures() {
    std::sort(short_ms_.begin(), short_ms_.end());
    const auto quantile = [this](double q) {
      return short_ms_.empty()
                 ? 0.0
                 : short_ms_[static_cast<std::size_t>(q * static_cast<double>(short_ms_.size() - 1))];
    };
    figures_.p50_ms = quantile(0.5);
    figures_.p99_ms = quantile(0.99);
    const auto share = [this](std::size_t part, std::size_t worker) {
      double all = 0;
      for (const std::uint64_t n : counts_[part]) all += static_cast<double>(n);
      return all > 0 ? static_cast<double>(counts_[part][worker]) / all : 0.0;
    };
    for (std::size_t i = 0; i < kWorkers; ++i) figures_.share[i] = share(0, i);
    figures_.share7_failing = share(1, 7);
    figures_.share7_recovered = share(2, 7);
    return figures_;
  }

  SelectionSetup setup_;
  Rng rng_;
  Rng choice_rng_;
  Rng speeds_rng_;
  std::unique_ptr<balancing::Picker> picker_;
  balancing::SpeedModel speeds_;
  balancing::CostModel costs_;
  std::array<Server, kWorkers> servers_;
  std::array<BackendLoad, kWorkers> loads_;
  std::array<balancing::Candidate, kWorkers> candidates_;
  std::array<balancing::SpeedModel::Member, kWorkers> members_;
  std::priority_queue<Timer, std::vector<Timer>, std::greater<>> timers_;
  std::vector<Job> jobs_;
  std::vector<std::uint32_t> free_;
  std::vector<double> short_ms_;
  std::array<std::array<std::uint64_t, kWorkers>, 3> counts_{};
  SelectionFigures figures_;
};

}  // namespace

SelectionFigures run_selection(const SelectionSetup& setup) { return Simulation(setup).run(); }

}  // namespace perigee::model
