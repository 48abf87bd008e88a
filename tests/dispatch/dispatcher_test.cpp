// The shell: who is woken when and where, and real threads.
#include "rig.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>

#include "perigee/base/random.h"

namespace perigee::dispatch::test {

TEST_CASE("a grant is told from deliver, never inside the release") {
  Rig r(setup_of(1, WorkerKind::http, 1));
  Ticket first = r.grant();
  Client waiting;
  REQUIRE(r.ask(waiting) == Verdict::waiting);
  first.finish(Outcome::success, r.now());
  CHECK(waiting.told == 0);
  CHECK(waiting.state() == Waiter::State::waiting);
  CHECK(r.loop.soons == 1);  // our own loop: no wake from another thread
  CHECK(r.loop.wakes == 0);
  r.loop.port.deliver();
  CHECK(waiting.told == 1);
  REQUIRE(waiting.state() == Waiter::State::granted);
  Ticket second = waiting.take();
  CHECK(second.backend().ref == r.ref(0));
  CHECK(second.backend().address == "127.0.0.1:3001");
}

TEST_CASE("another loop is woken once, for the first grant on its list") {
  Rig r(setup_of(1, WorkerKind::http, 2));
  HandLoop other(r.d);
  Ticket a = r.grant();
  Ticket b = r.grant();
  Client one;
  Client two;
  REQUIRE(r.d.acquire(one, {}, other.port, r.now()) == Verdict::waiting);
  REQUIRE(r.d.acquire(two, {}, other.port, r.now()) == Verdict::waiting);
  a.finish(Outcome::success, r.now());
  b.finish(Outcome::success, r.now());
  CHECK(other.wakes == 1);
  CHECK(other.soons == 0);
  CHECK(r.loop.soons == 0);
  other.port.deliver();
  CHECK(one.told == 1);
  CHECK(two.told == 1);
  Ticket c = one.take();
  r.d.cancel(two, Cancelled::client_gone, r.now());
  Client three;
  REQUIRE(r.d.acquire(three, {}, other.port, r.now()) == Verdict::granted);
}

TEST_CASE("a cancel takes effect in every state, and gives back what was granted") {
  Rig r(setup_of(1, WorkerKind::http, 1));
  Client waiting;
  Client next;
  Ticket held = r.grant();

  SUBCASE("waiting") {
    REQUIRE(r.ask(waiting) == Verdict::waiting);
    r.d.cancel(waiting, Cancelled::client_gone, r.now());
    held.finish(Outcome::success, r.now());
    r.loop.port.deliver();
    CHECK(waiting.told == 0);
  }
  SUBCASE("granted, not delivered") {
    REQUIRE(r.ask(waiting) == Verdict::waiting);
    held.finish(Outcome::success, r.now());
    r.d.cancel(waiting, Cancelled::client_gone, r.now());
    r.loop.port.deliver();
    CHECK(waiting.told == 0);
  }
  SUBCASE("delivered, not taken; the next one gets the place") {
    REQUIRE(r.ask(waiting) == Verdict::waiting);
    REQUIRE(r.ask(next) == Verdict::waiting);
    held.finish(Outcome::success, r.now());
    r.loop.port.deliver();
    REQUIRE(waiting.state() == Waiter::State::granted);
    CHECK(next.told == 0);
    r.d.cancel(waiting, Cancelled::client_gone, r.now());
    r.loop.port.deliver();
    REQUIRE(next.state() == Waiter::State::granted);
    r.d.cancel(next, Cancelled::client_gone, r.now());
  }
  SUBCASE("destroyed while it waits") {
    {
      Client gone;
      REQUIRE(r.ask(gone) == Verdict::waiting);
    }
    held.finish(Outcome::success, r.now());
    r.loop.port.deliver();
  }
  SUBCASE("destroyed with a grant that nobody took") {
    {
      Client gone;
      REQUIRE(r.ask(gone) == Verdict::waiting);
      held.finish(Outcome::success, r.now());
    }
    r.loop.port.deliver();
  }
  SUBCASE("its own time is up") {
    REQUIRE(r.ask(waiting) == Verdict::waiting);
    r.d.cancel(waiting, Cancelled::queue_timeout, r.now());
    CHECK(waiting.refusal().reason == Refused::queue_timeout);
    CHECK_FALSE(waiting.refusal().at_door);
    held.finish(Outcome::success, r.now());
  }
  CHECK(waiting.state() == Waiter::State::idle);
  CHECK(r.status(0).in_flight == 0);
  CHECK(r.d.snapshot().waiting_bytes == 0);
  r.check();
}

TEST_CASE("a grant that nobody took gives its start back to the pace") {
  Setup s = setup_of(1, WorkerKind::orbit);
  s.policy.head_lag.start_pace = 1;
  Rig r(s);
  for (int i = 0; i < 20; ++i) {  // the bucket holds three
    Client c;
    REQUIRE(r.ask(c) == Verdict::granted);
    r.d.cancel(c, Cancelled::client_gone, r.now());
  }
  Ticket one = r.grant();
  Ticket two = r.grant();
  Ticket three = r.grant();
  Client fourth;
  CHECK(r.ask(fourth) == Verdict::waiting);
}

TEST_CASE("a wake may cancel the others of the same delivery") {
  Rig r(setup_of(1, WorkerKind::http, 2));
  static Client* victim = nullptr;
  static Rig* rig = nullptr;
  struct Killer : Waiter {
    Killer()
        : Waiter([](Waiter&) { rig->d.cancel(*victim, Cancelled::client_gone, rig->now()); }) {}
  } killer;
  Client second;
  victim = &second;
  rig = &r;
  Ticket a = r.grant();
  Ticket b = r.grant();
  REQUIRE(r.d.acquire(killer, {}, r.loop.port, r.now()) == Verdict::waiting);
  REQUIRE(r.ask(second) == Verdict::waiting);
  a.finish(Outcome::success, r.now());
  b.finish(Outcome::success, r.now());
  r.loop.port.deliver();
  CHECK(second.told == 0);
  CHECK(second.state() == Waiter::State::idle);
  Ticket t = killer.take();
  CHECK(r.status(0).in_flight == 1);
}

TEST_CASE("a ticket gives its place back once: moved, assigned over, dropped") {
  Rig r(setup_of(1, WorkerKind::http, 3));
  {
    Ticket a = r.grant();
    Ticket b = std::move(a);
    CHECK_FALSE(a);  // NOLINT: what a moved-from ticket is, is promised
    CHECK(r.status(0).in_flight == 1);
    Ticket c = r.grant();
    CHECK(r.status(0).in_flight == 2);
    b = std::move(c);
    CHECK(r.status(0).in_flight == 1);
    b.finish(Outcome::success, r.now());
    b.finish(Outcome::success, r.now());
    CHECK(r.status(0).in_flight == 0);
    c = r.grant();
  }
  CHECK(r.status(0).in_flight == 0);
  r.check();
}

TEST_CASE("the timer is armed by whoever needs it first, and again after it fired") {
  Setup s = setup_of(1, WorkerKind::orbit);
  s.policy.head_lag.start_pace = 10;
  Rig r(s);
  std::vector<Ticket> tickets;
  for (int i = 0; i < 3; ++i) tickets.push_back(r.grant());  // the bucket's depth
  CHECK(r.d.take_wakeup() == kNever);
  Client waiting;
  REQUIRE(r.ask(waiting) == Verdict::waiting);
  const TimePoint due = r.d.take_wakeup();
  CHECK(due > r.now() + 90ms);
  CHECK(due < r.now() + 110ms);
  CHECK(r.d.take_wakeup() == kNever);  // one loop has set it
  r.clock.set(due - 50ms);
  r.d.pump(r.now());  // another one's timer, too early
  const TimePoint again = r.d.take_wakeup();
  CHECK(again >= due - 1us);
  CHECK(again <= due + 1us);
  r.clock.set(again);
  r.d.pump(r.now());
  r.loop.port.deliver();
  CHECK(waiting.state() == Waiter::State::granted);
}

TEST_CASE("what falls due by a change from outside wakes a loop that has no timer for it") {
  Setup s = setup_of(1, WorkerKind::orbit);
  s.policy.head_lag.start_pace = 10;
  Rig r(s);
  std::vector<Ticket> tickets;
  for (int i = 0; i < 3; ++i) tickets.push_back(r.grant());
  r.d.set_paused(0, true, r.now());
  Client waiting;
  REQUIRE(r.ask(waiting) == Verdict::waiting);
  CHECK(r.d.take_wakeup() == kNever);
  CHECK(r.loop.wakes == 0);
  r.d.set_paused(0, false, r.now());  // the pace still holds it back
  CHECK(r.loop.wakes == 1);
  CHECK(r.d.take_wakeup() != kNever);
  r.probe(0, ProbeResult::ok);
  CHECK(r.loop.wakes == 1);  // the timer is set
}

namespace {

// A loop on a thread of its own: delivers only when it was woken, pumps only when its timer is due.
class ThreadLoop final : public Waker {
 public:
  ThreadLoop(Dispatcher& d, std::atomic<std::int64_t>& time, std::uint64_t seed)
      : d_(d), time_(time), rng_(seed), port_(d, *this) {}
  void wake() noexcept override { woken_.store(true, std::memory_order_release); }
  void soon() noexcept override { soon_ = true; }

