// Three ORBIT workers (the serial-loop model) behind the real dispatcher, in virtual time: bursts and Poisson
// arrivals of chats, measured as a client would. After every event the rest rule is checked.
#include "rig.h"

#include <algorithm>
#include <cmath>
#include <queue>

#include "orbit_worker_model.h"
#include "perigee/base/random.h"
#include "perigee/base/sanitizer.h"

namespace perigee::dispatch::test {
namespace {

struct Measured {
  double token_p99 = 0;     // sent - due, seconds
  double health_worst = 0;  // a look every 250 ms
  double whole_mean = 0;    // arrival → end
  double wait_mean = 0;     // arrival → first token, streamed chats
  double served = 0;        // a second
  double half_served = 0;   // a second, over the second half of a Poisson run
  double half_p95 = 0;      // token delay in that half, streamed chats only
  double at_home = 0;       // share of the chats that went where the last of their session was
  std::uint64_t refused = 0;
  std::array<std::uint64_t, 3> grants{};
  std::uint32_t widest = 0;  // greatest difference of tickets between two workers, at any grant
};

class Simulation final : public model::WorkerListener {
 public:
  // `fixed`: 0, or the slots of each worker with nothing steered. `mixed`: not only streamed chats (see arrive).
  Simulation(bool pauses, std::uint64_t seed, bool mixed = false, double fixed = 0)
      : mixed_(mixed), rng_(seed), rig_(steering(fixed)) {
    model::WorkerCosts costs;
    if (!pauses) costs.pause_every = 0;
    else if (mixed) costs.pause_every = 164;  // 110 chats: embeddings leave the collector little to do
    for (std::uint32_t i = 0; i < 3; ++i) {
      workers_.push_back(std::make_unique<model::OrbitWorkerModel>(i, costs, rng_.next(), *this));
      refs_.push_back(rig_.ref(i));
    }
    start_ = next_probe_ = now();
  }

  enum class Keep : std::uint8_t { nowhere, at_home, by_hash };
  // Every chat is of one of `n` sessions, which goes back to where it was served last, or to where its hash leads.
  void of_sessions(std::size_t n, Keep keep) {
    homes_.resize(n);
    keep_ = keep;
  }
  // One worker's own CPU is this much slower.
  void slow_down(std::uint32_t worker, double factor) {
    model::WorkerCosts costs;
    for (Duration* cost : {&costs.before_head, &costs.token, &costs.token_busy}) {
      *cost = std::chrono::duration_cast<Duration>(*cost * factor);
    }
    workers_[worker] = std::make_unique<model::OrbitWorkerModel>(worker, costs, rng_.next(), *this);
    slow_ = worker;
    factor_ = factor;
  }

  Measured burst(std::uint32_t n) {
    shape_.provider = Duration::zero();
    while (chats_.size() < n) arrive();
    while (ended_ < n) step();
    return result();
  }
  Measured poisson(double rate, Duration length) {
    rate_ = rate;
    next_arrival_ = now();
    const TimePoint end = start_ + length;
    half_ = start_ + length / 2;
    half_end_ = end;
    while (now() < end) step();
    next_arrival_ = kNever;
    m_.half_served = static_cast<double>(half_ended_) / to_seconds(length / 2);
    while (ended_ + m_.refused < chats_.size()) step();
    return result();
  }

 private:
  struct Chat {
    Client waiter;
    Ticket ticket;
    TimePoint arrived{};
    model::ChatShape shape;
    bool streamed = true;
    std::size_t session = 0;
  };
  static Setup steering(double fixed) {
    Setup s = setup_of(3, WorkerKind::orbit);
    if (fixed == 0) return s;
    s.policy.steered = false;
    s.policy.head_lag.start_slots = fixed;
    s.policy.head_lag.start_pace = 500;
    return s;
  }
  static constexpr std::uint64_t kLook = std::uint64_t{1} << 62;

  [[nodiscard]] TimePoint now() const { return rig_.now(); }

