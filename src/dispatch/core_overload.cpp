// A pool's own controller (admission/overload.h), where the operator wants one: at the door, at dequeue, and who is
// told at once that his turn will not come.
#include <algorithm>
#include <array>

#include "core.h"

namespace perigee::dispatch {

namespace {

constexpr std::size_t kTold = 64;  // at most so many for one walk of a lane

}  // namespace

// What belongs to work under way, and retries, are neither refused nor counted.
bool Core::left_alone(const Waiter& w) { return w.critical_ || w.pinned_.exists() || w.retry_; }

bool Core::refused_by_pool(const Waiter& w, Pool& pool, std::uint8_t cohort) {
  if (left_alone(w)) return false;
  const auto free = [&] {
    double slots = 0;
    for_each(pool.members & up_ & ~shut_, [&](const Backend& b) {
      if (b.lag.slots() > b.in_flight) slots += b.lag.slots() - b.in_flight;
    });
    return slots;
  };
  return pool.overload->refuse(admission::rejector_rank(w.priority, cohort), pool.waiting(), now_, free);
}

// It waits, or is granted at the door: nothing else refuses it there.
void Core::let_in_by_pool(const Waiter& w, Pool& pool) {
  if (!left_alone(w)) pool.overload->let_in();
}

// Somebody is about to be granted; one that waited for nothing is never dropped.
bool Core::dropped_by_pool(const Waiter& w, Pool& pool) {
  if (left_alone(w)) return false;
  if (w.priority != Priority::critical && pool.overload->drop(now_ - w.queued_at, now_)) return true;
  pool.overload->granted();
  return false;
}

bool Core::may_expire(const Waiter& w) {
  return !left_alone(w) && w.excluded_ == 0 && w.priority != Priority::critical;
}

void Core::entered_queue(const Waiter& w, Pool& pool) {
  if (w.pinned_.exists()) return;
  let_in_by_pool(w, pool);
  if (!pool.paused) pool.overload->set_waiting(true, now_);
  if (may_expire(w)) pool.oldest = std::min(pool.oldest, w.queued_at);
  if (const TimePoint begins = pool.overload->newest_first_at(); begins != kNever) {
    due_ = std::min(due_, std::max(begins, now_ + pool.overload->patience()));
  }
}

// While the newest go first the oldest would wait for nothing: they are told after an interval.
void Core::expire_oldest(Pool& pool) {
  const TimePoint begins = pool.overload->newest_first_at();
  if (begins == kNever) return;
  if (now_ < begins) {
    due_ = std::min(due_, begins);
    return;
  }
  const Duration patience = pool.overload->patience();
  const TimePoint before = now_ - patience;
  if (pool.oldest <= before) {
    pool.oldest = kNever;
    for (LaneQueue* queue : {&pool.plain, &pool.streamed}) {
      for (std::size_t lane = 0; lane < kClassCount * kPriorityCount && !queue->empty(); ++lane) {
        const auto c = static_cast<RequestClass>(lane % kClassCount);
        const auto p = static_cast<Priority>(lane / kClassCount);
        std::array<Waiter*, kTold> told;
        std::size_t n = kTold;
        while (n == kTold && queue->count(c, p) != 0) {
          n = 0;
          queue->from_oldest(c, p, [&](admission::Waiting& waiting) {
            Waiter& w = waiter(waiting);
            if (!may_expire(w)) return true;  // a retry: it stands by its first arrival
            if (n == kTold) return false;
            if (w.queued_at <= before) return told[n++] = &w, true;
            pool.oldest = std::min(pool.oldest, w.queued_at);
            return false;
          });
          for (std::size_t i = 0; i < n; ++i) {
            dequeue(*told[i]);
            refuse(*told[i], Refused::throttled, false);
          }
        }
      }
    }
  }
  if (pool.oldest != kNever) due_ = std::min(due_, pool.oldest + patience);
}

}  // namespace perigee::dispatch
