// A million random events (a quarter of that under a sanitizer) on one thread: everything that can happen to waiters, tickets and backends, in any
// order. After each one the whole state is checked from first principles, the rest rule included: a free
// place and a waiter who may use it never both exist.
#include "rig.h"

#include "perigee/balancing/picker.h"
#include "perigee/base/random.h"
#include "perigee/base/sanitizer.h"

namespace perigee::dispatch::test {
namespace {

constexpr int kEvents = kSanitized ? 250'000 : 1'000'000;
constexpr std::size_t kExchanges = 48;
constexpr std::size_t kNames = 7;

class Storm {
 public:
  explicit Storm(std::uint64_t seed) : rng_(seed), d_(seed + 1), loop_(d_) {
    clock_.set(TimePoint(1000s));
    REQUIRE(d_.configure(random_setup(), now()).has_value());
  }
  void run(int events) {
    for (int i = 0; i < events; ++i) {
      step();
      const char* wrong = d_.check_at_rest();
      if (*wrong != 0) FAIL("event " << i << " (" << std::string(did_) << "): " << std::string(wrong));
      if (i % 512 == 0) compare();
    }
    end();
  }

 private:
  struct Exchange {
    Client client;
    Ticket ticket;
    bool asked = false;   // waits, or was granted and not taken
    bool tunnel = false;
    int told_before = 0;
    std::uint64_t arrival = 0;
    BackendSet failed = 0;
  };

  [[nodiscard]] TimePoint now() const { return clock_.now(); }
  std::uint32_t pick(std::size_t n) { return rng_.below(static_cast<std::uint32_t>(n)); }
  bool chance(double p) { return rng_.uniform() < p; }
  // Loops read the time at different moments: it may go back a little.
  TimePoint about_now() { return chance(0.1) ? now() - Duration(rng_.below(5'000'000)) : now(); }

  Setup random_setup() {
    Setup s;
    for (std::size_t i = 0; i < kNames; ++i) {
      if (!chance(0.7)) continue;
      BackendSpec b;
      b.name = "b" + std::to_string(i);
      b.address = "host:" + std::to_string(chance(0.1) ? 9000 + i : 3000 + i);
      b.weight = 1.0 + pick(3);
      b.kind = std::array{WorkerKind::orbit, WorkerKind::http, WorkerKind::unknown}[pick(3)];
      b.orbit_ceiling = 2 + pick(8);
      b.http_slots = 1 + pick(6);
      s.backends.push_back(b);
    }
    for (std::size_t p = 0; p < 2; ++p) {
      PoolSpec pool;
      pool.name = p == 0 ? "default" : chance(0.5) ? "second" : "third";
      for (std::uint32_t i = 0; i < s.backends.size(); ++i) {
        if (chance(0.7)) pool.backends.push_back(i);
      }
      if (chance(0.5)) pool.overload = static_cast<admission::OverloadKind>(pick(4));
      pool.batch = pool.overload == admission::OverloadKind::none && chance(0.2);
      s.pools.push_back(pool);
    }
    s.policy.limits[RequestClass::chat] = 2 + pick(8);
    s.policy.limits[RequestClass::search] = 1 + pick(4);
    s.policy.limits.streams = 2 + pick(8);
    s.policy.queue = {10 + pick(40), pick(6), 2000 + pick(20000)};
    s.policy.starting[pick(kStartPoolCount)] = chance(0.5) ? 1 + pick(3) : kUnbounded;
    s.policy.critical_slots = 1 + pick(3);
    s.policy.tunnels = pick(4);
    s.policy.picker = std::string(balancing::picker_names()[pick(balancing::picker_names().size())]);
    s.policy.breaker.consecutive = 2;
    s.policy.breaker.trial_timeout = 3s;
    s.policy.health.silence = 4s;
    s.policy.steered = chance(0.8);
    s.policy.hold.hold = pick(4);
    s.policy.http_adaptive = chance(0.5);
    s.policy.class_adaptive = chance(0.4);
    s.policy.tenant_turns = chance(0.8);
    s.policy.deadlines = chance(0.7);
    if (chance(0.4)) s.policy.floors[static_cast<std::size_t>(RequestClass::search)] = 0.1 * (1 + pick(6));
    if (chance(0.3)) s.policy.ceilings[static_cast<std::size_t>(RequestClass::chat)] = 1 + pick(4);
    s.policy.batch_size = 2 + pick(4);
    return s;
  }

  std::vector<BackendStatus> backends() const { return d_.snapshot().backends; }
  BackendRef random_backend() {
    if (chance(0.02)) return {static_cast<BackendId>(pick(kMaxBackends)), static_cast<std::uint16_t>(pick(5))};
    const BackendRef ref = d_.backend("b" + std::to_string(pick(kNames)));
    return ref.exists() ? ref : BackendRef{0, 0};
  }

