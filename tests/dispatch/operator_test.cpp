// What an operator changes at run time: limits, ejections, drains; what a reload keeps of it. And a pool's own controller.
#include "rig.h"

namespace perigee::dispatch::test {

namespace {

Ask of(Priority p) {
  Ask a;
  a.priority = p;
  return a;
}

constexpr auto kThrottled = static_cast<std::size_t>(Refused::throttled);

}  // namespace

TEST_CASE("an unknown backend, or one that has gone, is refused") {
  Rig r(setup_of(1));
  CHECK_FALSE(r.d.limit_backend(BackendRef{}, 1, r.now()));
  CHECK_FALSE(r.d.eject_backend(BackendRef{9, 3}, 1s, r.now()));
  CHECK_FALSE(r.d.enable_backend(BackendRef{}, r.now()));
}

TEST_CASE("a limit holds at once and through a reload, and revokes nothing; enable takes it back") {
  for (const WorkerKind kind : {WorkerKind::http, WorkerKind::orbit}) {
    CAPTURE(to_string(kind));
    Setup s = setup_of(1, kind, 4);
    s.policy.steered = false;
    s.policy.head_lag.start_pace = 0;
    s.backends[0].orbit_ceiling = 4;
    Rig r(s);
    std::vector<Ticket> held;
    for (int i = 0; i < 3; ++i) held.push_back(r.grant());
    CHECK(r.d.limit_backend(r.ref(0), 2, r.now()));
    CHECK(r.status(0).slots == 2);
    CHECK(r.status(0).slots_limit == 2);
    Client c;
    CHECK(r.ask(c) == Verdict::waiting);
    held.pop_back();
    r.loop.port.deliver();
    CHECK(c.state() == Waiter::State::waiting);
    REQUIRE(r.d.configure(s, r.now()).has_value());
    CHECK(r.status(0).slots == 2);
    CHECK(r.d.enable_backend(r.ref(0), r.now()));
    r.loop.port.deliver();
    CHECK(r.status(0).slots_limit == 0);
    if (kind == WorkerKind::http) CHECK(c.state() == Waiter::State::granted);
    r.check();
  }
}

TEST_CASE("a limit above the written ceiling changes nothing") {
  Rig r(setup_of(1, WorkerKind::http, 2));
  CHECK(r.d.limit_backend(r.ref(0), 100, r.now()));
  CHECK(r.status(0).slots == 2);
}

TEST_CASE("an ejected backend gets nothing for its time, then trials; what runs goes on") {
  Rig r(setup_of(3, WorkerKind::http, 8));
  Ticket running = r.grant();
  const BackendRef out = running.backend().ref;
  CHECK(r.d.eject_backend(out, 30s, r.now()));
  for (int i = 0; i < 6; ++i) {
    Ticket t = r.grant();
    CHECK(t.backend().ref != out);
  }
  r.pass(29s);
  CHECK(r.grant().backend().ref != out);
  r.pass(2s);
  bool again = false;
  std::vector<Ticket> held;
  for (int i = 0; i < 9; ++i) {
    held.push_back(r.grant());
    again = again || held.back().backend().ref == out;
  }
  CHECK(again);
  running.finish(Outcome::success, r.now());
  r.check();
}

TEST_CASE("a drained backend gets nothing until it is enabled") {
  Rig r(setup_of(2, WorkerKind::http, 8));
  CHECK(r.d.drain_backend(r.ref(0), true, r.now()));
  REQUIRE(r.d.configure(r.setup, r.now()).has_value());
  for (int i = 0; i < 4; ++i) CHECK(r.grant().backend().ref != r.ref(0));
  CHECK(r.d.enable_backend(r.ref(0), r.now()));
  std::vector<Ticket> held;
  for (int i = 0; i < 2; ++i) held.push_back(r.grant());
  CHECK(held[0].backend().ref != held[1].backend().ref);
}

// --- a pool's own controller -----------------------------------------------------------------------------------------

TEST_CASE("codel answers who waited long while everybody does, and nobody without it") {
  for (const auto kind : {admission::OverloadKind::none, admission::OverloadKind::codel}) {
    Setup s = setup_of(1, WorkerKind::http, 1);
    s.pools[0].overload = kind;
    Rig r(s);
    Ticket held = r.grant();
    std::deque<Client> clients(60);
    std::size_t refused = 0;
    for (Client& c : clients) {
      CHECK(r.ask(c) == Verdict::waiting);
      r.pass(100ms);
      held.finish(Outcome::success, r.now());
      r.loop.port.deliver();
      for (Client& other : clients) {
        if (other.state() == Waiter::State::granted) held = other.take();
      }
      if (!held) held = r.grant();
    }
    // Everybody waited for a tenth of a second here; now they come two at a time.
    std::deque<Client> more(80);
    for (std::size_t i = 0; i < more.size(); ++i) {
      CHECK(r.ask(more[i]) == Verdict::waiting);
      if (i % 2 == 0) continue;
      r.pass(100ms);
      held.finish(Outcome::success, r.now());
      r.loop.port.deliver();
      for (Client& other : more) {
        if (other.state() == Waiter::State::granted) held = other.take();
      }
      if (!held) held = r.grant();
      r.check();
    }
    for (std::deque<Client>* all : {&clients, &more}) {
      for (Client& c : *all) {
        if (c.state() == Waiter::State::refused && c.refusal().reason == Refused::throttled) ++refused;
      }
    }
    CHECK(r.d.snapshot().refused_waiting[kThrottled] == refused);
    if (kind == admission::OverloadKind::none) CHECK(refused == 0);
    else CHECK(refused > 5);
  }
}

TEST_CASE("lifo: once the queue stands the newest go first and the oldest are told") {
  Setup s = setup_of(1, WorkerKind::http, 1);
  s.pools[0].overload = admission::OverloadKind::lifo;
  Rig r(s);
  Ticket held = r.grant();
  Client oldest;
  Client middle;
  Client newest;
  CHECK(r.ask(oldest) == Verdict::waiting);
  r.pass(1s);
  CHECK(r.ask(middle) == Verdict::waiting);
  r.pass(1s);
  CHECK(r.ask(newest) == Verdict::waiting);
  held.finish(Outcome::success, r.now());
  r.loop.port.deliver();
  CHECK(newest.state() == Waiter::State::granted);
  CHECK(middle.state() == Waiter::State::waiting);
  CHECK(oldest.state() == Waiter::State::refused);
  CHECK(oldest.refusal().reason == Refused::throttled);
  CHECK(r.d.snapshot().pools[0].overload == admission::OverloadKind::lifo);
  r.check();
}

TEST_CASE("pi: while more come than go low is refused at the door before normal, and critical never") {
  Setup s = setup_of(1, WorkerKind::http, 1);
  s.pools[0].overload = admission::OverloadKind::pi;
  Rig r(s);
  std::deque<Client> clients;
  std::array<int, kPriorityCount> refused{};
  std::array<int, kPriorityCount> asked{};
  Ticket held = r.grant();
  for (int i = 0; i < 400; ++i) {
    for (const Priority p : {Priority::high, Priority::normal, Priority::low, Priority::low}) {
      Client& c = clients.emplace_back();
      Ask a = of(p);
      a.queue_wait = 1h;
      a.cohort = static_cast<std::uint8_t>(i);
      const bool no = r.ask(c, a) == Verdict::refused;
      if (no) CHECK(c.refusal().reason == Refused::throttled);
      if (i >= 200) {
        ++asked[static_cast<std::size_t>(p)];
        refused[static_cast<std::size_t>(p)] += no ? 1 : 0;
      }
    }
    r.pass(50ms);
    held.finish(Outcome::success, r.now());
    r.loop.port.deliver();
    for (Client& c : clients) {
      if (c.state() == Waiter::State::granted) held = c.take();
    }
    if (!held) held = r.grant(of(Priority::critical));
  }
  CHECK(refused[3] == asked[3]);
  CHECK(refused[2] >= refused[1]);
  CHECK(r.d.snapshot().pools[0].refused_share > 0.5);
  Client critical;
  CHECK(r.ask(critical, of(Priority::critical)) != Verdict::refused);
  r.check();
}

TEST_CASE("a reload changes a pool's controller, and takes it away") {
  Setup s = setup_of(1);
  Rig r(s);
  CHECK(r.d.snapshot().pools[0].overload == admission::OverloadKind::none);
  s.pools[0].overload = admission::OverloadKind::codel;
  REQUIRE(r.d.configure(s, r.now()).has_value());
  CHECK(r.d.snapshot().pools[0].overload == admission::OverloadKind::codel);
  s.pools[0].overload = admission::OverloadKind::none;
  REQUIRE(r.d.configure(s, r.now()).has_value());
  CHECK(r.d.snapshot().pools[0].overload == admission::OverloadKind::none);
}

}  // namespace perigee::dispatch::test
