// The rules of the decision, one by one: who gets a place, who waits, who is refused.
#include "rig.h"

namespace perigee::dispatch::test {

namespace {

Ask ask_for(RequestClass c, Priority p = Priority::normal, bool streamed = false) {
  Ask a;
  a.request_class = c;
  a.priority = p;
  a.streamed = streamed;
  return a;
}
Ask pinned_to(BackendRef b) {
  Ask a;
  a.pinned = b;
  return a;
}
Ask retry_without(BackendSet excluded, std::uint64_t arrival = 0) {
  Ask a;
  a.retry = true;
  a.excluded = excluded;
  a.arrival = arrival;
  return a;
}
BackendSet bit(BackendRef b) { return BackendSet{1} << b.id; }

bool granted(const Client& c) { return c.state() == Waiter::State::granted; }

}  // namespace

// --- order ---------------------------------------------------------------------------------------------------

TEST_CASE("slots are exact, the least busy backend is taken first, and who comes first goes first") {
  Rig r(setup_of(3));
  std::vector<Ticket> held;
  for (std::size_t i = 0; i < 3; ++i) held.push_back(r.grant());
  for (std::size_t i = 0; i < 3; ++i) CHECK(r.status(i).in_flight == 1);
  for (std::size_t i = 0; i < 3; ++i) held.push_back(r.grant());
  Client first;
  Client second;
  CHECK(r.ask(first) == Verdict::waiting);
  CHECK(r.ask(second) == Verdict::waiting);
  held[4].finish(Outcome::success, r.now());
  r.loop.port.deliver();
  CHECK(granted(first));
  CHECK_FALSE(granted(second));
  for (std::size_t i = 0; i < 3; ++i) CHECK(r.status(i).in_flight == 2);
  r.check();
}

TEST_CASE("better priority goes first, whatever its class and arrival") {
  Rig r(setup_of(1, WorkerKind::http, 1));
  Ticket held = r.grant();
  Client low;
  Client normal;
  Client high;
  r.ask(low, ask_for(RequestClass::other, Priority::low));
  r.ask(normal, ask_for(RequestClass::chat, Priority::normal));
  r.ask(high, ask_for(RequestClass::files, Priority::high));
  for (Client* expected : {&high, &normal, &low}) {
    held.finish(Outcome::success, r.now());
    r.loop.port.deliver();
    REQUIRE(granted(*expected));
    held = expected->take();
  }
}

TEST_CASE("a full class closes its own lane only") {
  Setup s = setup_of(1, WorkerKind::http, 8);
  s.policy.limits[RequestClass::chat] = 1;
  Rig r(s);
  Ticket chat = r.grant(ask_for(RequestClass::chat, Priority::normal, true));
  Client blocked;
  CHECK(r.ask(blocked, ask_for(RequestClass::chat, Priority::high, true)) == Verdict::waiting);
  Ticket search = r.grant(ask_for(RequestClass::search, Priority::low));
  r.check();
  // A stream leaves its class with its first event: the next one may start.
  chat.first_event(r.now());
  r.loop.port.deliver();
  CHECK(granted(blocked));
  CHECK(r.d.snapshot().streams == 1);
}

TEST_CASE("the bound of streams holds back streams only, those on their way included") {
  Setup s = setup_of(1, WorkerKind::http, 8);
  s.policy.limits.streams = 2;
  Rig r(s);
  const Ask stream = ask_for(RequestClass::chat, Priority::normal, true);
  Ticket one = r.grant(stream);
  one.first_event(r.now());
  Ticket two = r.grant(stream);
  Client third;
  CHECK(r.ask(third, stream) == Verdict::waiting);
  Ticket plain = r.grant(ask_for(RequestClass::chat));
  two.finish(Outcome::success, r.now());
  r.loop.port.deliver();
  CHECK(granted(third));
  // What turns out to be a stream later is counted too.
  plain.became_stream(r.now());
  plain.first_event(r.now());
  CHECK(r.d.snapshot().streams == 2);
}

TEST_CASE("nobody is overtaken: a start that fell due belongs to who waits, not to who comes") {
  Setup s = setup_of(1, WorkerKind::orbit);
  s.policy.head_lag.start_pace = 10;
  Rig r(s);
  std::vector<Ticket> held;
  for (int i = 0; i < 3; ++i) held.push_back(r.grant());
  Client waiting;
  REQUIRE(r.ask(waiting) == Verdict::waiting);
  r.clock.advance(110ms);  // due, and no timer has fired yet
  Client newcomer;
  CHECK(r.ask(newcomer) == Verdict::waiting);
  r.loop.port.deliver();
  CHECK(granted(waiting));
  CHECK_FALSE(granted(newcomer));
}

// --- slots, pace, starting -----------------------------------------------------------------------------------

TEST_CASE("pace: starts are spread, and the timer lets the next one go") {
  Setup s = setup_of(1, WorkerKind::orbit);
  s.policy.head_lag.start_pace = 20;
  Rig r(s);
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 13; ++i) {
    clients.push_back(std::make_unique<Client>());
    r.ask(*clients.back());
  }
  CHECK(r.status(0).in_flight == 3);
  r.pass(501ms);
  CHECK(r.status(0).in_flight == 13);
  CHECK(r.status(0).slots == 48);
  r.check();
}