  void arrive() {
    chats_.push_back(std::make_unique<Chat>());
    Chat& c = *chats_.back();
    c.arrived = now();
    Ask a;
    a.request_class = RequestClass::chat;
    a.streamed = true;
    a.queue_wait = 30s;
    c.shape = shape_;
    if (mixed_) {
      // A third of the chats is asked whole; every third request is an embedding: short, one piece, no stream.
      const double what = rng_.uniform();
      c.streamed = what < 0.45;
      if (what >= 0.67) {
        a.request_class = RequestClass::embeddings;
        c.shape.work = 12ms;
        c.shape.tokens = 1;
        c.shape.provider = 60ms;
      }
    }
    a.streamed = c.streamed;
    if (!homes_.empty()) {
      // A few sessions have most of the chats.
      c.session = static_cast<std::size_t>(static_cast<double>(homes_.size()) * std::pow(rng_.uniform(), 3));
      if (keep_ == Keep::at_home) a.home = homes_[c.session];
      if (keep_ == Keep::by_hash) a.affinity = (c.session + 1) * 0x9E3779B97F4A7C15ULL;
    }
    const Verdict v = rig_.ask(c.waiter, a);
    if (v == Verdict::granted) begin(chats_.size() - 1);
    if (v == Verdict::waiting) waiting_.push_back(chats_.size() - 1);
    if (v == Verdict::refused) ++m_.refused;
  }
  void begin(std::size_t i) {
    Chat& c = *chats_[i];
    c.ticket = c.waiter.take();
    c.ticket.sent(now());
    const std::size_t w = worker_of(c);
    ++m_.grants[w];
    model::ChatShape shape = c.shape;
    if (w == slow_) shape.work = std::chrono::duration_cast<Duration>(shape.work * factor_);
    workers_[w]->start_chat(now(), i, shape);
    if (!homes_.empty()) {
      m_.at_home += homes_[c.session] == refs_[w] ? 1 : 0;
      homes_[c.session] = refs_[w];
    }
    std::array<std::uint32_t, 3> load{};
    for (std::size_t k = 0; k < 3; ++k) load[k] = workers_[k]->in_flight();
    const auto [least, most] = std::minmax_element(load.begin(), load.end());
    m_.widest = std::max(m_.widest, *most - *least);
  }
  [[nodiscard]] std::size_t worker_of(const Chat& c) const {
    return static_cast<std::size_t>(std::ranges::find(refs_, c.ticket.backend().ref) - refs_.begin());
  }
  void deliver() {
    rig_.loop.port.deliver();
    std::erase_if(waiting_, [&](std::size_t i) {
      if (chats_[i]->waiter.state() == Waiter::State::waiting) return false;
      if (chats_[i]->waiter.state() == Waiter::State::granted) begin(i);
      else ++m_.refused;
      return true;
    });
  }
  void probe() {
    next_probe_ += 250ms;
    for (std::size_t w = 0; w < 3; ++w) {
      looks_.push_back(now());
      workers_[w]->start_probe(now(), kLook + looks_.size() - 1);
      if (probe_sent_[w] != kNever) {
        rig_.d.on_lag_unanswered(refs_[w], probe_sent_[w], now());
      } else if (rig_.d.busy(refs_[w])) {
        probe_sent_[w] = now();
        rig_.d.on_lag_sent(refs_[w], now());
        workers_[w]->start_probe(now(), w);
      }
    }
  }
  void step() {
    TimePoint next = std::min(next_arrival_, next_probe_);
    for (const auto& w : workers_) next = std::min(next, w->next_event());
    if (const TimePoint due = rig_.d.take_wakeup(); due != kNever) rig_.timer = std::min(rig_.timer, due);
    next = std::min(next, rig_.timer);
    rig_.clock.set(std::max(next, now()));
    if (now() >= rig_.timer) rig_.pass(Duration::zero());
    for (const auto& w : workers_) w->run_until(now());
    if (now() >= next_probe_) probe();
    while (now() >= next_arrival_) {
      arrive();
      next_arrival_ += from_seconds(rng_.exponential(1.0 / rate_));
    }
    deliver();
    if (++steps_ % 64 == 0 || waiting_.size() < 8) rig_.check();
  }

