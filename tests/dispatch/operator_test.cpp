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
  r.pass(900ms);
  CHECK(r.ask(middle) == Verdict::waiting);
  r.pass(900ms);
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

TEST_CASE("lifo: who has waited for an interval is told in time, whatever else happens") {
  Setup s = setup_of(1, WorkerKind::http, 1);
  s.pools[0].overload = admission::OverloadKind::lifo;
  Rig r(s);
  Ticket held = r.grant();
  Client first;
  Client second;
  CHECK(r.ask(first) == Verdict::waiting);
  r.pass(700ms);
  CHECK(r.ask(second) == Verdict::waiting);
  r.pass(299ms);
  r.loop.port.deliver();
  CHECK(first.state() == Waiter::State::waiting);
  r.pass(2ms);  // nothing was served yet, so the interval is a second
  r.loop.port.deliver();
  CHECK(first.state() == Waiter::State::refused);
  CHECK(second.state() == Waiter::State::waiting);
  r.check();
  r.pass(700ms);
  r.loop.port.deliver();
  CHECK(second.state() == Waiter::State::refused);
  r.check();
}

TEST_CASE("lifo: the newest of all, whether it streams or not") {
  Setup s = setup_of(1, WorkerKind::http, 1);
  s.pools[0].overload = admission::OverloadKind::lifo;
  for (const bool streamed_last : {true, false}) {
    CAPTURE(streamed_last);
    Rig r(s);
    Ticket held = r.grant();
    Client first;
    Client older;
    Client newer;
    CHECK(r.ask(first) == Verdict::waiting);
    r.pass(700ms);
    Ask a;
    a.streamed = !streamed_last;
    CHECK(r.ask(older, a) == Verdict::waiting);
    r.pass(100ms);
    a.streamed = streamed_last;
    CHECK(r.ask(newer, a) == Verdict::waiting);
    r.pass(450ms);
    held.finish(Outcome::success, r.now());
    r.loop.port.deliver();
    CHECK(newer.state() == Waiter::State::granted);
    CHECK(older.state() == Waiter::State::waiting);
    r.check();
  }
}

TEST_CASE("lifo: what is critical, and a retry, waits on") {
  Setup s = setup_of(1, WorkerKind::http, 1);
  s.pools[0].overload = admission::OverloadKind::lifo;
  Rig r(s);
  Ticket held = r.grant();
  Client critical;
  Client retry;
  Client plain;
  CHECK(r.ask(critical, of(Priority::critical)) == Verdict::waiting);
  Ask again = of(Priority::normal);
  REQUIRE(r.d.try_retry(again.request_class, r.now()));
  again.retry = true;
  CHECK(r.ask(retry, again) == Verdict::waiting);
  CHECK(r.ask(plain) == Verdict::waiting);
  r.pass(3s);
  r.d.pump(r.now());
  r.loop.port.deliver();
  CHECK(plain.state() == Waiter::State::refused);
  CHECK(retry.state() == Waiter::State::waiting);
  CHECK(critical.state() == Waiter::State::waiting);
  r.check();
}

TEST_CASE("lifo: who waited because the pool was paused is not late when it goes on") {
  Ask patient;
  patient.queue_wait = 1h;
  for (const bool reload : {false, true}) {
    CAPTURE(reload);
    Setup s = setup_of(1, WorkerKind::http, 1);
    if (!reload) s.pools[0].overload = admission::OverloadKind::lifo;
    Rig r(s);
    REQUIRE(r.d.set_paused(0, true, r.now()));
    std::deque<Client> clients(3);
    for (Client& c : clients) CHECK(r.ask(c, patient) == Verdict::waiting);
    s.pools[0].overload = admission::OverloadKind::lifo;
    if (reload) REQUIRE(r.d.configure(s, r.now()).has_value());
    r.pass(60s);
    r.check();
    REQUIRE(r.d.set_paused(0, false, r.now()));
    r.loop.port.deliver();
    CHECK(std::ranges::count(clients, Waiter::State::granted, &Client::state) == 1);
    CHECK(std::ranges::count(clients, Waiter::State::waiting, &Client::state) == 2);
    r.check();
  }
}

