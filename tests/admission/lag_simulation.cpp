#include "lag_simulation.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <memory>

namespace perigee::model {
namespace {

using admission::HeadLag;
using admission::HeadLagConfig;
using admission::StartAnswer;

constexpr TimePoint kStart{std::chrono::seconds(1000)};
constexpr Duration kProbeEvery = std::chrono::milliseconds(250);

double quantile(std::vector<double>& values, double q) {
  if (values.empty()) return 0;
  const auto at = static_cast<std::ptrdiff_t>(q * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return values[static_cast<std::size_t>(at)];
}

class Simulation final : public WorkerListener {
 public:
  Simulation(const Load& load, const Policy& policy, std::uint64_t seed, Look look)
      : load_(load), policy_(policy), rng_(seed), look_(look) {
    WorkerCosts costs;
    if (!load.pauses) costs.pause_every = 0;
    for (std::uint32_t i = 0; i < load.workers; ++i) {
      workers_.push_back(std::make_unique<Backend>(i, costs, rng_.next(), *this, controller()));
    }
  }

  Outcome run();

 private:
  struct Backend {
    Backend(std::uint32_t number, const WorkerCosts& costs, std::uint64_t seed, WorkerListener& listener,
            const HeadLag& controller)
        : model(number, costs, seed, listener), lag(controller) {}
    OrbitWorkerModel model;
    HeadLag lag;
    bool probe_out = false;  // the controller's; one at a time
    TimePoint probe_sent{};
  };
  struct Chat {
    TimePoint arrived;
    TimePoint started;
  };
  static constexpr std::uint64_t kLooker = std::uint64_t{1} << 62;  // id of a probe that only measures

  [[nodiscard]] HeadLag controller() const {
    switch (policy_.kind) {
      case Policy::Kind::direct: return HeadLag::fixed(1'000'000);
      case Policy::Kind::fixed: return HeadLag::fixed(policy_.slots);
      case Policy::Kind::head_lag: break;
    }
    HeadLag lag(HeadLagConfig{}, kStart);
    if (load_.recovered) lag.recovered(kStart);
    return lag;
  }

  void arrive();
  void pump();
  void probe();
  [[nodiscard]] TimePoint next_time() const;
  [[nodiscard]] bool finished() const;

  void on_head(std::uint32_t worker, std::uint64_t id, TimePoint now) override;
  void on_token(std::uint32_t worker, std::uint64_t id, std::uint32_t token, TimePoint due,
                TimePoint now) override;
  void on_end(std::uint32_t worker, std::uint64_t id, TimePoint now) override;
  void on_probe(std::uint32_t worker, std::uint64_t id, TimePoint now) override;

  Load load_;
  Policy policy_;
  Rng rng_;
  Look look_;
  std::vector<std::unique_ptr<Backend>> workers_;
  std::deque<std::uint64_t> waiting_;
  std::vector<Chat> chats_;
  std::vector<TimePoint> looks_;  // when a measuring probe was sent
  TimePoint now_ = kStart;
  TimePoint next_arrival_ = kNever;
  TimePoint next_probe_ = kStart;
  TimePoint next_pace_ = kNever;
  TimePoint next_look_ = kStart;
  TimePoint measure_from_ = kStart;
  bool dirty_ = false;

  std::vector<double> token_delays_;
  std::vector<double> first_tokens_;
  double whole_sum_ = 0;
  double health_worst_ = 0;
  std::uint64_t ended_ = 0;
  std::uint64_t ended_measured_ = 0;
};

void Simulation::arrive() {
  chats_.push_back({now_, {}});
  waiting_.push_back(chats_.size() - 1);
  dirty_ = true;
}

// As the dispatcher does: the oldest waiter to the least busy worker that may take one.
void Simulation::pump() {
  next_pace_ = kNever;
  while (!waiting_.empty()) {
    Backend* best = nullptr;
    for (auto& b : workers_) {
      if (b->lag.may_start(now_, b->model.in_flight()) != StartAnswer::yes) continue;
      if (best == nullptr || b->model.in_flight() < best->model.in_flight()) best = b.get();
    }
    if (best == nullptr) break;
    const std::uint64_t id = waiting_.front();
    waiting_.pop_front();
    chats_[id].started = now_;
    best->lag.take_start(now_);
    best->model.start_chat(now_, id, load_.shape);
  }
  if (waiting_.empty()) return;
  for (auto& b : workers_) {
    b->lag.note_held_back(now_, b->model.in_flight());
    next_pace_ = std::min(next_pace_, b->lag.next_change(now_, b->model.in_flight()));
  }
}

void Simulation::probe() {
  for (auto& b : workers_) {
    looks_.push_back(now_);
    b->model.start_probe(now_, kLooker + looks_.size() - 1);
    if (!b->lag.steered()) continue;
    if (b->probe_out) {
      b->lag.on_unanswered(now_, b->probe_sent, b->model.in_flight());
    } else if (!waiting_.empty() || b->model.in_flight() > 0) {
      b->probe_out = true;
      b->probe_sent = now_;
      b->lag.on_probe_sent(now_);
      b->model.start_probe(now_, 0);
    }
  }
  dirty_ = true;
}

void Simulation::on_head(std::uint32_t worker, std::uint64_t id, TimePoint now) {
  Backend& b = *workers_[worker];
  b.lag.on_byte(now, b.model.in_flight());
  if (b.lag.on_head_sample(now, chats_[id].started, b.model.in_flight())) dirty_ = true;
}

void Simulation::on_token(std::uint32_t worker, std::uint64_t id, std::uint32_t token, TimePoint due,
                          TimePoint now) {
  Backend& b = *workers_[worker];
  b.lag.on_byte(now, b.model.in_flight());
  if (token == 1 && now >= measure_from_) first_tokens_.push_back(to_seconds(now - chats_[id].arrived));
  if (now >= measure_from_) token_delays_.push_back(to_seconds(now - due));
}

void Simulation::on_end(std::uint32_t worker, std::uint64_t id, TimePoint now) {
  workers_[worker]->lag.on_end(now - chats_[id].started);
  ++ended_;
  if (now >= measure_from_) {
    ++ended_measured_;
    whole_sum_ += to_seconds(now - chats_[id].arrived);
  }
  dirty_ = true;
}

void Simulation::on_probe(std::uint32_t worker, std::uint64_t id, TimePoint now) {
  Backend& b = *workers_[worker];
  if (id >= kLooker) {
    if (now >= measure_from_) health_worst_ = std::max(health_worst_, to_seconds(now - looks_[id - kLooker]));
    return;
  }
  b.lag.on_byte(now, b.model.in_flight());
  b.probe_out = false;
  if (b.lag.on_probe_sample(now, b.probe_sent, b.model.in_flight())) dirty_ = true;
}

TimePoint Simulation::next_time() const {
  TimePoint next = std::min({next_arrival_, next_probe_, next_pace_, next_look_});
  for (const auto& b : workers_)
    next = std::min(next, b->model.next_event());
  return next;
}

bool Simulation::finished() const {
  if (load_.burst > 0) return ended_ == load_.burst;
  return now_ >= kStart + from_seconds(load_.seconds);
}

Outcome Simulation::run() {
  if (load_.burst > 0) {
    for (std::uint32_t i = 0; i < load_.burst; ++i)
      arrive();
  } else {
    next_arrival_ = kStart + from_seconds(rng_.exponential(1.0 / load_.rate));
    measure_from_ = kStart + from_seconds(load_.seconds / 2);
  }
  pump();
  while (!finished()) {
    now_ = next_time();
    for (auto& b : workers_)
      b->model.run_until(now_);
    if (next_arrival_ <= now_) {
      arrive();
      next_arrival_ = now_ + from_seconds(rng_.exponential(1.0 / load_.rate));
    }
    if (next_probe_ <= now_) {
      probe();
      next_probe_ = now_ + kProbeEvery;
    }
    if (next_look_ <= now_) {
      next_look_ = now_ + std::chrono::seconds(1);
      const Backend& b = *workers_.front();
      if (look_ != nullptr) look_(to_seconds(now_ - kStart), b.lag, b.model.in_flight(), waiting_.size());
    }
    if (dirty_ || next_pace_ <= now_) {
      dirty_ = false;
      pump();
    }
  }
  Outcome out;
  const double measured = to_seconds(now_ - measure_from_);
  out.served = static_cast<double>(ended_measured_) / measured;
  out.whole_mean = ended_measured_ == 0 ? 0 : whole_sum_ / static_cast<double>(ended_measured_);
  out.token_p50 = quantile(token_delays_, 0.50);
  out.token_p95 = quantile(token_delays_, 0.95);
  out.token_p99 = quantile(token_delays_, 0.99);
  out.first_token_p95 = quantile(first_tokens_, 0.95);
  out.health_worst = health_worst_;
  out.slots = workers_.front()->lag.slots();
  out.pace = workers_.front()->lag.pace();
  out.stalls = workers_.front()->lag.stalls();
  out.ended = ended_;
  return out;
}

}  // namespace

Outcome simulate(const Load& load, const Policy& policy, std::uint64_t seed) {
  return simulate(load, policy, seed, nullptr);
}

Outcome simulate(const Load& load, const Policy& policy, std::uint64_t seed, Look look) {
  return Simulation(load, policy, seed, look).run();
}

const std::vector<Load>& five_loads() {
  using std::chrono::milliseconds;
  using std::chrono::seconds;
  static const std::vector<Load> loads = {
      {"A short", 40, {milliseconds(32), 40, milliseconds(50), {}}, 120, 0, 1, true, false},
      {"B slow tokens", 20, {milliseconds(32), 40, milliseconds(500), {}}, 200, 0, 1, true, false},
      {"C long", 8, {milliseconds(32), 200, milliseconds(50), {}}, 200, 0, 1, true, false},
      {"heavy", 9, {milliseconds(200), 40, milliseconds(50), {}}, 200, 0, 1, true, false},
      {"slow provider", 25, {milliseconds(32), 40, milliseconds(50), seconds(8)}, 200, 0, 1, true, false},
  };
  return loads;
}

}  // namespace perigee::model
