#include "perigee/admission/fair_turns.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <queue>
#include <string>
#include <vector>

#include "perigee/admission/lanes.h"
#include "perigee/base/random.h"

using namespace perigee;
using namespace perigee::admission;
using namespace std::chrono_literals;

namespace {

constexpr TimePoint kStart{1000s};

struct One : Waiting {
  explicit One(std::uint64_t whose, double weight = 1.0, RequestClass c = RequestClass::chat,
               Priority p = Priority::normal) {
    tenant = whose;
    tenant_weight = weight;
    request_class = c;
    priority = p;
  }
};

struct Lanes {
  explicit Lanes(std::size_t most = kMaxAccounts, std::size_t lines = kMaxLines) : table(most, lines) {}
  ~Lanes() {
    while (Waiting* w = first()) queue.remove(*w);
  }
  Waiting* first() const { return queue.best(now, [](Waiting&) { return true; }); }
  One& push(std::uint64_t whose, double weight = 1.0, RequestClass c = RequestClass::chat, std::uint64_t bytes = 0) {
    One& one = ones.emplace_back(whose, weight, c);
    one.body_bytes = bytes;
    queue.push(one, now);
    return one;
  }
  // Grants the next one, and says whose it was.
  std::uint64_t grant(std::uint64_t bytes = 4000) {
    Waiting& w = *first();
    const std::uint64_t whose = w.tenant;
    accounts.push_back(shares.charge(w.tenant, w.tenant_weight, w.request_class, bytes, now));
    queue.remove(w);
    return whose;
  }
  void settle_all(double tokens = 0) {
    for (const std::uint16_t a : accounts) PoolShares::settle(table, a, RequestClass::chat, tokens, true);
    accounts.clear();
  }
  void check() const {
    if (const char* wrong = queue.check(); *wrong != 0) FAIL(std::string(wrong));
  }

  TimePoint now = kStart;
  QueueBudget budget{{.entries = 1'000'000, .extra_entries = 0, .body_bytes = ~std::uint64_t{0}}};
  Accounts table;
  PoolShares shares{table};
  LaneQueue queue{budget, &shares};
  std::deque<One> ones;
  std::vector<std::uint16_t> accounts;
};

}  // namespace