TEST_CASE("starting: one bound for the classes of a thread pool, until the first event or one second") {
  Setup s = setup_of(1, WorkerKind::http, 20);
  s.policy.starting[static_cast<std::size_t>(StartPool::db)] = 2;
  Rig r(s);
  Ticket admin = r.grant(ask_for(RequestClass::admin));
  Ticket mcp = r.grant(ask_for(RequestClass::mcp));
  Client third;
  Client fourth;
  CHECK(r.ask(third, ask_for(RequestClass::a2a)) == Verdict::waiting);
  CHECK(r.ask(fourth, ask_for(RequestClass::a2a)) == Verdict::waiting);
  Ticket chat = r.grant(ask_for(RequestClass::chat));  // another thread pool
  admin.first_event(r.now());
  r.loop.port.deliver();
  CHECK(granted(third));
  CHECK_FALSE(granted(fourth));
  r.pass(900ms);
  r.loop.port.deliver();
  CHECK_FALSE(granted(fourth));
  r.pass(100ms);
  r.loop.port.deliver();
  CHECK(granted(fourth));
  r.check();
}

TEST_CASE("the critical lane has places of its own and touches nothing else") {
  Rig r(setup_of(1, WorkerKind::http, 1));
  Ticket held = r.grant();
  Ask health;
  health.request_class = RequestClass::health;
  health.priority = Priority::critical;
  health.critical_lane = true;
  std::vector<Ticket> critical;
  for (int i = 0; i < 4; ++i) critical.push_back(r.grant(health));
  Client fifth;
  CHECK(r.ask(fifth, health) == Verdict::waiting);
  CHECK(r.status(0).in_flight == 1);
  CHECK(r.status(0).critical == 4);
  held.finish(Outcome::success, r.now());
  r.loop.port.deliver();
  CHECK_FALSE(granted(fifth));  // ordinary slots are not for it
  critical[2].finish(Outcome::success, r.now());
  r.loop.port.deliver();
  CHECK(granted(fifth));
  r.check();
}

TEST_CASE("a tunnel gives its slot back and is bounded by itself") {
  Setup s = setup_of(1, WorkerKind::http, 1);
  s.policy.tunnels = 1;
  Rig r(s);
  Ticket first = r.grant(ask_for(RequestClass::voice));
  Client waiting;
  REQUIRE(r.ask(waiting) == Verdict::waiting);
  REQUIRE(first.became_tunnel(r.now()));
  r.loop.port.deliver();
  REQUIRE(granted(waiting));
  Ticket second = waiting.take();
  CHECK_FALSE(second.became_tunnel(r.now()));
  CHECK(r.status(0).in_flight == 1);
  CHECK(r.status(0).tunnels == 1);
  first.finish(Outcome::success, r.now());
  CHECK(r.status(0).tunnels == 0);
  CHECK(second.became_tunnel(r.now()));
  second = Ticket();
  CHECK(r.status(0).tunnels == 0);
  r.check();
}

