// Reload: what stays with a backend's name, what goes, and that a wrong one changes nothing.
#include "rig.h"

namespace perigee::dispatch::test {

TEST_CASE("what stays keeps its counters, breaker and health; lowering revokes nothing, raising pumps") {
  Rig r(setup_of(2, WorkerKind::http, 2));
  for (int i = 0; i < 5; ++i) {
    Ask a;
    a.pinned = r.ref(1);
    Client c;
    REQUIRE(r.ask(c, a) == Verdict::granted);
    c.take().finish(Outcome::head_timeout, r.now());
  }
  CHECK(std::string(r.status(1).breaker) == "open");
  Ticket one = r.grant();
  Ticket two = r.grant();
  const BackendRef before = r.ref(0);
  for (BackendSpec& b : r.setup.backends) b.http_slots = 1;
  REQUIRE(r.d.configure(r.setup, r.now()).has_value());
  CHECK(r.ref(0) == before);
  CHECK(r.status(0).in_flight == 2);
  CHECK(r.status(0).grants >= 2);
  CHECK(std::string(r.status(1).breaker) == "open");
  Client first;
  Client second;
  REQUIRE(r.ask(first) == Verdict::waiting);
  REQUIRE(r.ask(second) == Verdict::waiting);
  one.finish(Outcome::success, r.now());  // still at its bound
  r.loop.port.deliver();
  CHECK(first.told == 0);
  for (BackendSpec& b : r.setup.backends) b.http_slots = 3;
  REQUIRE(r.d.configure(r.setup, r.now()).has_value());
  r.loop.port.deliver();
  CHECK(first.told == 1);
  CHECK(second.told == 1);
  r.check();
}

TEST_CASE("a removed backend gets nothing new and vanishes with its last exchange") {
  Rig r(setup_of(2, WorkerKind::http, 2));
  Ask pinned;
  pinned.pinned = r.ref(1);
  Ticket held = r.grant(pinned);
  Ticket more = r.grant(pinned);
  Client waiting;
  REQUIRE(r.ask(waiting, pinned) == Verdict::waiting);
  Setup fewer = setup_of(1, WorkerKind::http, 2);
  REQUIRE(r.d.configure(fewer, r.now()).has_value());
  r.loop.port.deliver();
  CHECK(waiting.state() == Waiter::State::refused);
  CHECK(held.backend().name == "b1");
  CHECK_FALSE(r.ref(1).exists());
  CHECK(r.d.snapshot().backends.size() == 2);
  CHECK(r.d.snapshot().backends[1].removed);
  Client c;
  CHECK(r.ask(c, pinned) == Verdict::refused);
  held.finish(Outcome::connect_refused, r.now());
  more.first_event(r.now());
  more.finish(Outcome::success, r.now());
  CHECK(r.d.snapshot().backends.size() == 1);

  // The name comes back: another backend, and the old reference stays dead.
  REQUIRE(r.d.configure(r.setup, r.now()).has_value());
  CHECK(r.ref(1) != pinned.pinned);
  CHECK(r.ask(c, pinned) == Verdict::refused);
  r.check();
}

TEST_CASE("a new address under an old name is a new backend, and comes in slowly") {
  Rig r(setup_of(2, WorkerKind::orbit));
  const BackendRef before = r.ref(1);
  Ask pinned;
  pinned.pinned = before;
  Ticket held = r.grant(pinned);
  r.setup.backends[1].address = "127.0.0.1:4000";
  REQUIRE(r.d.configure(r.setup, r.now()).has_value());
  CHECK(r.ref(1) != before);
  CHECK(held.backend().address == "127.0.0.1:3002");
  CHECK_FALSE(r.status(1).probed);
  r.probe(1, ProbeResult::ok, WorkerKind::orbit);
  CHECK(r.status(1).slots == 1);  // probation
  CHECK(r.status(1).pace == doctest::Approx(5));
  CHECK(r.status(0).slots == 48);
}

TEST_CASE("a wrong setup changes nothing") {
  Rig r(setup_of(2));
  Setup bad = setup_of(2);
  SUBCASE("no pool") { bad.pools.clear(); }
  SUBCASE("same names") { bad.backends[1].name = "b0"; }
  SUBCASE("no name") { bad.backends[1].name.clear(); }
  SUBCASE("weight") { bad.backends[0].weight = 0; }
  SUBCASE("slots") { bad.backends[0].http_slots = 0; }
  SUBCASE("picker") { bad.policy.picker = "best"; }
  SUBCASE("unknown backend") { bad.pools[0].backends.push_back(7); }
  SUBCASE("address") { bad.backends[0].address.assign(kMaxAddressBytes + 1, 'a'); }
  SUBCASE("too many") { bad = setup_of(kMaxBackends + 1); }
  bad.policy.critical_slots = 1;
  const auto result = r.d.configure(bad, r.now());
  REQUIRE_FALSE(result.has_value());
  CHECK(result.error().kind == ErrorKind::invalid);
  CHECK(std::string(result.error().detail) != "");
  Ask critical;
  critical.critical_lane = true;
  Ticket a = r.grant(critical);
  Ticket b = r.grant(critical);
  Ticket c = r.grant(critical);
  CHECK(r.d.snapshot().backends.size() == 2);
}

TEST_CASE("places of removed backends are used again, but not while somebody runs there") {
  Rig r(setup_of(40, WorkerKind::http, 2));
  std::vector<Ticket> held;
  for (int i = 0; i < 40; ++i) held.push_back(r.grant());
  Setup other = setup_of(40, WorkerKind::http, 2);
  for (BackendSpec& b : other.backends) b.name += "x";
  const auto refused = r.d.configure(other, r.now());
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().kind == ErrorKind::exhausted);
  r.check();
  held.clear();
  CHECK_FALSE(r.d.configure(other, r.now()).has_value());  // 40 are still configured
  REQUIRE(r.d.configure(setup_of(20, WorkerKind::http, 2), r.now()).has_value());
  CHECK(r.d.configure(other, r.now()).has_value());
  for (int i = 0; i < 200; ++i) {  // names that come and go for ever
    for (BackendSpec& b : other.backends) b.name = std::to_string(i) + b.address;
    Setup few = other;
    few.backends.resize(20);
    few.pools[0].backends.resize(20);
    REQUIRE(r.d.configure(few, r.now()).has_value());
  }
  CHECK(r.d.snapshot().backends.size() == 20);
}