  void on_head(std::uint32_t, std::uint64_t id, TimePoint at) override {
    if (!chats_[id]->streamed) return;  // its head comes with its end
    chats_[id]->ticket.bytes(at);
    chats_[id]->ticket.head(at);
  }
  void on_token(std::uint32_t, std::uint64_t id, std::uint32_t token, TimePoint due, TimePoint at) override {
    if (!chats_[id]->streamed) return;
    chats_[id]->ticket.bytes(at);
    if (at >= half_ && at < half_end_) half_delays_.push_back(to_seconds(at - due));
    if (token == 1) {
      chats_[id]->ticket.first_event(at);
      wait_ += to_seconds(at - chats_[id]->arrived);
      ++first_tokens_;
    }
    delays_.push_back(to_seconds(at - due));
  }
  void on_end(std::uint32_t, std::uint64_t id, TimePoint at) override {
    chats_[id]->ticket.finish(Outcome::success, at);
    whole_ += to_seconds(at - chats_[id]->arrived);
    if (at >= half_ && at < half_end_) ++half_ended_;
    ++ended_;
  }
  void on_probe(std::uint32_t worker, std::uint64_t id, TimePoint at) override {
    if (id >= kLook) {
      m_.health_worst = std::max(m_.health_worst, to_seconds(at - looks_[id - kLook]));
      return;
    }
    rig_.d.on_lag_probe(refs_[worker], probe_sent_[worker], at);
    probe_sent_[worker] = kNever;
  }

  Measured result() {
    const auto p99 = delays_.begin() + static_cast<std::ptrdiff_t>(0.99 * static_cast<double>(delays_.size() - 1));
    std::nth_element(delays_.begin(), p99, delays_.end());
    m_.token_p99 = *p99;
    if (!half_delays_.empty()) {
      const auto p95 = half_delays_.begin() + static_cast<std::ptrdiff_t>(0.95 * static_cast<double>(half_delays_.size() - 1));
      std::nth_element(half_delays_.begin(), p95, half_delays_.end());
      m_.half_p95 = *p95;
    }
    m_.whole_mean = whole_ / static_cast<double>(ended_);
    m_.wait_mean = wait_ / static_cast<double>(first_tokens_);
    m_.at_home /= static_cast<double>(ended_);
    m_.served = static_cast<double>(ended_) / to_seconds(now() - start_);
    for (std::size_t i = 0; i < 3; ++i) CHECK(rig_.status(i).in_flight == 0);
    const BackendStatus b = rig_.status(0);
    MESSAGE("token p99 " << m_.token_p99 << " s, health worst " << m_.health_worst << " s, whole " << m_.whole_mean << " s, first token " << m_.wait_mean << " s, at home " << m_.at_home
                         << " s, served " << m_.served << "/s (half " << m_.half_served << ", token p95 "
                         << m_.half_p95 << "), refused " << m_.refused << ", grants " << m_.grants[0]
                         << " " << m_.grants[1] << " " << m_.grants[2] << ", widest " << m_.widest << ", slots "
                         << b.slots << ", pace " << b.pace << ", stalls " << b.stalls);
    return m_;
  }