// --- at the door, and again at dequeue --------------------------------------------------------------------------

TEST_CASE("the queue's bounds: entries, the extra ones of critical and high, bytes") {
  Setup s = setup_of(1, WorkerKind::http, 1);
  s.policy.queue = {2, 1, 1000};
  Rig r(s);
  Ticket held = r.grant();
  Client a;
  Client b;
  Client c;
  Client d;
  Ask big = ask_for(RequestClass::other);
  big.body_bytes = 900;
  CHECK(r.ask(a, big) == Verdict::waiting);
  CHECK(r.ask(b, big) == Verdict::refused);
  CHECK(b.refusal().reason == Refused::queue_full);
  CHECK(r.ask(b) == Verdict::waiting);
  CHECK(r.ask(c) == Verdict::refused);
  CHECK(r.ask(c, ask_for(RequestClass::other, Priority::high)) == Verdict::waiting);
  CHECK(r.ask(d, ask_for(RequestClass::other, Priority::high)) == Verdict::refused);
  CHECK(d.refusal().at_door);
  // A retry is one of a bounded number: it is let in.
  REQUIRE(r.d.try_retry(RequestClass::other, r.now()));
  CHECK(r.ask(d, retry_without(0)) == Verdict::waiting);
  CHECK(r.d.snapshot().waiting_bytes == 900);
}

TEST_CASE("who would wait longer than it may is told at the door") {
  Setup s = setup_of(1, WorkerKind::orbit);
  s.policy.head_lag.start_pace = 5;  // the drain rate until it was measured
  Rig r(s);
  std::vector<std::unique_ptr<Client>> clients;
  Ask patient;
  patient.queue_wait = 2s;
  int waiting = 0;
  for (int i = 0; i < 40; ++i) {
    clients.push_back(std::make_unique<Client>());
    const Verdict v = r.ask(*clients.back(), patient);
    if (v == Verdict::waiting) ++waiting;
    if (v != Verdict::refused) continue;
    CHECK(clients.back()->refusal().reason == Refused::queue_timeout);
    CHECK(clients.back()->refusal().at_door);
    CHECK(clients.back()->refusal().retry_after_s >= 2);
    CHECK(clients.back()->refusal().retry_after_s <= 4);
  }
  CHECK(waiting == 11);  // ten stand ahead of the last one: 10 / 5 = 2 s
  Client urgent;  // nobody stands ahead of it
  CHECK(r.ask(urgent, ask_for(RequestClass::other, Priority::high)) == Verdict::waiting);
}

TEST_CASE("without a pace and before it was measured, the drain rate refuses nobody") {
  Rig r(setup_of(1, WorkerKind::http, 1));
  Ticket held = r.grant();
  std::vector<std::unique_ptr<Client>> clients;
  Ask hurried;
  hurried.queue_wait = 1ms;
  for (int i = 0; i < 100; ++i) {
    clients.push_back(std::make_unique<Client>());
    CHECK(r.ask(*clients.back(), hurried) == Verdict::waiting);
  }
}

TEST_CASE("a measured drain rate refuses at the door") {
  Rig r(setup_of(1, WorkerKind::http, 1));
  std::vector<std::unique_ptr<Client>> clients;
  Ticket held = r.grant();
  Ask patient;
  patient.queue_wait = 1h;
  for (int i = 0; i < 40; ++i) {
    clients.push_back(std::make_unique<Client>());
    REQUIRE(r.ask(*clients.back(), patient) == Verdict::waiting);
  }
  for (std::size_t i = 0; i < 25; ++i) {  // ten a second
    r.pass(100ms);
    held.finish(Outcome::success, r.now());
    r.loop.port.deliver();
    held = clients[i]->take();
  }
  Client hurried;
  Ask a;
  a.queue_wait = 1s;  // 15 ahead
  CHECK(r.ask(hurried, a) == Verdict::refused);
  a.queue_wait = 2s;
  CHECK(r.ask(hurried, a) == Verdict::waiting);
}

