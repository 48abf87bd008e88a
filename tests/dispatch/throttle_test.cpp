// What the dispatcher does on a machine that is short of CPU or memory, and with a worker that is.
#include "rig.h"

namespace perigee::dispatch::test {

namespace {

Ask of(Priority p) {
  Ask a;
  a.priority = p;
  return a;
}

admission::ThrottleOrders above_soft() { return {.above_soft = true}; }
admission::ThrottleOrders refusing(unsigned rank) {
  return {.above_soft = true, .no_retries = true, .halve_streams = false, .refuse_above = static_cast<std::uint8_t>(rank)};
}

}  // namespace

TEST_CASE("above the soft mark low priority gets only workers that do nothing else") {
  Rig r(setup_of(2));
  r.d.set_throttle(above_soft(), {}, r.now());
  Ticket normal = r.grant();
  Client low[3];
  CHECK(r.ask(low[0], of(Priority::low)) == Verdict::granted);
  CHECK(r.ask(low[1], of(Priority::low)) == Verdict::waiting);
  CHECK(r.ask(low[2], of(Priority::low)) == Verdict::waiting);
  r.check();
  // Others pass them while they wait.
  Ticket passing = r.grant();
  Ticket running = low[0].take();
  CHECK(running.backend().ref != normal.backend().ref);
  normal.finish(Outcome::success, r.now());
  passing.finish(Outcome::success, r.now());
  r.loop.port.deliver();
  CHECK(low[1].state() == Waiter::State::granted);
  CHECK(low[2].state() == Waiter::State::waiting);
  r.check();
  // It ebbs: whoever waited for that starts at once.
  r.d.set_throttle({}, {}, r.now());
  r.loop.port.deliver();
  CHECK(low[2].state() == Waiter::State::granted);
  r.check();
}

TEST_CASE("refusals at the door: by rank, with their reason, and never what is critical or pinned") {
  Rig r(setup_of(1));
  r.d.set_throttle(refusing(30), {}, r.now());
  Client c;
  for (const Priority p : {Priority::low, Priority::normal}) {
    CHECK(r.ask(c, of(p)) == Verdict::refused);
    CHECK(c.refusal().reason == Refused::throttled);
    CHECK(c.refusal().at_door);
    CHECK(c.refusal().retry_after_s >= 5);
    CHECK(c.refusal().retry_after_s <= 9);
  }
  CHECK(r.ask(c, of(Priority::high)) == Verdict::granted);
  c.take().finish(Outcome::success, r.now());
  Ask health = of(Priority::low);
  health.critical_lane = true;
  CHECK(r.ask(c, health) == Verdict::granted);
  c.take().finish(Outcome::success, r.now());
  Ask pinned = of(Priority::low);
  pinned.pinned = r.ref(0);
  CHECK(r.ask(c, pinned) == Verdict::granted);
  c.take().finish(Outcome::success, r.now());
  CHECK(r.d.snapshot().refused_at_door[static_cast<std::size_t>(Refused::throttled)] == 2);

  r.d.set_throttle(refusing(78), {}, r.now());
  CHECK(r.ask(c, of(Priority::low)) == Verdict::refused);
  CHECK(r.ask(c, of(Priority::normal)) == Verdict::granted);
}

TEST_CASE("no retries while the machine is hot") {
  Rig r(setup_of(1));
  CHECK(r.d.try_retry(RequestClass::other, r.now()));
  r.d.drop_retry();
  r.d.set_throttle(refusing(admission::kMostRank), {}, r.now());
  CHECK_FALSE(r.d.try_retry(RequestClass::other, r.now()));
  r.d.set_throttle({}, {}, r.now());
  CHECK(r.d.try_retry(RequestClass::other, r.now()));
  r.d.drop_retry();
}

TEST_CASE("a hot worker is taken only where no other is free, and never for low priority") {
  Rig r(setup_of(3));
  const BackendRef hot = r.ref(0);
  r.d.set_throttle({}, std::span(&hot, 1), r.now());
  CHECK(r.status(0).hot);
  std::vector<Ticket> held;
  for (int i = 0; i < 4; ++i) {
    held.push_back(r.grant());
    CHECK(held.back().backend().ref != hot);
  }
  Client low;
  CHECK(r.ask(low, of(Priority::low)) == Verdict::waiting);
  r.check();
  Ticket last = r.grant();
  CHECK(last.backend().ref == hot);
  r.d.set_throttle({}, {}, r.now());
  r.loop.port.deliver();
  CHECK(low.state() == Waiter::State::granted);
  CHECK_FALSE(r.status(0).hot);
  r.check();
}

TEST_CASE("all hot: work goes on, low priority waits") {
  Rig r(setup_of(2));
  const std::array<BackendRef, 2> hot = {r.ref(0), r.ref(1)};
  r.d.set_throttle({}, hot, r.now());
  Ticket one = r.grant();
  Client low;
  CHECK(r.ask(low, of(Priority::low)) == Verdict::waiting);
  r.check();
}

TEST_CASE("half of the streams while memory is short") {
  Setup s = setup_of(1, WorkerKind::http, 100);
  s.policy.limits.streams = 4;
  Rig r(s);
  Ask stream;
  stream.streamed = true;
  r.d.set_throttle({.above_soft = true, .halve_streams = true}, {}, r.now());
  std::vector<Ticket> held;
  for (int i = 0; i < 2; ++i) held.push_back(r.grant(stream));
  Client third;
  CHECK(r.ask(third, stream) == Verdict::waiting);
  r.d.set_throttle({.above_soft = true}, {}, r.now());
  r.loop.port.deliver();
  CHECK(third.state() == Waiter::State::granted);
  r.check();
}

TEST_CASE("a standing queue is measured by those who are not made to wait") {
  Rig r(setup_of(1, WorkerKind::http, 1));
  CHECK(r.d.standing_queue(r.now()) == 0);
  r.d.set_throttle(above_soft(), {}, r.now());
  Client low;
  Ticket held = r.grant();
  Ask patient = of(Priority::low);
  patient.queue_wait = 1h;  // it does not age
  CHECK(r.ask(low, patient) == Verdict::waiting);
  for (int i = 0; i < 8; ++i) {  // each is granted after 8 of its 10 seconds
    Client c;
    CHECK(r.ask(c) == Verdict::waiting);
    r.pass(8s);
    held.finish(Outcome::success, r.now());
    r.loop.port.deliver();
    REQUIRE(c.state() == Waiter::State::granted);
    held = c.take();
  }
  CHECK(r.d.standing_queue(r.now()) == doctest::Approx(0.8));
  r.d.set_throttle({}, {}, r.now());
  CHECK(r.d.standing_queue(r.now()) == 0);
}

TEST_CASE("above the soft mark the slots of a worker that is not ORBIT do not grow either") {
  Setup s = setup_of(1, WorkerKind::http, 100);
  s.policy.http_adaptive = true;
  Rig r(s);
  const auto rounds = [&](std::size_t at_once, int n) {
    for (int i = 0; i < n; ++i) {
      std::vector<Ticket> running;
      for (std::size_t k = 0; k < at_once; ++k) running.push_back(r.grant());
      r.pass(50ms);
      for (Ticket& t : running) t.finish(Outcome::success, r.now());
    }
  };
  rounds(1, 40);
  REQUIRE(r.status(0).slots == 8);
  r.d.set_throttle(above_soft(), {}, r.now());
  rounds(8, 100);
  CHECK(r.status(0).slots == 8);
  r.d.set_throttle({}, {}, r.now());
  rounds(8, 25);
  CHECK(r.status(0).slots > 8);
}

}  // namespace perigee::dispatch::test
