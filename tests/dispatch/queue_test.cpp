// Who waits and for how long: tenants' turns, ageing, deadlines, as rules and in virtual time.
#include "rig.h"

#include <algorithm>
#include <map>
#include <queue>

#include "perigee/base/random.h"
#include "perigee/base/sanitizer.h"

namespace perigee::dispatch::test {
namespace {

Ask of_tenant(std::uint64_t tenant, double weight = 1.0) {
  Ask a;
  a.tenant = tenant;
  a.tenant_weight = weight;
  a.queue_wait = 1h;
  return a;
}
bool granted(const Client& c) { return c.state() == Waiter::State::granted; }

// Sixteen servers behind the dispatcher, exponential work, Poisson arrivals of several kinds.
struct Kind {
  double rate = 0;  // a second
  Ask ask;
  Duration deadline = Duration::max();  // of the client, from arrival; told where `tells`
  bool tells = true;
};
struct Seen {
  std::vector<double> whole;  // arrival → end of those who were served, seconds
  std::vector<double> waited;
  std::uint64_t good = 0;     // within the deadline
  std::uint64_t refused_at_door = 0;
  std::uint64_t refused_later = 0;
  [[nodiscard]] double p95() {
    if (whole.empty()) return 0;
    const auto at = whole.begin() + static_cast<std::ptrdiff_t>(0.95 * static_cast<double>(whole.size() - 1));
    std::nth_element(whole.begin(), at, whole.end());
    return *at;
  }
};

class Servers {
 public:
  Servers(Setup setup, std::uint64_t seed, double work = 0.1) : rig_(std::move(setup)), rng_(seed), work_(work) {}

  // A client of kind `k` comes now.
  void arrive(const std::vector<Kind>& kinds, std::size_t k) {
    clients_.push_back(std::make_unique<One>());
    One& one = *clients_.back();
    one.kind = k;
    one.arrived = now();
    Ask a = kinds[k].ask;
    if (kinds[k].deadline != Duration::max()) {
      one.deadline = now() + kinds[k].deadline;
      if (kinds[k].tells) a.deadline = one.deadline;
    }
    const Verdict v = rig_.ask(one.client, a);
    if (v == Verdict::granted) start(one);
    else if (v == Verdict::waiting) waiting_.push_back(&one);
    else if (measuring_) ++seen_[k].refused_at_door;
  }

  std::map<std::size_t, Seen>& run(const std::vector<Kind>& kinds, Duration length, Duration warm_up) {
    const TimePoint end = now() + length;
    const TimePoint measured = now() + warm_up;
    std::vector<TimePoint> next;
    for (const Kind& kind : kinds) next.push_back(kind.rate > 0 ? now() + gap(kind) : kNever);
    while (now() < end) {
      TimePoint at = end;
      for (const TimePoint n : next) at = std::min(at, n);
      if (!running_.empty()) at = std::min(at, running_.top().end);
      rig_.pass(std::max(at - now(), Duration::zero()));
      measuring_ = now() >= measured;
      while (!running_.empty() && running_.top().end <= now()) finish();
      for (std::size_t k = 0; k < kinds.size(); ++k) {
        if (next[k] > now()) continue;
        arrive(kinds, k);
        next[k] = now() + gap(kinds[k]);
      }
      deliver();
    }
    rig_.check();
    return seen_;
  }
  [[nodiscard]] TimePoint now() const { return rig_.now(); }
  Rig& rig() { return rig_; }

 private:
  struct One {
    Client client;
    Ticket ticket;
    std::size_t kind = 0;
    TimePoint arrived{};
    TimePoint deadline = kNever;
  };
  struct Running {
    TimePoint end;
    One* one;
    bool operator>(const Running& o) const { return end > o.end; }
  };
  Duration gap(const Kind& kind) { return from_seconds(rng_.exponential(1.0 / kind.rate)); }
  void start(One& one) {
    one.ticket = one.client.take();
    if (measuring_) seen_[one.kind].waited.push_back(to_seconds(now() - one.arrived));
    running_.push({now() + from_seconds(rng_.exponential(work_)), &one});
  }
  void finish() {
    One& one = *running_.top().one;
    running_.pop();
    one.ticket.finish(Outcome::success, now());
    if (measuring_) {
      seen_[one.kind].whole.push_back(to_seconds(now() - one.arrived));
      if (now() <= one.deadline) ++seen_[one.kind].good;
    }
    deliver();
  }
  void deliver() {
    if (rig_.loop.soons + rig_.loop.wakes == told_) return;
    told_ = rig_.loop.soons + rig_.loop.wakes;
    rig_.loop.port.deliver();
    std::erase_if(waiting_, [&](One* one) {
      if (one->client.state() == Waiter::State::waiting) return false;
      if (granted(one->client)) start(*one);
      else if (measuring_) ++seen_[one->kind].refused_later;
      return true;
    });
  }