TEST_CASE("at dequeue, who is too late does not get the slot but an answer") {
  Rig r(setup_of(1, WorkerKind::http, 1));
  Ticket held = r.grant();
  Client late;
  Client dead;
  Client in_time;
  Ask short_wait;
  short_wait.queue_wait = 100ms;
  Ask deadline;
  deadline.deadline = r.now() + 150ms;
  r.ask(late, short_wait);
  r.ask(dead, deadline);
  r.ask(in_time);
  r.pass(200ms);
  held.finish(Outcome::success, r.now());
  r.loop.port.deliver();
  CHECK(late.state() == Waiter::State::refused);
  CHECK(late.refusal().reason == Refused::queue_timeout);
  CHECK(dead.state() == Waiter::State::refused);
  CHECK(granted(in_time));
  CHECK(late.told == 1);
  CHECK(r.d.snapshot().refused_waiting[static_cast<std::size_t>(Refused::queue_timeout)] == 2);
}

// --- pinned and retried -------------------------------------------------------------------------------------------

TEST_CASE("a pinned ask waits for its backend and for no other") {
  Rig r(setup_of(2, WorkerKind::http, 1));
  Ticket held = r.grant(pinned_to(r.ref(1)));
  CHECK(held.backend().ref == r.ref(1));
  Client pinned;
  CHECK(r.ask(pinned, pinned_to(r.ref(1))) == Verdict::waiting);
  Ticket free = r.grant();
  CHECK(free.backend().ref == r.ref(0));
  Client anyone;
  CHECK(r.ask(anyone) == Verdict::waiting);
  free.finish(Outcome::success, r.now());
  r.loop.port.deliver();
  CHECK_FALSE(granted(pinned));
  CHECK(granted(anyone));
  held.finish(Outcome::success, r.now());
  r.loop.port.deliver();
  CHECK(granted(pinned));
}

TEST_CASE("a pinned ask goes to a draining backend, and is refused where it is down or gone") {
  Rig r(setup_of(2));
  const BackendRef b = r.ref(0);
  REQUIRE(r.d.drain_backend(b, true, r.now()));
  Ticket held = r.grant(pinned_to(b));
  Ticket other = r.grant();
  CHECK(other.backend().ref == r.ref(1));
  Ticket more = r.grant(pinned_to(b));
  Client waiting;
  REQUIRE(r.ask(waiting, pinned_to(b)) == Verdict::waiting);
  r.probe(0, ProbeResult::refused);
  r.loop.port.deliver();
  CHECK(waiting.state() == Waiter::State::refused);
  CHECK(waiting.refusal().reason == Refused::no_backend);
  CHECK(r.ask(waiting, pinned_to(b)) == Verdict::refused);
  CHECK(r.ask(waiting, pinned_to({b.id, static_cast<std::uint16_t>(b.generation + 1)})) == Verdict::refused);
  CHECK(r.ask(waiting, pinned_to({60, 1})) == Verdict::refused);
}

TEST_CASE("a retry leaves the failed backend out and has its old place") {
  Rig r(setup_of(2, WorkerKind::http, 1));
  Client early;
  REQUIRE(r.ask(early) == Verdict::granted);
  Ticket attempt = early.take();
  const BackendRef failed = attempt.backend().ref;
  Ticket other = r.grant();
  Client young;
  REQUIRE(r.ask(young) == Verdict::waiting);

  REQUIRE(r.d.try_retry(RequestClass::other, r.now()));
  REQUIRE(r.ask(early, retry_without(bit(failed), early.arrival_number())) == Verdict::waiting);
  attempt.finish(Outcome::head_timeout, r.now());
  r.loop.port.deliver();
  CHECK(granted(young));  // the free one is not for the retry: it does not block the lane either
  CHECK_FALSE(granted(early));
  Client younger;
  REQUIRE(r.ask(younger) == Verdict::waiting);
  other.finish(Outcome::success, r.now());
  r.loop.port.deliver();
  CHECK(granted(early));
  CHECK_FALSE(granted(younger));
  r.check();
}