  bool mixed_;
  Rng rng_;
  Rig rig_;
  model::ChatShape shape_;
  std::vector<std::unique_ptr<model::OrbitWorkerModel>> workers_;
  std::vector<BackendRef> refs_;
  std::vector<std::unique_ptr<Chat>> chats_;
  std::vector<std::size_t> waiting_;
  std::vector<TimePoint> looks_;
  std::array<TimePoint, 3> probe_sent_{kNever, kNever, kNever};
  TimePoint start_{};
  TimePoint next_arrival_ = kNever;
  TimePoint next_probe_{};
  std::vector<BackendRef> homes_;  // by session
  Keep keep_ = Keep::nowhere;
  std::size_t slow_ = 3;
  double factor_ = 1;
  double rate_ = 0;
  double whole_ = 0;
  double wait_ = 0;
  std::uint64_t first_tokens_ = 0;
  std::uint64_t ended_ = 0;
  std::uint64_t steps_ = 0;
  std::uint64_t half_ended_ = 0;
  TimePoint half_ = kNever, half_end_ = kNever;
  std::vector<double> half_delays_;
  std::vector<double> delays_;
  Measured m_;
};

}  // namespace

// The provider answers at once. With nothing in front of them the whole answer takes 4.0 and 6.8 s on the model.
TEST_CASE("200 and 400 chats at once on three workers: even, late for nobody, and faster than direct") {
  for (const bool pauses : {false, true}) {
    for (const std::uint32_t n : {200U, 400U}) {
      CAPTURE(pauses);
      CAPTURE(n);
      const Measured m = Simulation(pauses, 42).burst(n);
      CHECK(m.refused == 0);
      CHECK(m.token_p99 <= (pauses ? 0.5 : 0.15));
      CHECK(m.health_worst <= (pauses ? 0.5 : 0.15));
      CHECK(m.whole_mean < (n == 200 ? 4.0 : 6.8));
      const auto [least, most] = std::minmax_element(m.grants.begin(), m.grants.end());
      if (!pauses) CHECK(*most - *least <= n / 10);
      if (!pauses) CHECK(m.widest <= 10);
    }
  }
}

TEST_CASE("Poisson arrivals at 70 and 110 percent of what three workers serve") {
  constexpr double kCapacity = 3 * 16.0;
  for (const double load : {0.7, 1.1}) {
    CAPTURE(load);
    const Measured m = Simulation(true, 1).poisson(load * kCapacity, 40s);
    CHECK(m.refused == 0);
    CHECK(m.token_p99 <= 0.5);
    CHECK(m.served >= 0.85 * std::min(load, 1.0) * kCapacity);
    const auto [least, most] = std::minmax_element(m.grants.begin(), m.grants.end());
    CHECK(*most - *least <= *most / 10);
  }
}

// Chats that are not streamed give no sample and embeddings are no chats, yet both count in slots and pace; the lag
// probe and what is streamed must be enough to steer by.
TEST_CASE("streamed and whole chats and embeddings together: as good as the best fixed number") {
  constexpr double kRate = 3 * 36.0;  // about one and a half of what three workers serve
  const Duration length = kFastBuild ? 60s : 24s;
  const Measured steered = Simulation(true, 42, true).poisson(kRate, length);
  CHECK(steered.half_p95 <= 0.25);
  if (!kFastBuild) return;
  double best = 0;
  for (const double slots : {32.0, 48.0, 64.0, 96.0}) {
    best = std::max(best, Simulation(true, 42, true, slots).poisson(kRate, length).half_served);
  }
  CHECK(steered.half_served >= 0.95 * best);
}

// Where sessions stay must cost nothing: nobody's first turn is led to a busy worker, and a busy or slow home is left.
// Twelve seeds, to the first token: with three equal workers at 70, 100 and 130 % of what they serve 1.76, 2.37, 7.54 s
// with every worker open to all and 1.79, 2.42, 7.48 s with sessions that go back; with the third half as fast 1.81,
// 2.61, 7.77 and 1.83, 2.59, 7.82 s. At 70 % three of four chats then go where the last of their session was, by
// hash 0.61 and 0.51 of them.
TEST_CASE("sessions that go back to their worker: as fast and as many as with every worker open to all") {
  using Keep = Simulation::Keep;
  constexpr double kCapacity = 3 * 16.0;
  const std::uint64_t seeds = kFastBuild ? 3 : 1;
  const Duration length = kFastBuild ? 40s : 6s;
  const double near = kFastBuild ? 1.03 : 1.1;
  for (const double factor : {1.0, 2.0}) {
    for (const double load : {0.7, 1.0, 1.3}) {
      if (!kFastBuild && (factor == 1.0 || load == 1.0)) continue;
      CAPTURE(factor);
      CAPTURE(load);
      const auto run = [&](Keep keep) {
        Measured sum;
        for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
          Simulation s(true, seed);
          s.of_sessions(200, keep);
          if (factor != 1) s.slow_down(2, factor);
          const Measured m = s.poisson(load * kCapacity * (2 + 1 / factor) / 3, length);
          CHECK(m.refused == 0);
          sum.wait_mean += m.wait_mean;
          sum.whole_mean += m.whole_mean;
          sum.served += m.served;
          sum.at_home += m.at_home;
        }
        return sum;
      };
      const Measured any = run(Keep::nowhere);
      const Measured home = run(Keep::at_home);
      CHECK(home.wait_mean <= near * any.wait_mean);
      CHECK(home.whole_mean <= near * any.whole_mean);
      CHECK(home.served >= any.served / near);
      if (load == 0.7) CHECK(home.at_home >= 2 * any.at_home);
    }
  }
}

}  // namespace perigee::dispatch::test
