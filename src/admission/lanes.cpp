#include "perigee/admission/lanes.h"

namespace perigee::admission {

QueueRoom QueueBudget::room_for(Priority priority, std::uint64_t body_bytes) const {
  const bool may_use_extra = priority <= Priority::high;
  const std::uint64_t most = std::uint64_t{bounds_.entries} + (may_use_extra ? bounds_.extra_entries : 0U);
  if (entries_ >= most) return QueueRoom::no_entries;
  if (body_bytes > bounds_.body_bytes || body_bytes_ > bounds_.body_bytes - body_bytes)
    return QueueRoom::no_bytes;
  return QueueRoom::yes;
}

void LaneQueue::push(Waiting& waiting) {
  assert(!waiting.linked());
  const std::size_t at = lane(waiting.request_class, waiting.priority);
  auto& list = lanes_[at].list;
  if (waiting.arrival == 0) waiting.arrival = budget_.next_arrival();
  if (list.empty() || list.back<Waiting>()->arrival < waiting.arrival) {
    list.push_back(waiting);
  } else {
    // A retry: nearly all that came before it has been granted since, so its place is near the front.
    Waiting* behind = list.front<Waiting>();
    while (behind != nullptr && behind->arrival < waiting.arrival)
      behind = list.next_of<Waiting>(*behind);
    if (behind == nullptr) {
      list.push_back(waiting);
    } else {
      list.insert_before(*behind, waiting);
    }
  }
  ++lanes_[at].entries;
  filled_ |= std::uint64_t{1} << at;
  ++entries_;
  ++by_class_[index(waiting.request_class)];
  ++by_priority_[index(waiting.priority)];
  ++budget_.entries_;
  budget_.body_bytes_ += waiting.body_bytes;
}

void LaneQueue::remove(Waiting& waiting) {
  assert(waiting.linked());
  const std::size_t at = lane(waiting.request_class, waiting.priority);
  assert(lanes_[at].entries > 0 && budget_.body_bytes_ >= waiting.body_bytes);
  waiting.unlink();
  if (--lanes_[at].entries == 0) filled_ &= ~(std::uint64_t{1} << at);
  --entries_;
  --by_class_[index(waiting.request_class)];
  --by_priority_[index(waiting.priority)];
  --budget_.entries_;
  budget_.body_bytes_ -= waiting.body_bytes;
}

std::uint32_t LaneQueue::entries_ahead(Priority priority) const {
  std::uint32_t sum = 0;
  for (std::size_t p = 0; p <= index(priority); ++p)
    sum += by_priority_[p];
  return sum;
}

Waiting* LaneQueue::front(RequestClass c, Priority p) const {
  return lanes_[lane(c, p)].list.front<Waiting>();
}

Waiting* LaneQueue::back(RequestClass c, Priority p) const {
  return lanes_[lane(c, p)].list.back<Waiting>();
}

Waiting* LaneQueue::next(const Waiting& waiting) const {
  return lanes_[lane(waiting.request_class, waiting.priority)].list.next_of<Waiting>(waiting);
}

}  // namespace perigee::admission