TEST_CASE("where there is no other backend the failed one is good enough") {
  Rig r(setup_of(2, WorkerKind::http, 1));
  r.probe(1, ProbeResult::refused);
  REQUIRE(r.d.try_retry(RequestClass::other, r.now()));
  Ticket t = r.grant(retry_without(bit(r.ref(0))));
  CHECK(t.backend().ref == r.ref(0));
}

TEST_CASE("the retry budget: a share of what runs, given back when the attempt ends") {
  Rig r(setup_of(1, WorkerKind::http, 20));
  std::vector<Ticket> held;
  for (int i = 0; i < 3; ++i) {
    REQUIRE(r.d.try_retry(RequestClass::search, r.now()));
    held.push_back(r.grant(retry_without(0)));
  }
  CHECK_FALSE(r.d.try_retry(RequestClass::search, r.now()));  // three at once where little runs
  held.clear();
  r.pass(10s);
  REQUIRE(r.d.try_retry(RequestClass::search, r.now()));
  r.d.drop_retry();
  const Status s = r.d.snapshot();
  CHECK(s.retries == 4);
  CHECK(s.retries_denied == 1);
}

// --- time of the worker ---------------------------------------------------------------------------------------------

TEST_CASE("head lag: a streamed chat's head is a sample, and slots grow only where they held somebody back") {
  Setup s = setup_of(1, WorkerKind::orbit);
  s.policy.head_lag.start_pace = 500;
  s.policy.head_lag.start_slots = 10;
  Rig r(s);
  const Ask chat = ask_for(RequestClass::chat, Priority::normal, true);
  std::vector<Ticket> held;
  const auto turn = [&] {
    held.front().finish(Outcome::success, r.now());
    held.erase(held.begin());
    held.push_back(r.grant(chat));
    held.back().sent(r.now());
    r.pass(10ms);
    held.back().bytes(r.now());
    held.back().head(r.now());
    r.pass(90ms);
  };
  for (int i = 0; i < 10; ++i) {
    r.pass(20ms);
    held.push_back(r.grant(chat));
  }
  for (int i = 0; i < 50; ++i) turn();
  CHECK(r.status(0).lag_seconds == doctest::Approx(0.010));
  CHECK(r.status(0).slots == 10);  // nobody waited

  for (int i = 0; i < 100; ++i) {
    held.front().finish(Outcome::success, r.now());
    held.erase(held.begin());
    Client waiting;
    while (r.ask(waiting, chat) == Verdict::granted) held.push_back(waiting.take());
    held.back().sent(r.now());
    r.pass(10ms);
    held.back().head(r.now());
    r.loop.port.deliver();
    if (granted(waiting)) held.push_back(waiting.take());
    r.pass(90ms);
  }
  CHECK(r.status(0).slots > 10);
  CHECK(r.status(0).in_flight <= r.status(0).slots);
  CHECK_FALSE(r.d.lag_trace(r.ref(0)).empty());
}

TEST_CASE("a stall is noticed by the first byte after it, where enough chats run") {
  Setup s = setup_of(1, WorkerKind::orbit);
  s.policy.head_lag.start_pace = 500;
  Rig r(s);
  const Ask chat = ask_for(RequestClass::chat, Priority::normal, true);
  std::vector<Ticket> held;
  const auto silence = [&] {
    held[0].bytes(r.now());
    r.d.on_lag_sent(r.ref(0), r.now());
    r.pass(400ms);
    held[0].bytes(r.now());
    held[0].bytes(r.now());
  };
  for (int i = 0; i < 7; ++i) {
    r.pass(10ms);
    held.push_back(r.grant(chat));
  }
  silence();
  CHECK(r.status(0).stalls == 0);
  r.pass(60s);  // an idle minute is no stall: it ended before the eighth came
  held.push_back(r.grant(chat));
  held[0].bytes(r.now());
  CHECK(r.status(0).stalls == 0);
  silence();
  CHECK(r.status(0).stalls == 1);
}

