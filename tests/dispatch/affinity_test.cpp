// Ask::home and Ask::affinity: which backend an exchange prefers among those that can take it now.
#include <array>
#include <set>
#include <vector>

#include "rig.h"

namespace perigee::dispatch {
namespace {

using namespace test;

Ask of(std::uint64_t key) {
  Ask a;
  a.affinity = key;
  return a;
}

BackendId home(Rig& r, std::uint64_t key) {
  Ticket t = r.grant(of(key));
  const BackendId id = t.backend().ref.id;
  t.finish(Outcome::success, r.now());
  return id;
}

}  // namespace

TEST_CASE("affinity: a key finds its backend again, and keys spread over all") {
  Rig r(setup_of(4));
  std::set<BackendId> used;
  for (std::uint64_t key = 1; key <= 40; ++key) {
    const BackendId first = home(r, key);
    used.insert(first);
    for (int i = 0; i < 3; ++i) CHECK(home(r, key) == first);
  }
  CHECK(used.size() == 4);
}

TEST_CASE("affinity: without a key the same asks spread by load") {
  Rig r(setup_of(4));
  std::set<BackendId> used;
  std::vector<Ticket> held;
  for (int i = 0; i < 4; ++i) held.push_back(r.grant(of(0)));
  for (const Ticket& t : held) used.insert(t.backend().ref.id);
  CHECK(used.size() == 4);
}

TEST_CASE("affinity: no backend gets more than its share by one key; a wide bound lets it have all") {
  for (const double bound : {1.5, 100.0}) {
    CAPTURE(bound);
    Setup s = setup_of(4, WorkerKind::http, 64);
    s.policy.affinity_bound = bound;
    Rig r(s);
    std::vector<Ticket> held;
    for (int i = 0; i < 32; ++i) held.push_back(r.grant(of(7)));
    std::uint32_t most = 0;
    for (std::size_t i = 0; i < 4; ++i) most = std::max(most, r.status(i).in_flight);
    if (bound < 2) CHECK(most == 12);  // 1.5 times a quarter of 32
    else CHECK(most == 32);
  }
}

TEST_CASE("affinity: full, excluded, drained and down ones are passed by, always for the same next one") {
  Rig r(setup_of(4, WorkerKind::http, 1));
  const BackendId first = home(r, 7);
  const Ticket busy = r.grant(of(7));
  const BackendId second = home(r, 7);
  CHECK(second != first);
  CHECK(home(r, 7) == second);
  Rig fresh(setup_of(4));
  Ask again = of(7);
  again.excluded = BackendSet{1} << first;
  again.retry = true;
  REQUIRE(fresh.d.try_retry(RequestClass::other, fresh.now()));
  Ticket retried = fresh.grant(again);
  CHECK(retried.backend().ref.id == second);
  retried.finish(Outcome::success, fresh.now());
  fresh.d.drain_backend(fresh.ref(first), true, fresh.now());
  CHECK(home(fresh, 7) == second);
  fresh.d.drain_backend(fresh.ref(first), false, fresh.now());
  CHECK(home(fresh, 7) == first);
  fresh.probe(first, ProbeResult::refused);
  CHECK(home(fresh, 7) == second);
  fresh.check();
}

TEST_CASE("affinity: nobody waits for it, and who waits takes what becomes free") {
  Rig r(setup_of(2, WorkerKind::http, 1));
  const BackendId first = home(r, 7);
  std::vector<Ticket> held;
  held.push_back(r.grant(of(7)));
  held.push_back(r.grant(of(7)));
  CHECK(held[0].backend().ref.id == first);
  Client waiting;
  CHECK(r.ask(waiting, of(7)) == Verdict::waiting);
  held[1].finish(Outcome::success, r.now());
  r.loop.port.deliver();
  REQUIRE(waiting.told == 1);
  CHECK(waiting.take().backend().ref.id != first);
  r.check();
}

namespace {

Ask back_to(BackendRef home) {
  Ask a;
  a.home = home;
  return a;
}

BackendId served_by(Rig& r, const Ask& a) {
  Ticket t = r.grant(a);
  const BackendId id = t.backend().ref.id;
  t.finish(Outcome::success, r.now());
  return id;
}

}  // namespace

TEST_CASE("home: whose last worker is known has it again; all others go where there is least to do") {
  Rig r(setup_of(4));
  for (int i = 0; i < 8; ++i) {
    for (std::size_t b = 0; b < 4; ++b) CHECK(served_by(r, back_to(r.ref(b))) == r.ref(b).id);
  }
  std::set<BackendId> used;
  std::vector<Ticket> first_turns;
  for (int i = 0; i < 4; ++i) first_turns.push_back(r.grant());
  for (const Ticket& t : first_turns) used.insert(t.backend().ref.id);
  CHECK(used.size() == 4);
}

TEST_CASE("home: it goes before a hash; a hash helps nobody who has one") {
  Rig r(setup_of(4));
  const BackendId by_hash = home(r, 7);
  Ask a = back_to(r.ref((by_hash + 1U) % 4));
  a.affinity = 7;
  CHECK(served_by(r, a) == a.home.id);
}

TEST_CASE("home: a worker that has more than its share to do is left for the one with least") {
  for (const double bound : {1.0, 1.5, 100.0}) {
    CAPTURE(bound);
    Setup s = setup_of(4, WorkerKind::http, 64);
    s.policy.affinity_bound = bound;
    Rig r(s);
    std::vector<Ticket> held;
    for (int i = 0; i < 32; ++i) held.push_back(r.grant(back_to(r.ref(2))));
    const std::uint32_t at_home = r.status(2).in_flight;
    CHECK(at_home == (bound < 1.2 ? 8 : bound < 2 ? 12 : 32));
    if (bound > 2) continue;
    for (const std::size_t other : {0U, 1U, 3U}) CHECK(r.status(other).in_flight >= (32 - at_home) / 3);
  }
}

TEST_CASE("home: the share of a slow worker is smaller by as much as it is slow") {
  Setup s = setup_of(2, WorkerKind::http, 64);
  Rig r(s);
  for (int i = 0; i < 20; ++i) {  // one second beside 50 ms
    Ticket fast = r.grant(back_to(r.ref(0)));
    Ticket slow = r.grant(back_to(r.ref(1)));
    r.pass(50ms);
    fast.finish(Outcome::success, r.now());
    r.pass(950ms);
    slow.finish(Outcome::success, r.now());
    r.d.pump(r.now());
  }
  REQUIRE(r.status(1).slowness > 4 * r.status(0).slowness);
  std::vector<Ticket> held;
  for (int i = 0; i < 24; ++i) held.push_back(r.grant(back_to(r.ref(1))));
  CHECK(r.status(1).in_flight >= 1);
  CHECK(r.status(1).in_flight <= 6);
}

TEST_CASE("home: full, excluded, drained, down and hot ones are passed by") {
  Rig r(setup_of(3, WorkerKind::http, 2));
  const BackendRef at = r.ref(1);
  Ask again = back_to(at);
  again.excluded = BackendSet{1} << at.id;
  again.retry = true;
  REQUIRE(r.d.try_retry(RequestClass::other, r.now()));
  CHECK(served_by(r, again) != at.id);
  r.d.drain_backend(at, true, r.now());
  CHECK(served_by(r, back_to(at)) != at.id);
  r.d.drain_backend(at, false, r.now());
  CHECK(served_by(r, back_to(at)) == at.id);
  r.d.set_throttle({}, std::array{at}, r.now());
  CHECK(served_by(r, back_to(at)) != at.id);
  r.d.set_throttle({}, {}, r.now());
  r.probe(1, ProbeResult::refused);
  CHECK(served_by(r, back_to(at)) != at.id);
  r.check();
}

TEST_CASE("home: nobody waits for it, and who waits takes what becomes free") {
  Rig r(setup_of(2, WorkerKind::http, 1));
  std::vector<Ticket> held;
  held.push_back(r.grant(back_to(r.ref(0))));
  held.push_back(r.grant(back_to(r.ref(0))));
  CHECK(held[1].backend().ref.id == r.ref(1).id);
  Client waiting;
  CHECK(r.ask(waiting, back_to(r.ref(0))) == Verdict::waiting);
  held[1].finish(Outcome::success, r.now());
  r.loop.port.deliver();
  REQUIRE(waiting.told == 1);
  CHECK(waiting.take().backend().ref.id == r.ref(1).id);
  r.check();
}

TEST_CASE("home: a reload keeps it; a worker that has left, or another one in its place, is nobody's") {
  Rig r(setup_of(3));
  const BackendRef at = r.ref(1);
  r.setup.policy.affinity_bound = 2;
  r.setup.backends[2].weight = 2;
  REQUIRE(r.d.configure(r.setup, r.now()).has_value());
  for (int i = 0; i < 8; ++i) CHECK(served_by(r, back_to(at)) == at.id);
  Setup fewer = r.setup;
  fewer.backends.erase(fewer.backends.begin() + 1);
  fewer.pools[0].backends = {0, 1};
  REQUIRE(r.d.configure(fewer, r.now()).has_value());
  CHECK(served_by(r, back_to(at)) != at.id);
  r.setup.backends[1].address = "127.0.0.1:4001";
  REQUIRE(r.d.configure(r.setup, r.now()).has_value());
  r.probe(1, ProbeResult::ok);
  REQUIRE(r.ref(1) != at);
  std::set<BackendId> used;
  std::vector<Ticket> held;
  for (int i = 0; i < 3; ++i) held.push_back(r.grant(back_to(at)));  // as any other: one for each
  for (const Ticket& t : held) used.insert(t.backend().ref.id);
  CHECK(used.size() >= 2);
  r.check();
}

TEST_CASE("draining: who was in line before it is let in, nobody else") {
  Rig r(setup_of(1));
  r.d.set_draining(true);
  Client late;
  CHECK(r.ask(late, of(7)) == Verdict::refused);
  Ask a = of(7);
  a.in_line = true;
  CHECK(r.grant(a).backend().name == "b0");
}

}  // namespace perigee::dispatch
