// What runs under the dispatcher's lock, or for every request, allocates nothing.
#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "perigee/admission/class_limits.h"
#include "perigee/admission/drain_rate.h"
#include "perigee/admission/head_lag.h"
#include "perigee/admission/lanes.h"
#include "perigee/admission/route_table.h"

using namespace perigee;
using namespace perigee::admission;

namespace {
std::atomic<std::uint64_t> allocations{0};
}

void* operator new(std::size_t size) {
  ++allocations;
  if (void* p = std::malloc(size == 0 ? 1 : size)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept {
  std::free(p);
}
void operator delete(void* p, std::size_t) noexcept {
  std::free(p);
}

TEST_CASE("a hundred thousand decisions allocate nothing") {
  QueueBudget budget;
  LaneQueue queue(budget);
  DrainRate rate;
  ClassLimits limits(ClassLimitValues::defaults(WorkerKind::orbit));
  HeadLag lag(HeadLagConfig{}, TimePoint{});
  std::vector<std::unique_ptr<Waiting>> waiters;
  for (int i = 0; i < 50; ++i)
    waiters.push_back(std::make_unique<Waiting>());
  TimePoint now{std::chrono::seconds(10)};

  const std::uint64_t before = allocations;
  std::uint64_t granted = 0;
  for (std::size_t i = 0; i < 100'000; ++i) {
    now += std::chrono::milliseconds(1);
    const RouteVerdict v =
        classify("POST", i % 3 == 0 ? "/v1/chat" : "/admin/adapters/a/models", WorkerKind::orbit);
    Waiting& w = *waiters[i % waiters.size()];
    if (!w.linked()) {
      w.request_class = v.request_class;
      w.arrival = 0;
      queue.push(w, TimePoint{});
      rate.set_waiting(true, now);
    }
    if (lag.may_start(now, 5) == StartAnswer::yes && limits.may_start(RequestClass::chat, true)) {
      Waiting* best = queue.best(TimePoint{}, [](Waiting&) { return true; });
      queue.remove(*best);
      lag.take_start(now);
      rate.on_grant(now);
      LimitHold hold;
      limits.start(hold, best->request_class, true);
      limits.first_event(hold);
      limits.end(hold);
      ++granted;
    }
    lag.note_held_back(now, 5);
    lag.on_byte(now, 10);
    if (i % 40 == 0) lag.on_head_sample(now, now - std::chrono::milliseconds(20), 5);
  }
  const std::uint64_t after = allocations;
  CHECK(after == before);
  CHECK(granted > 2000);
  for (auto& w : waiters) {
    if (w->linked()) queue.remove(*w);
  }
}
