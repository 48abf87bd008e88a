// What the throttle changes: who is refused at the door, where low priority may go, what does not grow.
//
// The control loop says what is wanted (admission/throttle.h) twice a second; on the path of a request this is
// a compare where nothing is wanted.
#include <algorithm>

#include "core.h"

namespace perigee::dispatch {

void Core::set_throttle(const admission::ThrottleOrders& orders, BackendSet hot, TimePoint now) {
  tick(now);
  if (orders.above_soft && !throttle_.above_soft) standing_.begin(now_);
  throttle_ = orders;
  hot_ = hot & present_;
  admission::ClassLimitValues limits = policy_.limits;
  if (orders.halve_streams && limits.streams != admission::kNoLimit) limits.streams = std::max(limits.streams / 2, 1U);
  limits_.set(limits);
  for_each(present_, [&](Backend& b) {
    const bool held = orders.above_soft || (hot_ & b.bit()) != 0;
    b.lag.hold_growth(held);
    if (b.limit) b.limit->hold_growth(held);
  });
  pump(now_);
}

// A hot worker takes none. On a machine above its soft mark low priority gets only workers that do nothing else,
// so that it neither adds to the load nor starves where the machine is busy with other things.
BackendSet Core::spare_for_low(BackendSet set) const {
  set &= ~hot_;
  if (!throttle_.above_soft) return set;
  BackendSet spare = 0;
  for_each(set, [&](const Backend& b) {
    if (b.in_flight == 0) spare |= b.bit();
  });
  return spare;
}

// What belongs to work under way goes through.
bool Core::throttled(const Waiter& w) const {
  if (w.critical_ || w.pinned_.exists()) return false;
  return admission::shed_rank(w.priority, w.retry_) > throttle_.refuse_above;
}

void Core::note_standing(const Waiter& w) {
  if (w.critical_ || w.pinned_.exists() || w.priority > Priority::normal) return;
  const double longest = to_seconds(w.queue_deadline - w.queued_at);
  const double share = longest > 0 ? to_seconds(now_ - w.queued_at) / longest : 1.0;
  standing_.note(w.request_class, std::clamp(share, 0.0, 1.0), now_);
}

}  // namespace perigee::dispatch