TEST_CASE("pools: a backend in two of them has one load; ids stay with names; a removed pool refuses") {
  Setup s = setup_of(3, WorkerKind::http, 1);
  s.pools.push_back({"second", {1, 2}});
  s.pools[0].backends = {0, 1};
  Rig r(s);
  const PoolId second = r.d.pool("second").value();
  Ask there;
  there.pool = second;
  Ticket a = r.grant(there);
  Ticket b = r.grant(there);
  Client waits_there;
  Client waits_here;
  REQUIRE(r.ask(waits_there, there) == Verdict::waiting);
  Ticket c = r.grant();
  CHECK(c.backend().name == "b0");  // b1 is taken through the other pool
  REQUIRE(r.ask(waits_here) == Verdict::waiting);

  std::swap(s.pools[0], s.pools[1]);
  REQUIRE(r.d.configure(s, r.now()).has_value());
  CHECK(r.d.pool("second") == second);
  s.pools.erase(s.pools.begin());
  REQUIRE(r.d.configure(s, r.now()).has_value());
  r.loop.port.deliver();
  CHECK(waits_there.state() == Waiter::State::refused);
  CHECK(waits_here.state() == Waiter::State::waiting);
  Client late;
  CHECK(r.ask(late, there) == Verdict::refused);
  (a.backend().name == "b1" ? a : b).finish(Outcome::success, r.now());
  r.loop.port.deliver();
  CHECK(waits_here.state() == Waiter::State::granted);
  r.check();
}

TEST_CASE("the status counts what there is") {
  Rig r(setup_of(1, WorkerKind::http, 2));
  Ask chat;
  chat.request_class = RequestClass::chat;
  chat.streamed = true;
  Ticket running = r.grant(chat);
  running.first_event(r.now());
  Ticket starting = r.grant(chat);
  Ask big = chat;
  big.priority = Priority::high;
  big.body_bytes = 100;
  Client c;
  REQUIRE(r.ask(c, big) == Verdict::waiting);
  const Status s = r.d.snapshot();
  CHECK(s.backends[0].in_flight == 2);
  CHECK(s.backends[0].starting == 1);
  CHECK(s.backends[0].streams == 1);
  CHECK(s.backends[0].by_class[0] == 2);
  CHECK(s.backends[0].address == "127.0.0.1:3001");
  CHECK(s.pools[0].waiting == 1);
  CHECK(s.pools[0].name == "default");
  CHECK(s.waiting[0][static_cast<std::size_t>(Priority::high)] == 1);
  CHECK(s.waiting_bytes == 100);
  CHECK(s.before_first_event[0] == 1);
  CHECK(s.streams == 1);
  CHECK(s.grants == 2);
  CHECK(s.waits == 1);
  CHECK(s.locks > 0);
  CHECK(r.d.busy(r.ref(0)));
}