  Rig rig_;
  Rng rng_;
  double work_;
  bool measuring_ = false;
  int told_ = 0;
  std::vector<std::unique_ptr<One>> clients_;
  std::vector<One*> waiting_;
  std::priority_queue<Running, std::vector<Running>, std::greater<>> running_;
  std::map<std::size_t, Seen> seen_;
};

Setup sixteen() { return setup_of(1, WorkerKind::http, 16); }

}  // namespace

// --- tenants ---------------------------------------------------------------------------------------------------

TEST_CASE("the first request of a tenant is granted next, however many of another wait") {
  Rig r(setup_of(1, WorkerKind::http, 1));
  Ticket held = r.grant(of_tenant(1));
  std::deque<Client> flood;
  for (int i = 0; i < 1000; ++i) r.ask(flood.emplace_back(), of_tenant(1));
  Client other;
  REQUIRE(r.ask(other, of_tenant(2)) == Verdict::waiting);
  // Both begin at nothing, and the older one goes first.
  for (int i = 0; i < 2 && !granted(other); ++i) {
    held.finish(Outcome::success, r.now());
    r.loop.port.deliver();
    if (!granted(other)) held = std::ranges::find_if(flood, granted)->take();
  }
  CHECK(granted(other));
  r.check();
}

TEST_CASE("a tenant that fills the queue does not close the door to others") {
  Setup s = setup_of(1, WorkerKind::http, 1);
  s.policy.queue = {.entries = 10, .extra_entries = 4};
  for (const bool turns : {true, false}) {
    CAPTURE(turns);
    s.policy.tenant_turns = turns;
    Rig r(s);
    Ticket held = r.grant(of_tenant(1));
    std::deque<Client> flood(12);
    for (std::size_t i = 0; i < flood.size(); ++i) {
      CHECK(r.ask(flood[i], of_tenant(1)) == (i < 10 ? Verdict::waiting : Verdict::refused));
    }
    Client second;
    Client third;
    Client fourth;
    CHECK(r.ask(second, of_tenant(2)) == (turns ? Verdict::waiting : Verdict::refused));
    Client again;
    CHECK(r.ask(again, of_tenant(2)) == Verdict::refused);  // its first only
    CHECK(r.ask(third, of_tenant(3)) == (turns ? Verdict::waiting : Verdict::refused));
    CHECK(r.ask(fourth, of_tenant(4)) == Verdict::refused);  // half of what is kept for important ones
    r.check();
  }
}

TEST_CASE("the estimate knows turns: a flood does not make another's first request hopeless") {
  Rig r(setup_of(1, WorkerKind::http, 1));
  std::deque<Client> flood;
  Ticket held = r.grant(of_tenant(1));
  for (int i = 0; i < 300; ++i) r.ask(flood.emplace_back(), of_tenant(1));
  // Ten a second are granted: 270 behind each other take 27 s.
  for (std::size_t i = 0; i < 30; ++i) {
    r.pass(100ms);
    held.finish(Outcome::success, r.now());
    r.loop.port.deliver();
    held = flood[i].take();
  }
  Ask impatient = of_tenant(1);
  impatient.queue_wait = 10s;
  Client same;
  CHECK(r.ask(same, impatient) == Verdict::refused);
  CHECK(same.refusal().reason == Refused::queue_timeout);
  CHECK(same.refusal().retry_after_s >= 20);
  impatient.tenant = 2;
  Client other;
  CHECK(r.ask(other, impatient) == Verdict::waiting);
  CHECK(r.d.snapshot().pools[0].tenants_waiting == 2);
}

TEST_CASE("what was generated counts: a tenant of long answers waits for one of short ones") {
  Rig r(setup_of(1, WorkerKind::http, 1));
  Ask chat = of_tenant(1);
  chat.request_class = RequestClass::chat;
  chat.streamed = true;
  chat.body_bytes = 400;
  std::deque<Client> clients;
  Ticket held = r.grant(of_tenant(9));
  for (std::uint64_t i = 0; i < 60; ++i) {
    chat.tenant = 1 + i % 2;
    r.ask(clients.emplace_back(), chat);
  }
  // 100 in and 900 out beside 100 in and 100 out: 1900 to 300.
  std::array<int, 2> served{};
  std::uint32_t tokens = 0;
  for (int i = 0; i < 29; ++i) {
    held.finish(Outcome::success, r.now(), Duration::zero(), tokens);
    r.loop.port.deliver();
    const auto next = std::ranges::find_if(clients, granted);
    REQUIRE(next != clients.end());
    const auto whose = static_cast<std::size_t>(next - clients.begin()) % 2;
    ++served[whose];
    tokens = whose == 0 ? 900 : 100;
    held = next->take();
    held.first_event(r.now());
  }
  CHECK(served[0] >= 3);
  CHECK(served[0] <= 5);
  r.check();
}

// Alone: 30 % of its half. Beside it one that has ten thousand waiting and sends what all servers can take.
TEST_CASE("one tenant flooding: another one's p95 is at most 1.2 of its value alone") {
  Setup s = sixteen();
  s.policy.queue.entries = 30'000;
  std::vector<Kind> kinds(2);
  kinds[0] = {24, of_tenant(2)};
  const Duration length = kFastBuild ? 300s : 60s;
  Servers alone(s, 42);
  const double p95_alone = alone.run(kinds, length, 10s)[0].p95();
  kinds[1] = {160, of_tenant(1)};
  Servers flooded(s, 42);
  for (int i = 0; i < 10'000; ++i) flooded.arrive(kinds, 1);
  const double p95 = flooded.run(kinds, length, 10s)[0].p95();
  MESSAGE("p95 alone " << p95_alone << " s, beside the flood " << p95 << " s");
  CHECK(p95 <= 1.2 * p95_alone);
}

// --- shares of a backend, batches, places ------------------------------------------------------------------------

TEST_CASE("floors: ten slots, shares 0.6 and 0.4; idle shares are borrowed, and a floor is never denied") {
  Setup s = setup_of(1, WorkerKind::http, 10);
  s.policy.floors[static_cast<std::size_t>(RequestClass::chat)] = 0.6;
  s.policy.floors[static_cast<std::size_t>(RequestClass::search)] = 0.4;
  Rig r(s);
  Ask a;
  a.request_class = RequestClass::chat;
  Ask b;
  b.request_class = RequestClass::search;
  std::vector<Ticket> chats;
  for (int i = 0; i < 10; ++i) chats.push_back(r.grant(a));
  std::vector<Ticket> searches;
  for (int i = 0; i < 4; ++i) searches.push_back(r.grant(b));
  Client fifth;
  CHECK(r.ask(fifth, b) == Verdict::waiting);
  Client eleventh;
  CHECK(r.ask(eleventh, a) == Verdict::waiting);
  r.d.cancel(fifth, Cancelled::client_gone, r.now());
  r.check();
  // 14 run: the next chat waits until fewer than 6 chats run, or fewer than 10 of all.
  for (int i = 0; i < 4; ++i) {
    chats.back().finish(Outcome::success, r.now());
    chats.pop_back();
    r.loop.port.deliver();
    CHECK_FALSE(granted(eleventh));
  }
  chats.back().finish(Outcome::success, r.now());  // 5 chats and 4 searches
  r.loop.port.deliver();
  CHECK(granted(eleventh));
  CHECK(r.status(0).in_flight == 10);
  r.check();
}

TEST_CASE("a floor does not break the pace, and starts as soon as the pace allows") {
  Setup s = setup_of(1, WorkerKind::orbit);
  s.policy.head_lag.start_pace = 10;
  s.policy.head_lag.start_slots = 4;
  s.policy.steered = false;
  s.policy.floors[static_cast<std::size_t>(RequestClass::search)] = 0.5;
  Rig r(s);
  std::vector<Ticket> chats;
  for (int i = 0; i < 3; ++i) chats.push_back(r.grant());
  r.pass(100ms);
  chats.push_back(r.grant());
  Ask search;
  search.request_class = RequestClass::search;
  Client waits;
  REQUIRE(r.ask(waits, search) == Verdict::waiting);
  r.check();
  r.pass(110ms);
  r.loop.port.deliver();
  CHECK(granted(waits));
  r.check();
}

TEST_CASE("ceilings: a class may fill its part of a backend and no more") {
  Setup s = setup_of(2, WorkerKind::http, 8);
  s.policy.ceilings[static_cast<std::size_t>(RequestClass::chat)] = 3;
  Rig r(s);
  Ask chat;
  chat.request_class = RequestClass::chat;
  std::vector<Ticket> held;
  for (int i = 0; i < 6; ++i) held.push_back(r.grant(chat));
  Client seventh;
  CHECK(r.ask(seventh, chat) == Verdict::waiting);
  (void)r.grant();
  r.check();
  held.pop_back();
  r.loop.port.deliver();
  CHECK(granted(seventh));
  for (std::size_t i = 0; i < 2; ++i) CHECK(r.status(i).in_flight == 3);
}

TEST_CASE("batch work: nobody starts until ten wait or the oldest has waited for a tenth of a second") {
  Setup s = setup_of(1, WorkerKind::http, 16);
  s.pools[0].batch = true;
  Rig r(s);
  std::deque<Client> clients;
  const auto running = [&] { return r.status(0).in_flight; };
  for (int i = 0; i < 9; ++i) CHECK(r.ask(clients.emplace_back()) == Verdict::waiting);
  r.pass(90ms);
  CHECK(running() == 0);
  r.check();
  r.ask(clients.emplace_back());
  CHECK(running() == 10);
  for (int i = 0; i < 3; ++i) r.ask(clients.emplace_back());
  r.pass(99ms);
  CHECK(running() == 10);
  r.check();
  r.pass(2ms);
  CHECK(running() == 13);
  // What does not fit belongs to its batch still, and goes when there is room.
  for (int i = 0; i < 12; ++i) r.ask(clients.emplace_back());
  CHECK(running() == 16);
  r.loop.port.deliver();
  for (Client& c : clients) {
    if (granted(c)) c.take().finish(Outcome::success, r.now());
  }
  CHECK(running() == 7);
  r.check();
  r.pass(101ms);
  CHECK(running() == 9);
  // Retries and what is critical wait for no batch.
  Ask urgent;
  urgent.critical_lane = true;
  (void)r.grant(urgent);
}

TEST_CASE("the place in the queue: its own tenant's before it, the others' turns, and the drain rate's time") {
  Rig r(setup_of(1, WorkerKind::http, 1));
  std::deque<Client> flood;
  Ticket held = r.grant(of_tenant(1));
  for (int i = 0; i < 200; ++i) r.ask(flood.emplace_back(), of_tenant(1));
  CHECK(r.d.place_of(flood[0], r.now()).position == 1);
  CHECK(r.d.place_of(flood[199], r.now()).position == 200);
  CHECK_FALSE(r.d.place_of(flood[199], r.now()).wait);  // nothing was measured
  for (std::size_t i = 0; i < 25; ++i) {
    r.pass(100ms);
    held.finish(Outcome::success, r.now());
    r.loop.port.deliver();
    held = flood[i].take();
  }
  QueuePlace last = r.d.place_of(flood[199], r.now());
  CHECK(last.position == 175);
  REQUIRE(last.wait);
  CHECK(to_seconds(*last.wait) == doctest::Approx(17.5).epsilon(0.1));
  Client other;
  r.ask(other, of_tenant(2));
  CHECK(r.d.place_of(other, r.now()).position == 2);
  Ask high;
  high.priority = Priority::high;
  Client important;
  r.ask(important, high);
  CHECK(r.d.place_of(important, r.now()).position == 1);
  CHECK(r.d.place_of(other, r.now()).position == 3);
  r.d.cancel(other, Cancelled::client_gone, r.now());
  CHECK_FALSE(r.d.place_of(other, r.now()).waits);
  CHECK(r.d.snapshot().pools[0].wait_seconds[1] >= 0);
}

// --- ageing ----------------------------------------------------------------------------------------------------

// The flood stands at four seconds at most, so at half of its ten low is the oldest of all: it goes with the next turn that
// age has. A flood of normal has aged itself at each of its grants, by priority as it is written.
TEST_CASE("endless better priority at full load: low starts at half of its longest wait, within the turns that age has") {
  Setup s = setup_of(1, WorkerKind::http, 4);
  for (const Priority flood : {Priority::high, Priority::normal}) {
    CAPTURE(flood);
    std::vector<Kind> kinds(2);
    kinds[0].rate = 44;  // 4 servers × 100 ms: ten percent more than there is
    kinds[0].ask.priority = flood;
    kinds[0].ask.queue_wait = 4s;
    kinds[1].rate = 0.5;
    kinds[1].ask.priority = Priority::low;
    kinds[1].ask.queue_wait = 10s;
    Servers servers(s, 1);
    Seen& low = servers.run(kinds, 150s, 20s)[1];
    REQUIRE(low.waited.size() > 40);
    CHECK(low.refused_later == 0);
    CHECK(*std::ranges::max_element(low.waited) <= 6.5);
    CHECK(*std::ranges::max_element(low.waited) >= 5.0);  // by age, not because the flood left room
  }
}

// --- deadlines -------------------------------------------------------------------------------------------------

TEST_CASE("a deadline that cannot be met is refused at the door, free place or not; unknown never refuses") {
  Setup s = setup_of(1, WorkerKind::http, 2);
  s.policy.deadlines = true;
  Rig r(s);
  Ask a;
  a.deadline = r.now() + 150ms;
  for (int i = 0; i < 20; ++i) {
    a.deadline = r.now() + 150ms;
    Ticket t = r.grant(a);
    r.pass(200ms);
    t.finish(Outcome::success, r.now());
  }
  // Now the usual time to first event is known: 200 ms.
  a.deadline = r.now() + 150ms;
  Client hopeless;
  CHECK(r.ask(hopeless, a) == Verdict::refused);
  CHECK(hopeless.refusal().reason == Refused::queue_timeout);
  CHECK(hopeless.refusal().at_door);
  a.deadline = r.now() + 250ms;
  (void)r.grant(a);
  // It is the class's own: another class is not known yet.
  a.request_class = RequestClass::search;
  a.deadline = r.now() + 150ms;
  (void)r.grant(a);
  // Nobody was served for a while: the estimate does not keep the door closed by itself.
  a.request_class = RequestClass::other;
  r.pass(6s);
  a.deadline = r.now() + 150ms;
  (void)r.grant(a);
  a.deadline = r.now();
  Client late;
  CHECK(r.ask(late, a) == Verdict::refused);
  r.check();
}

TEST_CASE("a deadline that has become hopeless while waiting is told at dequeue, and the slot goes on") {
  Setup s = setup_of(1, WorkerKind::http, 1);
  s.policy.deadlines = true;
  Rig r(s);
  for (int i = 0; i < 20; ++i) {
    Ticket t = r.grant();
    r.pass(200ms);
    t.finish(Outcome::success, r.now());
  }
  Ticket held = r.grant();
  Client hasty;
  Client patient;
  Ask a;
  a.deadline = r.now() + 500ms;
  REQUIRE(r.ask(hasty, a) == Verdict::waiting);
  a.deadline = kNever;
  REQUIRE(r.ask(patient, a) == Verdict::waiting);
  r.pass(400ms);  // 100 ms are left, 200 ms are needed
  held.finish(Outcome::success, r.now());
  r.loop.port.deliver();
  CHECK(hasty.state() == Waiter::State::refused);
  CHECK(hasty.refusal().reason == Refused::queue_timeout);
  CHECK_FALSE(hasty.refusal().at_door);
  CHECK(granted(patient));
}

TEST_CASE("the critical lane knows no deadline, at the door and at dequeue") {
  Setup s = setup_of(1);
  s.policy.critical_slots = 1;
  Rig r(s);
  Ask a;
  a.critical_lane = true;
  Ticket held = r.grant(a);
  a.deadline = r.now() + 10ms;
  Client late;
  REQUIRE(r.ask(late, a) == Verdict::waiting);
  r.pass(50ms);
  held.finish(Outcome::success, r.now());
  r.loop.port.deliver();
  CHECK(granted(late));
}

// 16 servers × 100 ms, clients that give up after 2 s: good answers a second of 160 possible.
TEST_CASE("the law of admission keeps a long queue useful") {
  struct Row {
    const char* what;
    bool tells;
    std::uint32_t entries;
    std::array<double, 3> expected;  // at 0.9, 1.2 and 2.0 of capacity
  };
  constexpr std::array<Row, 3> kRows = {{{"first come, first served", false, 1000, {143.9, 0, 0}},
                                         {"deadlines known", true, 5000, {143.9, 149.5, 148.4}},
                                         {"two waiting for each server", false, 32, {144.2, 160.3, 160.8}}}};
  constexpr std::array<double, 3> kLoads = {0.9, 1.2, 2.0};
  const Duration length = kFastBuild ? 600s : 120s;
  for (const Row& row : kRows) {
    for (std::size_t i = 0; i < kLoads.size(); ++i) {
      Setup s = sixteen();
      s.policy.deadlines = true;
      s.policy.queue = {.entries = row.entries, .extra_entries = 0};
      std::vector<Kind> kinds(1);
      kinds[0].rate = 160 * kLoads[i];
      kinds[0].deadline = 2s;
      kinds[0].tells = row.tells;
      kinds[0].ask.queue_wait = 1h;
      const Duration warm_up = 60s;
      Servers servers(s, 42);
      const Seen& seen = servers.run(kinds, length, warm_up)[0];
      const double good = static_cast<double>(seen.good) / to_seconds(length - warm_up);
      MESSAGE(std::string(row.what) << ", load " << kLoads[i] << ": good " << good << "/s");
      if (row.expected[i] == 0) CHECK(good < 10);
      else CHECK(good >= 0.97 * row.expected[i]);
    }
  }
}

// --- bytes and estimates -----------------------------------------------------------------------------------------

TEST_CASE("of the bytes a tenant may have as much as is still free") {
  Setup s = setup_of(1, WorkerKind::http, 1);
  s.policy.queue.body_bytes = 1200;
  for (const bool turns : {true, false}) {
    CAPTURE(turns);
    s.policy.tenant_turns = turns;
    Rig r(s);
    Ticket held = r.grant(of_tenant(9));
    const auto ask = [&](Client& c, std::uint64_t tenant, std::uint64_t bytes) {
      Ask a = of_tenant(tenant);
      a.body_bytes = bytes;
      return r.ask(c, a);
    };
    std::deque<Client> flood(13);
    int taken = 0;
    for (Client& c : flood) taken += ask(c, 1, 100) == Verdict::waiting ? 1 : 0;
    CHECK(taken == (turns ? 6 : 12));  // half, alone
    std::deque<Client> second(13);
    taken = 0;
    for (Client& c : second) taken += ask(c, 2, 100) == Verdict::waiting ? 1 : 0;
    CHECK(taken == (turns ? 3 : 0));
    Client third;
    CHECK(ask(third, 3, 300) == (turns ? Verdict::waiting : Verdict::refused));
    Client bodyless;
    CHECK(ask(bodyless, 1, 0) == Verdict::waiting);
    if (turns) {
      // What leaves the queue is free again: for its tenant too.
      for (int i = 0; i < 4; ++i) r.d.cancel(second[static_cast<std::size_t>(i)], Cancelled::client_gone, r.now());
      Client again;
      CHECK(ask(again, 2, 100) == Verdict::waiting);
    }
    r.check();
  }
}

TEST_CASE("low priority is told at the door how slowly it moves beside what overtakes it") {
  Setup s = setup_of(1, WorkerKind::http, 8);
  std::vector<Kind> kinds(2);
  kinds[0].rate = 76;  // 8 servers × 100 ms: 80 a second
  kinds[0].ask.priority = Priority::high;
  kinds[0].ask.queue_wait = 20s;
  kinds[1].rate = 30;
  kinds[1].ask.priority = Priority::low;
  kinds[1].ask.queue_wait = 20s;
  Servers servers(s, 42);
  const Seen& low = servers.run(kinds, 160s, 60s)[1];
  MESSAGE("low: started " << low.waited.size() << ", refused at the door " << low.refused_at_door << ", dropped after waiting "
                          << low.refused_later);
  REQUIRE(low.waited.size() > 200);  // about four a second
  // By the pool's rate 1600 might wait, and nearly all that were let in would be dropped after 20 s.
  CHECK(low.refused_at_door > 1500);
  CHECK(low.refused_later < low.waited.size() / 2);
}

}  // namespace perigee::dispatch::test