TEST_CASE("ten thousand of one tenant do not stand before another's first") {
  Lanes l;
  for (int i = 0; i < 10'000; ++i) l.push(1);
  l.grant();
  l.push(2);
  // It comes in at the other's level, and the older one goes first: one grant is its share of waiting.
  CHECK(l.grant() == 1);
  CHECK(l.grant() == 2);
  // From then on they take turns.
  for (int i = 0; i < 3; ++i) l.push(2);
  std::map<std::uint64_t, int> granted;
  for (int i = 0; i < 6; ++i) ++granted[l.grant()];
  CHECK(granted[1] == 3);
  CHECK(granted[2] == 3);
  l.check();
  l.settle_all();
}

TEST_CASE("one tenant alone, or turns switched off: arrival order, whatever it was charged") {
  for (const bool on : {true, false}) {
    Lanes l;
    l.shares.set(on);
    std::vector<Waiting*> expected;
    for (std::uint64_t i = 0; i < 100; ++i) {
      const RequestClass c = i % 3 == 0 ? RequestClass::search : RequestClass::chat;
      expected.push_back(&l.push(on ? 7 : i % 5, 1.0, c));
    }
    for (Waiting* w : expected) {
      REQUIRE(l.first() == w);
      l.grant(1000);
    }
    l.settle_all(50);
  }
}

TEST_CASE("the counter is the pool's: who floods one class waits in the others") {
  Lanes l;
  l.push(1);
  l.push(2, 1.0, RequestClass::search);
  for (int i = 0; i < 5; ++i) l.push(1);
  CHECK(l.grant() == 1);  // the older one
  l.push(1, 1.0, RequestClass::files);
  CHECK(l.grant() == 2);
  l.settle_all();
}

TEST_CASE("weights: three times the weight, three times the work") {
  Lanes l;
  for (int i = 0; i < 400; ++i) {
    l.push(1, 1.0);
    l.push(2, 3.0);
  }
  std::map<std::uint64_t, int> granted;
  for (int i = 0; i < 400; ++i) ++granted[l.grant()];
  CHECK(granted[2] == doctest::Approx(300).epsilon(0.01));
  l.settle_all();
}

TEST_CASE("idle time saves up nothing, and ten minutes are forgotten") {
  Lanes l;
  for (int i = 0; i < 50; ++i) l.push(1);
  for (int i = 0; i < 20; ++i) l.grant();
  // Tenant 2 comes late: it does not get twenty in a row.
  for (int i = 0; i < 20; ++i) l.push(2);
  std::map<std::uint64_t, int> granted;
  for (int i = 0; i < 20; ++i) ++granted[l.grant()];
  CHECK(granted[2] >= 10);
  CHECK(granted[2] <= 11);
  l.settle_all();
  while (l.first() != nullptr) l.grant();
  l.settle_all();
  const double before = l.table.obtain(1, 1, l.now)->served;
  CHECK(before > 0);
  l.now += 9min;
  CHECK(l.table.obtain(1, 1, l.now)->served == before);
  l.now += 1min;
  CHECK(l.table.obtain(1, 1, l.now)->served == 0);
}

TEST_CASE("what is granted at the door while others wait is nobody's turn, and nobody's level") {
  Lanes l;
  for (int i = 0; i < 50; ++i) l.push(1);
  for (int i = 0; i < 20; ++i) l.grant();
  l.accounts.push_back(l.shares.charge(9, 1.0, RequestClass::chat, 4000, l.now));
  // The first of its lane, so that only the level says what it missed: nothing.
  for (int i = 0; i < 20; ++i) l.push(2, 1.0, RequestClass::search);
  std::map<std::uint64_t, int> granted;
  for (int i = 0; i < 20; ++i) ++granted[l.grant()];
  CHECK(granted[2] >= 9);
  CHECK(granted[2] <= 11);
  l.settle_all();
}

TEST_CASE("many long streams at once: the usual output is charged before it is there") {
  Lanes l;
  // Both learn what is usual: tenant 1 has long answers, tenant 2 short ones.
  for (const std::uint64_t whose : {1U, 2U}) {
    l.push(whose);
    l.push(9);
    l.grant();
    l.settle_all(whose == 1 ? 1000 : 10);
    while (l.first() != nullptr) l.grant();
    l.settle_all();
  }
  for (int i = 0; i < 100; ++i) {
    l.push(1);
    l.push(2);
  }
  std::map<std::uint64_t, int> granted;
  for (int i = 0; i < 60; ++i) ++granted[l.grant(400)];
  // 100 + 2·1000 beside 100 + 2·10, before a single one has ended.
  CHECK(granted[1] <= 6);
  l.settle_all(500);
}

TEST_CASE("the table is bounded: the longest idle makes room, and where nobody is idle the rest share") {
  Lanes l(4, 4);
  for (std::uint64_t t = 1; t <= 4; ++t) l.push(t);
  One& fifth = l.push(5);
  One& sixth = l.push(6);
  CHECK(fifth.line == sixth.line);
  CHECK(fifth.line != nullptr);
  l.check();
  std::map<std::uint64_t, int> granted;
  while (l.first() != nullptr) ++granted[l.grant()];
  CHECK(granted.size() == 6);
  l.settle_all();
  CHECK(l.table.find(1, 1) != nullptr);
  One& seventh = l.push(7);
  CHECK(l.table.find(1, 1) == nullptr);  // idle first
  CHECK(l.table.find(1, 7) != nullptr);
  l.queue.remove(seventh);
  // Who has a ticket out is not idle.
  l.push(8);
  l.grant();
  for (std::uint64_t t = 10; t <= 20; ++t) l.queue.remove(l.push(t));
  CHECK(l.table.find(1, 8) != nullptr);
  l.settle_all();
}

TEST_CASE("entries ahead: its own, and each other tenant's share meanwhile") {
  Lanes l;
  const auto ahead = [&](std::uint64_t whose, double weight = 1.0) {
    const std::uint64_t own = l.shares.own_waiting(whose, Priority::normal);
    return l.shares.fair_ahead(own, weight, Priority::normal, own != 0);
  };
  CHECK(ahead(1) == 0);
  for (int i = 0; i < 100; ++i) l.push(1);
  CHECK(ahead(1) == 100);
  CHECK(ahead(2) == 1);
  CHECK(ahead(2, 0.25) == 4);
  for (int i = 0; i < 10; ++i) l.push(2);
  CHECK(ahead(1) == 201);  // more than wait: the caller takes the lesser
  CHECK(ahead(2) == 21);
  CHECK(ahead(3) == 2);
}

// The figures of the algorithm's reference: four slots; A 1000 in, 400 out, 8.5 s; B 50 in, 40 out, 0.825 s.
TEST_CASE("two tenants that stay backlogged get the same, and a third one joins at their level") {
  struct Running {
    TimePoint end;
    std::uint16_t account;
    std::uint64_t whose;
    bool operator>(const Running& o) const { return end > o.end; }
  };
  struct Kind {
    std::uint64_t bytes;
    double tokens;
    Duration time;
  };
  const std::map<std::uint64_t, Kind> kinds = {{1, {4000, 400, 8500ms}}, {2, {200, 40, 825ms}}, {3, {200, 40, 825ms}}};
  Lanes l;
  std::map<std::uint64_t, double> served;
  double gap = 0;
  double joined_at = 0;
  std::priority_queue<Running, std::vector<Running>, std::greater<>> running;
  const auto keep_two = [&](std::uint64_t whose) {
    while (l.shares.own_waiting(whose, Priority::normal) < 2) {
      l.push(whose, 1.0, RequestClass::chat, kinds.at(whose).bytes);
    }
  };
  const TimePoint end = kStart + 3600s;
  bool third = false;
  double at_half_1 = 0;
  double at_half_2 = 0;
  while (l.now < end) {
    keep_two(1);
    keep_two(2);
    if (!third && l.now >= kStart + 1800s) {
      third = true;
      at_half_1 = served[1];
      at_half_2 = served[2];
      keep_two(3);
      joined_at = l.table.find(1, 3)->served;
    }
    if (third) keep_two(3);
    while (running.size() < 4) {
      const std::uint64_t whose = l.grant(kinds.at(l.first()->tenant).bytes);
      served[whose] += static_cast<double>(kinds.at(whose).bytes) / 4 + 2 * kinds.at(whose).tokens;
      running.push({l.now + kinds.at(whose).time, l.accounts.back(), whose});
      l.accounts.clear();
      if (l.now > kStart + 20s) gap = std::max(gap, std::abs(served[1] - served[2]));
      keep_two(whose);
    }
    const Running done = running.top();
    running.pop();
    l.now = done.end;
    PoolShares::settle(l.table, done.account, RequestClass::chat, kinds.at(done.whose).tokens, true);
  }
  for (; !running.empty(); running.pop()) l.accounts.push_back(running.top().account);
  l.settle_all();
  MESSAGE("served " << at_half_1 << " and " << at_half_2 << ", largest gap " << gap << ", joined at " << joined_at
                    << "; second half " << served[1] - at_half_1 << ", " << served[2] - at_half_2 << ", " << served[3]);
  CHECK(at_half_1 == doctest::Approx(651'600).epsilon(0.01));
  CHECK(at_half_2 == doctest::Approx(650'910).epsilon(0.01));
  CHECK(gap <= 2 * 3600);
  CHECK(joined_at == doctest::Approx(650'910).epsilon(0.01));
  CHECK(served[1] - at_half_1 == doctest::Approx(414'000).epsilon(0.01));
  CHECK(served[3] == doctest::Approx(413'270).epsilon(0.01));
}

TEST_CASE("random pushes, grants, leavers and settlements: the lanes stay in order") {
  Rng rng(42);
  Lanes l(16, 24);
  std::vector<One*> in;
  std::vector<std::unique_ptr<One>> all;
  for (int step = 0; step < 20'000; ++step) {
    l.now += Duration(rng.below(1'000'000'000));
    const std::uint32_t what = rng.below(10);
    if (what < 4) {
      all.push_back(std::make_unique<One>(rng.below(20), 0.5 + rng.uniform(), static_cast<RequestClass>(rng.below(3)),
                                          static_cast<Priority>(rng.below(4))));
      l.queue.push(*all.back(), l.now);
      in.push_back(all.back().get());
    } else if (what < 6 && !in.empty()) {
      const std::size_t at = rng.below(static_cast<std::uint32_t>(in.size()));
      l.queue.remove(*in[at]);
      in.erase(in.begin() + static_cast<std::ptrdiff_t>(at));
    } else if (what < 9 && !in.empty()) {
      Waiting* w = l.first();
      REQUIRE(w != nullptr);
      for (const One* other : in) {
        if (other->line->account == w->line->account) continue;
        REQUIRE(other->priority >= w->priority);
        if (other->priority == w->priority) REQUIRE(other->line->account->served >= w->line->account->served);
      }
      in.erase(std::find(in.begin(), in.end(), w));
      l.grant(rng.below(10'000));
    } else if (!l.accounts.empty()) {
      const std::size_t at = rng.below(static_cast<std::uint32_t>(l.accounts.size()));
      PoolShares::settle(l.table, l.accounts[at], RequestClass::chat, rng.below(2000), rng.below(2) == 0);
      l.accounts.erase(l.accounts.begin() + static_cast<std::ptrdiff_t>(at));
    }
    l.check();
    REQUIRE(l.queue.size() == in.size());
  }
  l.settle_all();
  for (One* w : in) l.queue.remove(*w);
}

TEST_CASE("ageing: one level for each quarter of the longest wait, two at most, never critical") {
  One w(0);
  w.queued_at = kStart;
  w.queue_deadline = kStart + 8s;
  const auto at = [&](Priority p, Duration waited) {
    w.priority = p;
    return LaneQueue::effective(w, kStart + waited);
  };
  CHECK(at(Priority::low, 1999ms) == Priority::low);
  CHECK(at(Priority::low, 2s) == Priority::normal);
  CHECK(at(Priority::low, 4s) == Priority::high);
  CHECK(at(Priority::low, 8s) == Priority::high);
  CHECK(at(Priority::normal, 1s) == Priority::normal);
  CHECK(at(Priority::normal, 2s) == Priority::high);
  CHECK(at(Priority::normal, 7s) == Priority::high);
  CHECK(at(Priority::high, 7s) == Priority::high);
  CHECK(at(Priority::critical, 7s) == Priority::critical);
  w.queue_deadline = kNever;
  CHECK(at(Priority::low, 1h) == Priority::low);
}
