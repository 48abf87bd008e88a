// A dispatcher with one loop that is moved by hand, for tests of its rules.
#pragma once

#include <doctest/doctest.h>

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "perigee/dispatch/dispatcher.h"

namespace perigee::dispatch::test {

using namespace std::chrono_literals;
using balancing::Outcome;
using balancing::ProbeResult;

// A loop's side: remembers that it was woken, delivers when told to.
struct HandLoop final : Waker {
  explicit HandLoop(Dispatcher& d) : port(d, *this) {}
  void wake() noexcept override { ++wakes; }
  void soon() noexcept override { ++soons; }
  int wakes = 0;
  int soons = 0;
  LoopPort port;
};

struct Client : Waiter {
  Client() : Waiter([](Waiter& w) { ++static_cast<Client&>(w).told; }) {}
  int told = 0;
};

inline Setup setup_of(std::size_t backends, WorkerKind kind = WorkerKind::http, std::uint32_t slots = 2) {
  Setup s;
  PoolSpec pool;
  for (std::size_t i = 0; i < backends; ++i) {
    BackendSpec b;
    b.name = "b" + std::to_string(i);
    b.address = "127.0.0.1:" + std::to_string(3001 + i);
    b.kind = kind;
    b.http_slots = slots;
    s.backends.push_back(b);
    pool.backends.push_back(static_cast<std::uint32_t>(i));
  }
  s.pools.push_back(pool);
  s.policy.limits = admission::ClassLimitValues{};
  return s;
}

struct Rig {
  explicit Rig(const Setup& s, bool up = true) : setup(s) {
    REQUIRE(d.configure(setup, now()).has_value());
    if (!up) return;
    for (std::size_t i = 0; i < setup.backends.size(); ++i) probe(i, ProbeResult::ok);
  }
  [[nodiscard]] TimePoint now() const { return clock.now(); }
  // Time passes; the loop's timer does its work.
  void pass(Duration t) {
    const TimePoint end = now() + t;
    for (;;) {
      if (const TimePoint due = d.take_wakeup(); due != kNever) timer = std::min(timer, due);
      if (timer > end) break;
      clock.set(std::max(timer, now()));
      timer = kNever;
      d.pump(now());
    }
    clock.set(end);
  }
  void probe(std::size_t i, ProbeResult r, WorkerKind found = WorkerKind::unknown) {
    d.on_probe(ref(i), r, found, now());
  }
  [[nodiscard]] BackendRef ref(std::size_t i) const { return d.backend("b" + std::to_string(i)); }
  [[nodiscard]] BackendStatus status(std::size_t i) const {
    for (BackendStatus& b : d.snapshot().backends) {
      if (b.ref == ref(i)) return b;
    }
    return {};
  }
  Verdict ask(Client& c, Ask a = {}) { return d.acquire(c, a, loop.port, now()); }
  Ticket grant(Ask a = {}) {
    Client c;
    REQUIRE(ask(c, a) == Verdict::granted);
    return c.take();
  }
  void check() {
    const char* wrong = d.check_at_rest();
    if (*wrong != 0) FAIL(std::string(wrong));
  }

  ManualClock clock;
  Setup setup;
  Dispatcher d{7};
  HandLoop loop{d};
  TimePoint timer = kNever;
};

}  // namespace perigee::dispatch::test
