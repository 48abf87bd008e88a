#include "orbit_selection_model.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <numeric>
#include <vector>

#include "../admission/orbit_worker_model.h"
#include "perigee/balancing/backend_load.h"
#include "perigee/balancing/picker.h"

namespace perigee::model {
namespace {

using balancing::BackendLoad;
using balancing::LoadShare;
using std::chrono::milliseconds;

constexpr std::size_t kWorkers = 3;
constexpr std::uint64_t kLongPrompt = 32 * 1024;

struct Chat {
  TimePoint arrived{};
  TimePoint dispatched{};
  std::uint32_t worker = 0;
  std::uint64_t bytes = 0;
  ChatShape shape;
  LoadShare share;
};

Duration scaled(Duration d, double factor) { return from_seconds(to_seconds(d) * factor); }

WorkerCosts costs(double slower) {
  WorkerCosts c;
  c.before_head = scaled(c.before_head, slower);
  c.token = c.token_busy = scaled(std::chrono::microseconds(800), slower);
  c.pause_every = 0;
  return c;
}

class Simulation final : public WorkerListener {
 public:
  explicit Simulation(const OrbitSelectionSetup& setup)
      : setup_(setup), rng_(setup.seed), choice_rng_(setup.seed + 1) {
    picker_ = balancing::make_picker(setup.picker, {.stream_cost = setup.costs.stream});
    for (std::uint32_t i = 0; i < kWorkers; ++i) {
      workers_.push_back(std::make_unique<OrbitWorkerModel>(i, costs(slower(i)), setup.seed * 10 + i, *this));
      members_[i] = {&loads_[i], true};
    }
  }

  OrbitSelectionFigures run() {
    const TimePoint start{};
    const TimePoint end = start + from_seconds(setup_.seconds);
    for (std::uint32_t i = 0; i < setup_.at_once; ++i) arrive(start);
    TimePoint arrival = setup_.per_second > 0 ? start + next_gap() : kNever;
    TimePoint probe = start;
    TimePoint refresh = start;
    while (true) {
      TimePoint now = std::min({arrival, probe, refresh});
      for (const auto& w : workers_) now = std::min(now, w->next_event());
      if (now >= end) break;
      for (const auto& w : workers_) w->run_until(now);
      if (now == refresh) {
        speeds_.refresh(members_, now);
        refresh += milliseconds(50);
      }
      if (now == probe) send_probes(now);
      if (now == probe) probe += milliseconds(250);
      if (now == arrival) {
        arrive(now);
        arrival = now + next_gap();
      }
      serve_waiting(now);
    }
    return figures();
  }

 private:
  [[nodiscard]] double slower(std::uint32_t worker) const {
    return worker == 0 ? 1.0 / setup_.speed_of_first : 1.0;
  }
  Duration next_gap() { return from_seconds(rng_.exponential(1.0 / setup_.per_second)); }

  void arrive(TimePoint now) {
    Chat chat;
    chat.arrived = now;
    chat.shape.work = milliseconds(55);
    chat.bytes = 1024;
    if (rng_.uniform() < setup_.long_share) {
      chat.bytes = kLongPrompt;
      chat.shape.work += milliseconds(230);
    }
    if (rng_.uniform() < setup_.mixed_tokens) chat.shape.tokens *= 5;
    chats_.push_back(chat);
    waiting_.push_back(chats_.size() - 1);
    serve_waiting(now);
  }

  void serve_waiting(TimePoint now) {
    while (!waiting_.empty()) {
      std::array<balancing::Candidate, kWorkers> free;
      std::size_t count = 0;
      for (std::uint32_t i = 0; i < kWorkers; ++i) {
        if (setup_.slots == 0 || loads_[i].in_flight() < setup_.slots) free[count++] = {i, 1.0, &loads_[i]};
      }
      if (count == 0) return;
      const std::span<const balancing::Candidate> candidates(free.data(), count);
      const std::uint32_t worker = candidates[picker_->pick(candidates, choice_rng_)].backend;
      const std::size_t id = waiting_.front();
      waiting_.pop_front();
      Chat& chat = chats_[id];
      chat.worker = worker;
      chat.dispatched = now;
      chat.share = loads_[worker].begin(RequestClass::chat, setup_.costs.of(RequestClass::chat, chat.bytes));
      ++figures_.chats[worker];
      ChatShape shape = chat.shape;
      shape.work = scaled(shape.work, slower(worker));
      workers_[worker]->start_chat(now, id, shape);
    }
  }

  void send_probes(TimePoint now) {
    for (const auto& w : workers_) {
      probes_.push_back(now);
      w->start_probe(now, probes_.size() - 1);
    }
  }

  void on_head(std::uint32_t worker, std::uint64_t id, TimePoint) override {
    loads_[worker].head(chats_[id].share, setup_.costs.after_head);
  }
  void on_token(std::uint32_t worker, std::uint64_t id, std::uint32_t token, TimePoint,
                TimePoint now) override {
    if (token != 1) return;
    Chat& chat = chats_[id];
    first_.push_back(to_seconds(now - chat.arrived));
    speeds_.sample(loads_[worker], RequestClass::chat, now - chat.dispatched, now);
    loads_[worker].first_event(chat.share);
  }
  void on_end(std::uint32_t worker, std::uint64_t id, TimePoint) override {
    loads_[worker].end(chats_[id].share);
    ++figures_.served;
  }
  void on_probe(std::uint32_t, std::uint64_t id, TimePoint now) override {
    figures_.worst_health = std::max(figures_.worst_health, to_seconds(now - probes_[id]));
  }

  OrbitSelectionFigures figures() {
    std::sort(first_.begin(), first_.end());
    const auto quantile = [this](double q) {
      return first_.empty() ? 0.0
                            : first_[static_cast<std::size_t>(q * static_cast<double>(first_.size() - 1))];
    };
    figures_.p50 = quantile(0.50);
    figures_.p95 = quantile(0.95);
    figures_.mean = std::accumulate(first_.begin(), first_.end(), 0.0) /
                    static_cast<double>(std::max<std::size_t>(1, first_.size()));
    return figures_;
  }

  OrbitSelectionSetup setup_;
  Rng rng_;
  Rng choice_rng_;
  std::unique_ptr<balancing::Picker> picker_;
  balancing::SpeedModel speeds_;
  std::vector<std::unique_ptr<OrbitWorkerModel>> workers_;
  std::array<BackendLoad, kWorkers> loads_;
  std::array<balancing::SpeedModel::Member, kWorkers> members_;
  std::vector<Chat> chats_;
  std::deque<std::size_t> waiting_;
  std::vector<TimePoint> probes_;
  std::vector<double> first_;
  OrbitSelectionFigures figures_;
};

}  // namespace

OrbitSelectionFigures run_orbit_selection(const OrbitSelectionSetup& setup) {
  return Simulation(setup).run();
}

}  // namespace perigee::model
