// A pool's own controller (admission/overload.h), where the operator wants one: at the door, at dequeue, and who is
// told at once that his turn will not come.
#include "core.h"

namespace perigee::dispatch {

// What belongs to work under way, and retries, go through.
bool Core::refused_by_pool(const Waiter& w, Pool& pool, std::uint8_t cohort) {
  if (w.critical_ || w.pinned_.exists() || w.retry_) return false;
  const auto free = [&] {
    double slots = 0;
    for_each(pool.members & up_ & ~shut_, [&](const Backend& b) {
      if (b.lag.slots() > b.in_flight) slots += b.lag.slots() - b.in_flight;
    });
    return slots;
  };
  const unsigned rank = admission::rejector_rank(w.priority, cohort);
  if (pool.overload->refuse(rank, pool.waiting(), now_, free)) return true;
  pool.overload->let_in();
  return false;
}

// Somebody is about to be granted; one that waited for nothing is never dropped.
bool Core::dropped_by_pool(const Waiter& w, Pool& pool) {
  if (w.critical_ || w.pinned_.exists()) return false;
  if (w.priority != Priority::critical && pool.overload->drop(now_ - w.queued_at, now_)) return true;
  pool.overload->granted();
  return false;
}

// While the newest go first the oldest would wait for nothing: they are told after an interval.
void Core::expire_oldest(Pool& pool) {
  if (pool.paused || !pool.overload->newest_first(now_)) return;
  const TimePoint before = now_ - pool.overload->patience();
  for (LaneQueue* queue : {&pool.plain, &pool.streamed}) {
    for (std::size_t lane = 0; lane < kClassCount * kPriorityCount && !queue->empty(); ++lane) {
      const auto c = static_cast<RequestClass>(lane % kClassCount);
      const auto p = static_cast<Priority>(lane / kClassCount);
      if (queue->count(c, p) == 0) continue;
      admission::Waiting* oldest = queue->oldest(c, p);
      while (oldest != nullptr && oldest->queued_at < before) {
        Waiter& w = waiter(*oldest);
        dequeue(w);
        refuse(w, Refused::throttled, false);
        oldest = queue->oldest(c, p);
      }
    }
  }
}

}  // namespace perigee::dispatch