  void storm(int events) {
    for (int i = 0; i < events; ++i) {
      if (rng_.below(4) == 0) time_.fetch_add(rng_.below(2'000'000), std::memory_order_relaxed);
      act(exchanges_[rng_.below(kExchanges)], true);
      turn();
      if (i % 16 == 0) std::this_thread::yield();
    }
  }
  // No new asks: until all are answered and given back, here and (`unsettled`) on the other loop, whose timer
  // may be ours. False = somebody was forgotten.
  bool settle(std::atomic<int>& unsettled) {
    bool counted = false;
    for (int rounds = 0; rounds < 200'000; ++rounds) {
      time_.fetch_add(100'000, std::memory_order_relaxed);
      bool busy = false;
      for (Exchange& x : exchanges_) {
        busy = busy || x.ticket || x.asked;
        act(x, false);
      }
      turn();
      if (!busy && !std::exchange(counted, true)) unsettled.fetch_sub(1);
      if (unsettled.load() == 0) return true;
      if (rounds % 64 == 0) std::this_thread::yield();
    }
    return false;
  }
  std::uint64_t asks = 0;
  std::uint64_t answers = 0;  // granted or refused, at the door or later
  std::uint64_t cancels = 0;
  std::uint64_t wakes_told = 0;
  bool twice = false;

 private:
  static constexpr std::uint32_t kExchanges = 24;
  struct Exchange : Waiter {
    Exchange() : Waiter([](Waiter& w) { ++static_cast<Exchange&>(w).told; }) {}
    Ticket ticket;
    bool asked = false;
    int told = 0;
  };
  TimePoint now() const { return TimePoint(Duration(time_.load(std::memory_order_relaxed))); }

  void act(Exchange& x, bool may_ask) {
    if (x.ticket) {
      switch (rng_.below(6)) {
        case 0: x.ticket.bytes(now()); break;
        case 1: x.ticket.sent(now()); x.ticket.head(now()); break;
        case 2: x.ticket.first_event(now()); break;
        case 3: if (rng_.below(20) == 0 && x.ticket.became_tunnel(now())) x.ticket.bytes(now()); break;
        default: x.ticket.finish(rng_.below(20) == 0 ? Outcome::head_timeout : Outcome::success, now());
      }
      return;
    }
    if (x.asked) {
      if (x.state() == Waiter::State::waiting) {
        if (may_ask && rng_.below(200) == 0) cancel(x);
        return;
      }
      ++answers;
      x.asked = false;
      if (x.state() == Waiter::State::granted) {
        if (may_ask && rng_.below(10) == 0) d_.cancel(x, Cancelled::client_gone, now());
        else x.ticket = x.take();
      }
      return;
    }
    if (!may_ask) return;
    Ask a;
    a.request_class = rng_.below(2) == 0 ? RequestClass::chat : RequestClass::search;
    a.priority = static_cast<Priority>(1 + rng_.below(3));
    a.streamed = a.request_class == RequestClass::chat;
    a.critical_lane = rng_.below(20) == 0;
    a.body_bytes = rng_.below(1000);
    a.queue_wait = 3600s;
    ++asks;
    x.told = 0;
    const Verdict v = d_.acquire(x, a, port_, now());
    x.asked = true;
    if (v == Verdict::refused) {
      ++answers;
      x.asked = false;
    }
  }
  void cancel(Exchange& x) {
    ++cancels;
    x.asked = false;
    d_.cancel(x, Cancelled::client_gone, now());
  }
  void turn() {
    if (woken_.exchange(false, std::memory_order_acquire) || soon_) {
      soon_ = false;
      port_.deliver();
      for (const Exchange& x : exchanges_) twice = twice || x.told > 1;
    }
    if (const TimePoint due = d_.take_wakeup(); due != kNever) timer_ = due;
    if (timer_ <= now()) {
      timer_ = kNever;
      d_.pump(now());
    }
  }

  Dispatcher& d_;
  std::atomic<std::int64_t>& time_;
  Rng rng_;
  std::atomic<bool> woken_{false};
  bool soon_ = false;
  TimePoint timer_ = kNever;
  LoopPort port_;
  std::array<Exchange, kExchanges> exchanges_;
};

}  // namespace

TEST_CASE("two loops and a control thread: every waiter is answered once, counters return to zero") {
  constexpr int kEvents = 100'000;
  Dispatcher d(11);
  std::atomic<std::int64_t> time{std::chrono::nanoseconds(1000s).count()};
  const auto now = [&] { return TimePoint(Duration(time.load(std::memory_order_relaxed))); };
  Setup s = setup_of(4, WorkerKind::orbit);
  s.policy.head_lag.start_pace = 500;
  s.policy.head_lag.recovered_pace = 300;
  s.policy.head_lag.start_slots = 8;
  s.policy.breaker.open_base = 50ms;
  s.policy.breaker.open_max = 100ms;
  s.policy.breaker.trial_timeout = 1s;
  s.policy.limits[RequestClass::chat] = 20;
  s.policy.slow_start.window = 10ms;
  REQUIRE(d.configure(s, now()).has_value());
  const auto all_up = [&] {
    for (int twice = 0; twice < 2; ++twice) {
      for (const BackendSpec& b : s.backends) d.on_probe(d.backend(b.name), ProbeResult::ok, WorkerKind::orbit, now());
    }
  };
  all_up();

  ThreadLoop one(d, time, 1);
  ThreadLoop two(d, time, 2);
  std::atomic<int> storming{2};
  std::atomic<int> starting{2};
  std::atomic<int> unsettled{2};
  std::atomic<bool> settled_one{false};
  std::atomic<bool> settled_two{false};
  const auto run = [&](ThreadLoop& loop, std::atomic<bool>& settled) {
    starting.fetch_sub(1);
    while (starting.load() != 0) std::this_thread::yield();
    loop.storm(kEvents);
    storming.fetch_sub(1);
    while (storming.load() != 0) loop.storm(100);  // both go on until both have had their share
    settled.store(loop.settle(unsettled));
  };
  std::thread first(run, std::ref(one), std::ref(settled_one));
  std::thread second(run, std::ref(two), std::ref(settled_two));
  Rng rng(3);
  while (storming.load() != 0) {
    const BackendRef b = d.backend("b" + std::to_string(rng.below(4)));
    switch (rng.below(8)) {
      case 0: d.on_probe(b, ProbeResult::refused, WorkerKind::orbit, now()); break;
      case 1: d.on_lag_probe(b, now() - Duration(rng.below(100'000'000)), now()); break;
      case 2: d.on_lag_sent(b, now()); break;
      case 3: {
        Setup changed = s;
        changed.backends.resize(2 + rng.below(3));
        changed.pools[0].backends.resize(changed.backends.size());
        CHECK(d.configure(changed, now()).has_value());
        break;
      }
      case 4: CHECK(d.snapshot().backends.size() >= 2); break;
      default: all_up();
    }
    for (const BackendSpec& spec : s.backends) d.drain_backend(d.backend(spec.name), rng.below(20) == 0, now());
    std::this_thread::sleep_for(50us);
  }
  REQUIRE(d.configure(s, now()).has_value());
  for (const BackendSpec& b : s.backends) d.drain_backend(d.backend(b.name), false, now());
  all_up();
  first.join();
  second.join();
  CHECK(settled_one.load());
  CHECK(settled_two.load());

  for (const ThreadLoop* loop : {&one, &two}) {
    CHECK(loop->asks == loop->answers + loop->cancels);
    CHECK_FALSE(loop->twice);
  }
  const Status end = d.snapshot();
  for (const BackendStatus& b : end.backends) {
    CHECK(b.in_flight == 0);
    CHECK(b.critical == 0);
    CHECK(b.tunnels == 0);
    CHECK(b.trials == 0);
  }
  CHECK(end.waiting_bytes == 0);
  CHECK(std::string(d.check_at_rest()) == "");
  CHECK(end.waits > 1000);
  MESSAGE("grants " << end.grants << ", waits " << end.waits << ", locks " << end.locks << ", contended "
                    << end.locks_contended);
}

}  // namespace perigee::dispatch::test
