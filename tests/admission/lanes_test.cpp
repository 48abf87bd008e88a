#include "perigee/admission/lanes.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <list>
#include <memory>
#include <vector>

#include "perigee/base/random.h"

using namespace perigee;
using namespace perigee::admission;

namespace {

struct Waiter : Waiting {
  Waiter(RequestClass c, Priority p, std::uint64_t bytes = 0) {
    request_class = c;
    priority = p;
    body_bytes = bytes;
  }
};

constexpr auto kAny = [](Waiting&) { return true; };

}  // namespace

TEST_CASE("the door: 5000 for all, 1000 more for critical and high, and a bound of bytes") {
  QueueBudget budget({.entries = 3, .extra_entries = 2, .body_bytes = 100});
  LaneQueue queue(budget);
  std::list<Waiter> waiters;
  const auto add = [&](Priority p, std::uint64_t bytes) {
    queue.push(waiters.emplace_back(RequestClass::chat, p, bytes), TimePoint{});
  };
  CHECK(budget.room_for(Priority::low, 101) == QueueRoom::no_bytes);
  CHECK(budget.room_for(Priority::low, ~std::uint64_t{0}) == QueueRoom::no_bytes);
  CHECK(budget.room_for(Priority::low, 100) == QueueRoom::yes);
  for (int i = 0; i < 3; ++i)
    add(Priority::normal, 30);
  CHECK(budget.room_for(Priority::normal, 0) == QueueRoom::no_entries);
  CHECK(budget.room_for(Priority::low, 0) == QueueRoom::no_entries);
  CHECK(budget.room_for(Priority::high, 10) == QueueRoom::yes);
  CHECK(budget.room_for(Priority::critical, 11) == QueueRoom::no_bytes);
  add(Priority::high, 0);
  add(Priority::critical, 10);
  CHECK(budget.room_for(Priority::critical, 0) == QueueRoom::no_entries);
  queue.remove(waiters.front());
  CHECK(budget.room_for(Priority::high, 30) == QueueRoom::yes);
  budget.set({.entries = 1, .extra_entries = 0, .body_bytes = 100});
  CHECK(budget.room_for(Priority::critical, 0) == QueueRoom::no_entries);
  CHECK(budget.entries() == 4);  // nobody was dropped
  waiters.pop_front();
  for (Waiter& w : waiters)
    queue.remove(w);
  CHECK(budget.entries() == 0);
  CHECK(budget.body_bytes() == 0);
}

TEST_CASE("one budget bounds several queues") {
  QueueBudget budget({.entries = 2, .extra_entries = 0, .body_bytes = 100});
  LaneQueue pool(budget);
  LaneQueue pinned(budget);
  Waiter a(RequestClass::chat, Priority::normal);
  Waiter b(RequestClass::admin, Priority::normal);
  pool.push(a, TimePoint{});
  pinned.push(b, TimePoint{});
  CHECK(budget.room_for(Priority::normal, 0) == QueueRoom::no_entries);
  CHECK(LaneQueue::better(a, b, TimePoint{}));  // arrivals of both are one sequence
  pool.remove(a);
  pinned.remove(b);
}

TEST_CASE("best: a class without room closes its own lane only") {
  QueueBudget budget;
  LaneQueue queue(budget);
  Waiter low(RequestClass::search, Priority::low);
  Waiter chat1(RequestClass::chat, Priority::normal);
  Waiter files(RequestClass::files, Priority::normal);
  Waiter chat2(RequestClass::chat, Priority::normal);
  Waiter high(RequestClass::chat, Priority::high);
  CHECK(queue.best(TimePoint{}, kAny) == nullptr);
  for (Waiter* w : {&low, &chat1, &files, &chat2, &high})
    queue.push(*w, TimePoint{});
  CHECK(queue.best(TimePoint{}, kAny) == &high);
  const auto not_chat = [](Waiting& w) { return w.request_class != RequestClass::chat; };
  CHECK(queue.best(TimePoint{}, not_chat) == &files);
  queue.remove(high);
  CHECK(queue.best(TimePoint{}, kAny) == &chat1);
  queue.remove(chat1);
  CHECK(queue.best(TimePoint{}, kAny) == &files);  // before chat2 by arrival
  CHECK(queue.count(Priority::low) == 1);
  CHECK(queue.count(RequestClass::chat) == 1);
  CHECK(queue.count(Priority::normal) == 2);
  CHECK(queue.best(TimePoint{}, [](Waiting&) { return false; }) == nullptr);
  for (Waiter* w : {&low, &files, &chat2})
    queue.remove(*w);
}

TEST_CASE("a retry goes back to its place") {
  QueueBudget budget;
  LaneQueue queue(budget);
  std::vector<std::unique_ptr<Waiter>> w;
  for (int i = 0; i < 5; ++i) {
    w.push_back(std::make_unique<Waiter>(RequestClass::chat, Priority::normal));
    queue.push(*w.back(), TimePoint{});
  }
  queue.remove(*w[0]);
  queue.remove(*w[2]);
  queue.remove(*w[4]);
  queue.push(*w[2], TimePoint{});
  queue.push(*w[4], TimePoint{});
  queue.push(*w[0], TimePoint{});
  for (auto& each : w) {
    REQUIRE(queue.front(RequestClass::chat, Priority::normal) == each.get());
    queue.remove(*each);
  }
  CHECK(queue.empty());
}

TEST_CASE("random pushes, removals and retries agree with a sorted list") {
  Rng rng(42);
  QueueBudget budget({.entries = 1000, .extra_entries = 0, .body_bytes = 1'000'000});
  LaneQueue queue(budget);
  std::vector<std::unique_ptr<Waiter>> out;  // not queued
  std::vector<std::unique_ptr<Waiter>> in;
  for (int i = 0; i < 60; ++i) {
    out.push_back(std::make_unique<Waiter>(static_cast<RequestClass>(rng.below(kClassCount)),
                                           static_cast<Priority>(rng.below(kPriorityCount)),
                                           rng.below(1000)));
  }
  for (int step = 0; step < 20'000; ++step) {
    auto& from = (out.empty() || (!in.empty() && rng.below(2) == 0)) ? in : out;
    auto& to = &from == &in ? out : in;
    const std::size_t at = rng.below(static_cast<std::uint32_t>(from.size()));
    auto moved = std::move(from[at]);
    from.erase(from.begin() + static_cast<std::ptrdiff_t>(at));
    if (&to == &in) {
      if (rng.below(3) == 0) moved->arrival = 0;  // a new request, not a retry
      queue.push(*moved, TimePoint{});
    } else {
      queue.remove(*moved);
    }
    to.push_back(std::move(moved));

    std::uint64_t bytes = 0;
    std::uint32_t important = 0;
    const Waiter* best = nullptr;
    for (const auto& w : in) {
      bytes += w->body_bytes;
      important += w->priority <= Priority::high ? 1U : 0U;
      if (best == nullptr || LaneQueue::better(*w, *best, TimePoint{})) best = w.get();
    }
    REQUIRE(queue.size() == in.size());
    REQUIRE(budget.body_bytes() == bytes);
    REQUIRE(queue.count(Priority::critical) + queue.count(Priority::high) == important);
    REQUIRE(queue.best(TimePoint{}, kAny) == best);
  }
  for (auto& w : in)
    queue.remove(*w);
}