// --- health and breakers ---------------------------------------------------------------------------------------------

TEST_CASE("before the first probe all wait; once all are probed and none is up, all are told at once") {
  Rig r(setup_of(2, WorkerKind::unknown), false);
  Client a;
  Client b;
  CHECK_FALSE(r.d.any_eligible());
  CHECK(r.d.pool_kind(0) == WorkerKind::unknown);
  CHECK(r.ask(a) == Verdict::waiting);
  r.probe(0, ProbeResult::not_ready);
  r.loop.port.deliver();
  CHECK(a.told == 0);
  r.probe(1, ProbeResult::refused);
  r.loop.port.deliver();
  CHECK(a.state() == Waiter::State::refused);
  CHECK(a.refusal().reason == Refused::no_backend);
  CHECK(r.ask(b) == Verdict::refused);
  CHECK(b.refusal().reason == Refused::no_backend);
  CHECK(b.refusal().retry_after_s >= 3);
  CHECK(b.refusal().retry_after_s <= 5);
  r.probe(0, ProbeResult::ok, WorkerKind::orbit);
  r.probe(0, ProbeResult::ok, WorkerKind::orbit);
  CHECK(r.d.any_eligible());
  CHECK(r.d.pool_kind(0) == WorkerKind::orbit);
  CHECK(r.ask(b) == Verdict::granted);
}

TEST_CASE("a first good probe grants to who waits, and says what the worker is") {
  Rig r(setup_of(1, WorkerKind::unknown), false);
  Client a;
  REQUIRE(r.ask(a) == Verdict::waiting);
  r.probe(0, ProbeResult::ok);
  r.loop.port.deliver();
  CHECK(granted(a));
  CHECK(r.d.pool_kind(0) == WorkerKind::http);
  CHECK(r.status(0).ramp == 1.0);  // at our own start nobody is new
  CHECK(r.loop.wakes == 1);
}

TEST_CASE("a refused connect takes the backend out at once; what runs there goes on") {
  Rig r(setup_of(2, WorkerKind::http, 8));
  Ticket running = r.grant(pinned_to(r.ref(0)));
  Ticket refused = r.grant(pinned_to(r.ref(0)));
  refused.finish(Outcome::connect_refused, r.now());
  for (int i = 0; i < 4; ++i) {
    Ticket t = r.grant();
    CHECK(t.backend().ref == r.ref(1));
  }
  CHECK(r.status(0).in_flight == 1);
  CHECK(std::string(r.status(0).health) == "refused");
  running.finish(Outcome::success, r.now());
}

TEST_CASE("a backend that came back starts with one, then little by little") {
  Rig r(setup_of(2, WorkerKind::http, 20));
  r.probe(0, ProbeResult::refused);
  r.probe(1, ProbeResult::refused);
  r.probe(0, ProbeResult::ok);
  r.probe(0, ProbeResult::ok);
  Ticket first = r.grant();
  Client second;
  CHECK(r.ask(second) == Verdict::waiting);
  first.first_event(r.now());  // success: probation is over, a tenth of 20
  r.loop.port.deliver();
  CHECK(granted(second));
  std::vector<Ticket> held;
  std::vector<std::unique_ptr<Client>> waiting;
  for (int i = 0; i < 30; ++i) {
    waiting.push_back(std::make_unique<Client>());
    Ask patient;
    patient.queue_wait = 1h;
    r.ask(*waiting.back(), patient);
  }
  CHECK(r.status(0).in_flight == 2);
  r.pass(15s + 1ms);
  CHECK(r.status(0).in_flight == 10);
  r.check();
  r.pass(15s);
  CHECK(r.status(0).in_flight == 20);
  r.check();
}

TEST_CASE("ten silent seconds: nothing new, what runs goes on, one answer and it is back") {
  Rig r(setup_of(1));
  Ticket running = r.grant();
  r.pass(11s);
  r.d.on_probe_timer(r.ref(0), r.now());
  Client c;
  CHECK(r.ask(c) == Verdict::refused);
  CHECK(r.status(0).in_flight == 1);
  r.d.on_lag_probe(r.ref(0), r.now() - 1s, r.now());
  CHECK(r.ask(c) == Verdict::granted);
}