TEST_CASE("slots of a worker that is not ORBIT are found below what is written, where that is wanted") {
  Setup s = setup_of(1, WorkerKind::http, 20);
  s.policy.http_adaptive = true;
  Rig r(s);
  CHECK(r.status(0).slots == 8);
  CHECK(r.status(0).slots_ceiling == 20);
  // Answers one after the other: what it takes unloaded. Then it serves eight as slowly as that makes them.
  const auto answers = [&](std::size_t at_once, Duration each, int rounds) {
    for (int i = 0; i < rounds; ++i) {
      std::vector<Ticket> running;
      for (std::size_t k = 0; k < std::min<std::size_t>(at_once, r.status(0).slots); ++k) running.push_back(r.grant());
      r.pass(each);
      for (Ticket& t : running) t.finish(Outcome::success, r.now());
    }
  };
  answers(1, 50ms, 40);
  CHECK(r.status(0).base_seconds == doctest::Approx(.05));
  answers(20, 50ms, 100);
  CHECK(r.status(0).slots == 20);
  answers(20, 200ms, 20);
  CHECK(r.status(0).slots < 20);
  CHECK(r.status(0).slot_cuts > 0);
  SUBCASE("a reload moves the ceiling") {
    r.setup.backends[0].http_slots = 5;
    REQUIRE(r.d.configure(r.setup, r.now()).has_value());
    CHECK(r.status(0).slots == 5);
  }
  SUBCASE("a reload makes it ORBIT, whose slots are found in another way") {
    r.setup.backends[0].kind = WorkerKind::orbit;
    r.setup.backends[0].orbit_ceiling = 64;
    REQUIRE(r.d.configure(r.setup, r.now()).has_value());
    CHECK(r.status(0).base_seconds == 0);
    CHECK(r.status(0).slot_cuts == 0);
  }
  SUBCASE("a reload makes them fixed again") {
    r.setup.policy.http_adaptive = false;
    REQUIRE(r.d.configure(r.setup, r.now()).has_value());
    CHECK(r.status(0).slots == 20);
    CHECK(r.status(0).base_seconds == 0);
  }
  r.check();
}

TEST_CASE("classes whose work is alike have slots of their own on an ORBIT worker, where that is wanted") {
  Setup s = setup_of(1, WorkerKind::orbit);
  s.policy.class_adaptive = true;
  s.policy.steered = false;
  s.policy.head_lag.start_pace = 0;
  s.policy.head_lag.start_slots = 40;
  s.backends[0].orbit_ceiling = 40;
  Rig r(s);
  constexpr auto kSearch = static_cast<std::size_t>(RequestClass::search);
  constexpr auto kFiles = static_cast<std::size_t>(RequestClass::files);
  Ask search;
  search.request_class = RequestClass::search;
  REQUIRE(r.status(0).class_slots[kSearch] == 8);
  CHECK(r.status(0).class_slots[static_cast<std::size_t>(RequestClass::chat)] == 0);
  const auto answers = [&](std::size_t at_once, Duration each, int rounds) {
    for (int i = 0; i < rounds; ++i) {
      std::vector<Ticket> running;
      for (std::size_t k = 0; k < std::min<std::size_t>(at_once, r.status(0).class_slots[kSearch]); ++k) {
        running.push_back(r.grant(search));
      }
      r.pass(each);
      for (Ticket& t : running) t.finish(Outcome::success, r.now());
    }
  };
  answers(1, 50ms, 40);
  answers(40, 50ms, 100);
  CHECK(r.status(0).class_slots[kSearch] > 20);
  answers(40, 400ms, 20);
  const std::uint32_t found = r.status(0).class_slots[kSearch];
  CHECK(found < 20);
  CHECK(r.status(0).class_slots[kFiles] == 8);  // another class has its own
  std::vector<Ticket> running;
  for (std::uint32_t i = 0; i < found; ++i) running.push_back(r.grant(search));
  Client waits;
  CHECK(r.ask(waits, search) == Verdict::waiting);
  Ask chat;
  chat.request_class = RequestClass::chat;
  running.push_back(r.grant(chat));  // nobody else is held up
  r.check();
  running.front().finish(Outcome::success, r.now());
  r.loop.port.deliver();
  CHECK(waits.state() == Waiter::State::granted);
  running.push_back(waits.take());
  // A reload keeps what was found; one without the option takes it away.
  REQUIRE(r.d.configure(r.setup, r.now()).has_value());
  CHECK(r.status(0).class_slots[kSearch] == found);
  r.setup.policy.class_adaptive = false;
  REQUIRE(r.d.configure(r.setup, r.now()).has_value());
  CHECK(r.status(0).class_slots[kSearch] == 0);
  running.push_back(r.grant(search));
  r.check();
}

TEST_CASE("slots of other workers: an objective holds until it was measured, and a reload may write another") {
  Setup s = setup_of(1, WorkerKind::http, 20);
  s.policy.http_adaptive = true;
  s.policy.http_objective = 100ms;
  Rig r(s);
  CHECK(r.status(0).base_seconds == doctest::Approx(.05));
  r.setup.policy.http_objective = 300ms;
  REQUIRE(r.d.configure(r.setup, r.now()).has_value());
  CHECK(r.status(0).base_seconds == doctest::Approx(.15));
  for (int i = 0; i < 200; ++i) {
    Ticket t = r.grant();
    r.pass(70ms);
    t.finish(Outcome::success, r.now());
  }
  CHECK(r.status(0).base_seconds == doctest::Approx(.07));
  r.setup.policy.http_objective = 400ms;
  REQUIRE(r.d.configure(r.setup, r.now()).has_value());
  CHECK(r.status(0).base_seconds == doctest::Approx(.07));
  r.check();
}

}  // namespace perigee::dispatch::test