  void pass_time() {
    clock_.advance(chance(0.02) ? Duration(rng_.below(4'000'000'000U)) : Duration(rng_.below(100'000'000)));
    timers();
  }
  void timers() {
    for (;;) {
      if (const TimePoint due = d_.take_wakeup(); due != kNever) timer_ = std::min(timer_, due);
      if (timer_ > now()) return;
      timer_ = kNever;
      d_.pump(now());
    }
  }

  void ask(Exchange& x) {
    Ask a;
    a.pool = static_cast<PoolId>(chance(0.02) ? pick(20) : chance(0.5) ? 0 : d_.pool("second").value_or(0));
    a.request_class = std::array{RequestClass::chat, RequestClass::search, RequestClass::admin,
                                 RequestClass::other}[pick(4)];
    a.priority = static_cast<Priority>(pick(kPriorityCount));
    a.critical_lane = chance(0.1);
    a.streamed = chance(0.5);
    a.retry = x.failed != 0 && d_.try_retry(a.request_class, about_now());
    if (a.retry) {
      a.excluded = x.failed;
      a.arrival = x.arrival;
    } else {
      x.failed = 0;
    }
    if (chance(0.1)) a.pinned = random_backend();
    a.body_bytes = pick(800);
    a.affinity = chance(0.5) ? 1 + pick(8) : 0;
    if (chance(0.3)) a.home = random_backend();
    a.queue_wait = chance(0.05) ? Duration::zero() : Duration(rng_.below(4'000'000'000U)) * 3;
    a.tenant = pick(6);
    a.tenant_weight = 0.5 + pick(3);
    if (chance(0.15)) a.deadline = now() + Duration(rng_.below(500'000'000));
    const bool draining = d_.draining();
    x.told_before = x.client.told;
    const Verdict v = d_.acquire(x.client, a, loop_.port, about_now());
    x.arrival = x.client.arrival_number();
    x.asked = v != Verdict::refused;
    if (v == Verdict::refused) {
      REQUIRE(x.client.refusal().at_door);
      REQUIRE(x.client.refusal().retry_after_s >= 1);
      x.failed = 0;
    }
    if (draining && !a.retry) REQUIRE(v == Verdict::refused);
  }

  void advance_waiter(Exchange& x) {
    if (chance(0.25)) {
      d_.cancel(x.client, std::array{Cancelled::client_gone, Cancelled::queue_timeout, Cancelled::shutdown}[pick(3)],
                about_now());
      REQUIRE(x.client.state() == Waiter::State::idle);
      x.asked = false;
      x.failed = 0;
    } else if (x.client.state() == Waiter::State::granted) {
      x.ticket = x.client.take();
      x.asked = false;
      if (chance(0.8)) x.ticket.sent(about_now());
    }
  }
  // What a delivery told: refused ones are free again.
  void collect() {
    for (Exchange& x : exchanges_) {
      if (!x.asked) continue;
      if (x.client.told - x.told_before > 1) FAIL("told twice");
      if (x.client.state() == Waiter::State::refused) {
        REQUIRE(x.client.told == x.told_before + 1);
        REQUIRE_FALSE(x.client.refusal().at_door);
        x.asked = false;
        x.failed = 0;
      }
    }
  }

  void advance_ticket(Exchange& x) {
    const BackendId id = x.ticket.backend().ref.id;
    switch (pick(9)) {
      case 0: x.ticket.bytes(about_now()); break;
      case 1: x.ticket.head(about_now()); break;
      case 2: x.ticket.became_stream(about_now()); break;
      case 3: x.ticket.first_event(about_now(), chance(0.8) ? Outcome::success : random_outcome()); break;
      case 4:
        if (chance(0.3)) x.tunnel = x.ticket.became_tunnel(about_now()) || x.tunnel;
        break;
      case 5: x.ticket = Ticket(); x.tunnel = false; break;
      default: {
        const Outcome o = chance(0.6) ? Outcome::success : random_outcome();
        x.ticket.finish(o, about_now(), chance(0.1) ? Duration(5s) : Duration::zero(), pick(3000));
        x.tunnel = false;
        if (o != Outcome::success) x.failed |= BackendSet{1} << id;
        REQUIRE_FALSE(x.ticket);
      }
    }
  }
  Outcome random_outcome() { return static_cast<Outcome>(pick(balancing::kOutcomeCount)); }

  void health() {
    const BackendRef b = random_backend();
    switch (pick(8)) {
      case 0:
      case 1:
      case 2: d_.on_probe(b, ProbeResult::ok, chance(0.5) ? WorkerKind::orbit : WorkerKind::unknown, about_now()); break;
      case 3: d_.on_probe(b, static_cast<ProbeResult>(pick(4)), WorkerKind::unknown, about_now()); break;
      case 4: d_.on_probe_timer(b, about_now()); break;
      case 5: d_.on_lag_sent(b, about_now()); break;
      case 6: d_.on_lag_probe(b, now() - Duration(rng_.below(300'000'000)), about_now()); break;
      default: d_.on_lag_unanswered(b, now() - Duration(rng_.below(3'000'000'000U)), about_now());
    }
  }
  void throttle() {
    admission::ThrottleOrders orders;
    orders.above_soft = chance(0.6);
    orders.no_retries = chance(0.2);
    orders.halve_streams = chance(0.3);
    if (chance(0.2)) orders.refuse_above = static_cast<std::uint8_t>(30 + pick(60));
    const std::array<BackendRef, 2> hot = {random_backend(), random_backend()};
    d_.set_throttle(orders, std::span(hot).first(pick(3)), about_now());
    REQUIRE(d_.standing_queue(about_now()) <= 1.0);
  }
  void operate() {
    switch (pick(16)) {
      case 12: d_.limit_backend(random_backend(), chance(0.5) ? 0 : 1 + pick(6), about_now()); break;
      case 13: d_.eject_backend(random_backend(), Duration(rng_.below(2'000'000'000U)), about_now()); break;
      case 14: d_.enable_backend(random_backend(), about_now()); break;
      case 15: throttle(); break;
      case 0: REQUIRE(d_.configure(random_setup(), about_now()).has_value()); break;
      case 1: d_.set_draining(chance(0.05)); break;
      case 2:
      case 3: d_.set_paused(static_cast<PoolId>(pick(3)), chance(0.15), about_now()); break;
      case 4:
      case 5: d_.drain_backend(random_backend(), chance(0.15), about_now()); break;
      default: {
        // All come up again, so that a storm does not end in silence.
        for (std::size_t i = 0; i < kNames; ++i) {
          for (int n = 0; n < 2; ++n) {
            d_.on_probe(d_.backend("b" + std::to_string(i)), ProbeResult::ok, WorkerKind::orbit, about_now());
          }
        }
      }
    }
  }

  void step() {
    const double what = rng_.uniform();
    if (what < 0.15) {
      did_ = "time";
      pass_time();
      return;
    }
    timers();
    if (what < 0.40) {
      did_ = "deliver";
      loop_.port.deliver();
      collect();
    } else if (what < 0.44) {
      did_ = "health";
      health();
    } else if (what < 0.443) {
      did_ = "operate";
      operate();
    } else {
      Exchange& x = exchanges_[pick(kExchanges)];
      did_ = x.ticket ? "ticket" : x.asked ? "waiter" : "ask";
      if (x.ticket) advance_ticket(x);
      else if (x.asked) advance_waiter(x);
      else ask(x);
    }
    timers();
  }

  // The dispatcher's counters against what we hold.
  void compare() {
    std::array<std::uint32_t, kMaxBackends> tickets{};
    std::array<std::uint32_t, kMaxBackends> tunnels{};
    std::size_t waiting = 0;
    for (Exchange& x : exchanges_) {
      if (x.ticket) ++(x.tunnel ? tunnels : tickets)[x.ticket.backend().ref.id];
      if (x.asked && x.client.state() == Waiter::State::waiting) ++waiting;
    }
    const Status s = d_.snapshot();
    std::uint32_t queued = s.waiting_critical;
    for (const auto& lane : s.waiting) {
      for (const std::uint32_t n : lane) queued += n;
    }
    REQUIRE(queued <= waiting);  // the rest is decided and not yet told
    for (const BackendStatus& b : s.backends) {
      REQUIRE(b.in_flight + b.critical >= tickets[b.ref.id]);  // the rest is granted and not yet taken
      REQUIRE(b.tunnels == tunnels[b.ref.id]);
    }
  }

  void end() {
    for (Exchange& x : exchanges_) {
      if (x.ticket) x.ticket.finish(Outcome::client_gone, now());
    }
    for (Exchange& x : exchanges_) {
      if (x.asked) d_.cancel(x.client, Cancelled::client_gone, now());
    }
    const Status s = d_.snapshot();
    for (const BackendStatus& b : s.backends) {
      REQUIRE(b.in_flight == 0);
      REQUIRE(b.starting == 0);
      REQUIRE(b.streams == 0);
      REQUIRE(b.critical == 0);
      REQUIRE(b.tunnels == 0);
      REQUIRE(b.trials == 0);
    }
    for (const std::uint32_t n : s.before_first_event) REQUIRE(n == 0);
    REQUIRE(s.streams == 0);
    REQUIRE(s.waiting_bytes == 0);
    REQUIRE(std::string(d_.check_at_rest()) == "");
    MESSAGE("grants " << s.grants << ", waits " << s.waits << ", retries " << s.retries << ", cancelled "
                      << s.cancelled << ", refused at the door " << s.refused_at_door[0] << "/" << s.refused_at_door[1]
                      << "/" << s.refused_at_door[2] << "/" << s.refused_at_door[3] << ", later "
                      << s.refused_waiting[1] << "/" << s.refused_waiting[2]);
    REQUIRE(s.waits > 1000);
    REQUIRE(s.grants > s.waits / 4);
  }

  const char* did_ = "";  // the newest event, for a failure's message
  Rng rng_;
  ManualClock clock_;
  Dispatcher d_;
  HandLoop loop_;
  TimePoint timer_ = kNever;
  std::array<Exchange, kExchanges> exchanges_;
};

}  // namespace

TEST_CASE("random events in any order: counters are exact and nobody waits beside a free place") {
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    CAPTURE(seed);
    Storm(seed).run(kEvents / 4);
  }
}

}  // namespace perigee::dispatch::test