// Paused while they stand, and on again: the pause is no part of the interval.
TEST_CASE("lifo: a pause ends what stood") {
  Ask patient;
  patient.queue_wait = 1h;
  Setup s = setup_of(1, WorkerKind::http, 1);
  s.pools[0].overload = admission::OverloadKind::lifo;
  Rig r(s);
  Ticket held = r.grant();
  std::deque<Client> clients(3);
  for (Client& c : clients) CHECK(r.ask(c, patient) == Verdict::waiting);
  r.pass(500ms);
  REQUIRE(r.d.set_paused(0, true, r.now()));
  r.pass(60s);
  REQUIRE(r.d.set_paused(0, false, r.now()));
  r.pass(900ms);
  r.loop.port.deliver();
  CHECK(std::ranges::count(clients, Waiter::State::waiting, &Client::state) == 3);
  r.check();
  r.pass(200ms);
  r.loop.port.deliver();
  CHECK(std::ranges::count(clients, Waiter::State::refused, &Client::state) == 3);
}

TEST_CASE("codel leaves a retry alone") {
  Setup s = setup_of(1, WorkerKind::http, 1);
  s.pools[0].overload = admission::OverloadKind::codel;
  s.policy.retries.per_second = 100;
  Rig r(s);
  Ticket held = r.grant();
  std::deque<Client> clients(60);
  int retries_granted = 0;
  for (std::size_t i = 0; i < clients.size(); ++i) {
    // Each waits for more than twice the target, in every interval.
    Client& again = clients[i];
    Ask a = of(Priority::high);
    a.retry = i >= 30 && r.d.try_retry(a.request_class, r.now());
    if (i >= 30) REQUIRE(a.retry);
    REQUIRE(r.ask(again, a) == Verdict::waiting);
    r.pass(300ms);
    held.finish(Outcome::success, r.now());
    r.loop.port.deliver();
    if (again.state() == Waiter::State::granted) {
      held = again.take();
      if (i >= 30) ++retries_granted;
    } else {
      held = r.grant();
    }
  }
  CHECK(r.d.snapshot().refused_waiting[kThrottled] > 5);
  CHECK(retries_granted == 30);
}

TEST_CASE("a controller knows the service times of its pool though its workers are in others as well") {
  Setup s = setup_of(1, WorkerKind::http, 1);
  s.pools[0].overload = admission::OverloadKind::lifo;
  s.pools.push_back(s.pools[0]);
  s.pools[1].name = "named";
  s.pools[1].overload = admission::OverloadKind::none;
  Rig r(s);
  for (int i = 0; i < 40; ++i) {
    Ticket t = r.grant();
    r.pass(1s);
    t.finish(Outcome::success, r.now());
  }
  Ticket held = r.grant();
  Client waits;
  CHECK(r.ask(waits) == Verdict::waiting);
  r.pass(3s);  // of the five that ten times the usual second come to
  r.d.pump(r.now());
  r.loop.port.deliver();
  CHECK(waits.state() == Waiter::State::waiting);
  r.pass(3s);
  r.d.pump(r.now());
  r.loop.port.deliver();
  CHECK(waits.state() == Waiter::State::refused);
}

TEST_CASE("pi: what is refused for another reason was never let in") {
  Setup s = setup_of(1, WorkerKind::http, 1);
  s.pools[0].overload = admission::OverloadKind::pi;
  Rig r(s);
  for (int i = 0; i < 200; ++i) {
    Ask late;
    late.deadline = r.now();
    for (int k = 0; k < 4; ++k) {
      Client c;
      CHECK(r.ask(c, late) == Verdict::refused);
      CHECK(c.refusal().reason == Refused::queue_timeout);
    }
    Ticket t = r.grant(of(Priority::critical));
    r.pass(50ms);
    t.finish(Outcome::success, r.now());
  }
  CHECK(r.d.snapshot().pools[0].refused_share == 0);
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