TEST_CASE("breaker: opens after failures in a row, and half-open time grants trials to who waits") {
  Setup s = setup_of(4, WorkerKind::http, 2);
  s.policy.breaker.jitter = 0;
  Rig r(s);
  for (int i = 0; i < 5; ++i) {
    Ticket t = r.grant(pinned_to(r.ref(0)));
    t.finish(Outcome::head_timeout, r.now());
  }
  CHECK(std::string(r.status(0).breaker) == "open");
  std::vector<Ticket> held;
  for (int i = 0; i < 6; ++i) {
    held.push_back(r.grant());
    CHECK(held.back().backend().ref != r.ref(0));
  }
  Client waiting;
  REQUIRE(r.ask(waiting) == Verdict::waiting);
  Ticket stop = r.grant(pinned_to(r.ref(0)));  // whatever the breaker says
  stop.finish(Outcome::success, r.now());
  CHECK(std::string(r.status(0).breaker) == "open");
  r.pass(4900ms);
  r.loop.port.deliver();
  CHECK_FALSE(granted(waiting));
  r.pass(200ms);
  r.loop.port.deliver();
  REQUIRE(granted(waiting));
  Ticket trial = waiting.take();
  CHECK(trial.backend().ref == r.ref(0));
  CHECK(r.status(0).trials == 1);
  r.check();

  SUBCASE("the client of a trial leaves: neither verdict") {
    trial.finish(Outcome::client_gone, r.now());
    CHECK(std::string(r.status(0).breaker) == "half_open");
    CHECK(r.status(0).trials == 0);
  }
  SUBCASE("three good ones close it") {
    trial.first_event(r.now());
    for (int i = 0; i < 2; ++i) r.grant().finish(Outcome::success, r.now());
    CHECK(std::string(r.status(0).breaker) == "closed");
  }
  SUBCASE("a bad one opens it again, for longer") {
    trial.finish(Outcome::reset_before_head_fresh, r.now());
    CHECK(std::string(r.status(0).breaker) == "open");
    r.pass(9900ms);
    CHECK(std::string(r.status(0).breaker) == "open");
    r.pass(200ms);
    CHECK(std::string(r.status(0).breaker) == "half_open");
  }
  r.check();
}

TEST_CASE("a half-open backend gets no more trials at once than allowed") {
  Setup s = setup_of(3, WorkerKind::http, 10);
  Rig r(s);
  for (int i = 0; i < 5; ++i) r.grant(pinned_to(r.ref(0))).finish(Outcome::status_502, r.now());
  r.probe(1, ProbeResult::refused);
  r.probe(2, ProbeResult::refused);  // panic: it is all there is, and treated as half-open
  CHECK(r.d.snapshot().pools[0].panic);
  std::vector<Ticket> trials;
  for (int i = 0; i < 3; ++i) trials.push_back(r.grant());
  Client fourth;
  CHECK(r.ask(fourth) == Verdict::waiting);
  // A cancelled grant gives its trial back.
  trials[0] = Ticket();
  r.loop.port.deliver();
  REQUIRE(granted(fourth));
  Client fifth;
  REQUIRE(r.ask(fifth) == Verdict::waiting);
  r.d.cancel(fourth, Cancelled::client_gone, r.now());
  r.loop.port.deliver();
  CHECK(granted(fifth));
  r.check();
}

TEST_CASE("a worker that answers 500 for its provider opens only beside better ones; streams that break late count") {
  Setup s = setup_of(2, WorkerKind::orbit);
  s.policy.head_lag.start_pace = 0;
  Rig r(s);
  const auto run = [&r](std::size_t b, Outcome first, Outcome last, int times) {
    for (int i = 0; i < times; ++i) {
      Ticket t = r.grant(pinned_to(r.ref(b)));
      if (first == Outcome::success) t.first_event(r.now());
      t.finish(last, r.now());
    }
  };
  const auto breaker = [&r](std::size_t b) { return std::string(r.status(b).breaker); };
  // The provider fails for all: nobody's fault.
  for (int i = 0; i < 30; ++i) {
    run(0, Outcome::status_500, Outcome::status_500, 1);
    run(1, Outcome::status_500, Outcome::status_500, 1);
  }
  CHECK(breaker(0) == "closed");
  CHECK(breaker(1) == "closed");
  r.pass(11s);
  // For one only; the other one must have been asked often enough to compare.
  run(0, Outcome::status_500, Outcome::status_500, 30);
  CHECK(breaker(0) == "closed");
  run(1, Outcome::success, Outcome::success, 20);
  run(0, Outcome::status_500, Outcome::status_500, 1);
  CHECK(breaker(0) == "open");
  CHECK(breaker(1) == "closed");

  Rig late(s);
  for (int i = 0; i < 20; ++i) {
    Ticket t = late.grant(pinned_to(late.ref(0)));
    t.first_event(late.now());
    CHECK(std::string(late.status(0).breaker) == "closed");
    t.finish(Outcome::stream_broken, late.now());
  }
  CHECK(std::string(late.status(0).breaker) == "open");
  late.check();
}

TEST_CASE("breakers never take more than half of a pool") {
  Rig r(setup_of(4, WorkerKind::http, 10));
  for (std::size_t b = 0; b < 4; ++b) {
    for (int i = 0; i < 20; ++i) {
      Client c;
      REQUIRE(r.ask(c, pinned_to(r.ref(b))) == Verdict::granted);
      c.take().finish(Outcome::head_timeout, r.now());
    }
  }
  int open = 0;
  for (std::size_t b = 0; b < 4; ++b) open += std::string(r.status(b).breaker) == "open" ? 1 : 0;
  CHECK(open == 2);
  CHECK(r.d.any_eligible());
}

// --- the operator ------------------------------------------------------------------------------------------------------

TEST_CASE("draining refuses newcomers; who waits goes on, and so do its retries") {
  Rig r(setup_of(1, WorkerKind::http, 1));
  Ticket held = r.grant();
  Client waiting;
  REQUIRE(r.ask(waiting) == Verdict::waiting);
  r.d.set_draining(true);
  Client newcomer;
  CHECK(r.ask(newcomer) == Verdict::refused);
  CHECK(newcomer.refusal().reason == Refused::draining);
  held.finish(Outcome::success, r.now());
  r.loop.port.deliver();
  REQUIRE(granted(waiting));
  waiting.take().finish(Outcome::connect_timeout, r.now());
  REQUIRE(r.d.try_retry(RequestClass::other, r.now()));
  CHECK(r.ask(waiting, retry_without(0)) == Verdict::granted);
}

TEST_CASE("a paused pool grants nothing but what is critical; resuming pumps") {
  Rig r(setup_of(1));
  REQUIRE(r.d.set_paused(0, true, r.now()));
  CHECK_FALSE(r.d.set_paused(9, true, r.now()));
  Client waiting;
  CHECK(r.ask(waiting) == Verdict::waiting);
  Ask critical;
  critical.critical_lane = true;
  Ticket t = r.grant(critical);
  r.pass(5s);
  r.check();
  r.d.set_paused(0, false, r.now());
  r.loop.port.deliver();
  CHECK(granted(waiting));
}

TEST_CASE("a drained backend gets nothing new until it is enabled") {
  Rig r(setup_of(2, WorkerKind::http, 1));
  REQUIRE(r.d.drain_backend(r.ref(0), true, r.now()));
  Ticket a = r.grant();
  Client waiting;
  CHECK(r.ask(waiting) == Verdict::waiting);
  r.probe(0, ProbeResult::ok);  // survives probes
  r.loop.port.deliver();
  CHECK_FALSE(granted(waiting));
  r.d.drain_backend(r.ref(0), false, r.now());
  r.loop.port.deliver();
  REQUIRE(granted(waiting));
  CHECK(waiting.take().backend().ref == r.ref(0));
}

}  // namespace perigee::dispatch::test
