#include "perigee/admission/lanes.h"

namespace perigee::admission {

QueueRoom QueueBudget::room_for(Priority priority, std::uint64_t body_bytes, bool first_of_tenant) const {
  const std::uint64_t extra = priority <= Priority::high ? bounds_.extra_entries
                              : first_of_tenant          ? bounds_.extra_entries / 2
                                                         : 0;
  const std::uint64_t most = std::uint64_t{bounds_.entries} + extra;
  if (entries_ >= most) return QueueRoom::no_entries;
  if (body_bytes > bounds_.body_bytes || body_bytes_ > bounds_.body_bytes - body_bytes)
    return QueueRoom::no_bytes;
  return QueueRoom::yes;
}

LaneQueue::LaneQueue(QueueBudget& budget, PoolShares* shares) : budget_(budget), shares_(shares) {
  if (shares == nullptr) return;
  for (Lane& lane : lanes_) lane.common.account = &shares->others();
}

Waiting* LaneQueue::head(const Lane& lane) {
  const Line* line = lane.tree.first();
  const bool common = !lane.common.waiting.empty();
  if (line == nullptr || (common && LineTree::before(lane.common, *line))) line = &lane.common;
  return line->waiting.front<Waiting>();
}

void LaneQueue::push(Waiting& waiting, TimePoint now) {
  assert(!waiting.linked());
  const std::size_t at = lane(waiting.request_class, waiting.priority);
  Lane& lane = lanes_[at];
  if (waiting.arrival == 0) waiting.arrival = budget_.next_arrival();
  Line* own = shares_ == nullptr ? nullptr : shares_->line_for(waiting.tenant, waiting.tenant_weight, lane.tree, now);
  Line& line = own != nullptr ? *own : lane.common;
  waiting.line = &line;
  auto& list = line.waiting;
  Waiting* last = list.back<Waiting>();
  if (last == nullptr || last->arrival < waiting.arrival) {
    waiting.place = last == nullptr ? 0 : last->place + 1;
    list.push_back(waiting);
  } else {
    // A retry: nearly all that came before it has been granted since, so its place is near the front.
    Waiting* behind = list.front<Waiting>();
    while (behind->arrival < waiting.arrival) behind = list.next_of<Waiting>(*behind);
    waiting.place = behind->place;
    list.insert_before(*behind, waiting);
  }
  if (list.front<Waiting>() == &waiting) {
    if (line.tree != nullptr && line.entries != 0) line.tree->remove(line);
    line.arrival = waiting.arrival;
    if (line.tree != nullptr) line.tree->insert(line);
  }
  ++line.entries;
  if (line.account != nullptr) shares_->entered(*line.account, waiting.priority, waiting.body_bytes);
  ++lane.entries;
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
  Line& line = *waiting.line;
  const bool first = line.waiting.front<Waiting>() == &waiting;
  if (first && line.tree != nullptr) line.tree->remove(line);
  waiting.unlink();
  waiting.line = nullptr;
  --line.entries;
  if (line.account != nullptr) shares_->left(*line.account, waiting.priority, waiting.body_bytes);
  if (first && line.entries != 0) {
    line.arrival = line.waiting.front<Waiting>()->arrival;
    if (line.tree != nullptr) line.tree->insert(line);
  } else if (line.tree != nullptr && line.entries == 0) {
    shares_->drop(line);
  }
  if (--lanes_[at].entries == 0) filled_ &= ~(std::uint64_t{1} << at);
  --entries_;
  --by_class_[index(waiting.request_class)];
  --by_priority_[index(waiting.priority)];
  --budget_.entries_;
  budget_.body_bytes_ -= waiting.body_bytes;
}

Waiting* LaneQueue::newest(RequestClass c, Priority p) const {
  const Lane& of = lanes_[lane(c, p)];
  Waiting* found = of.common.waiting.back<Waiting>();
  of.tree.for_each([&](const Line& line) {
    auto* last = line.waiting.back<Waiting>();
    if (found == nullptr || last->arrival > found->arrival) found = last;
  });
  return found;
}

const char* LaneQueue::check() const {
  const char* wrong = "";
  std::uint32_t all = 0;
  for (const Lane& lane : lanes_) {
    std::uint32_t entries = 0;
    const Line* before = nullptr;
    const auto line = [&](const Line& l) {
      std::uint32_t n = 0;
      const Waiting* last = nullptr;
      for (auto* w = l.waiting.front<Waiting>(); w != nullptr; w = l.waiting.next_of<Waiting>(*w), ++n) {
        if (w->line != &l) wrong = "in another line than it knows";
        if (last != nullptr && last->arrival >= w->arrival) wrong = "out of order in a line";
        if (last != nullptr && last->place > w->place) wrong = "places do not grow along a line";
        last = w;
      }
      if (n != l.entries) wrong = "entries of a line do not add up";
      if (n != 0 && l.arrival != l.waiting.front<Waiting>()->arrival) wrong = "a line does not know its oldest";
      entries += n;
    };
    line(lane.common);
    lane.tree.for_each([&](const Line& l) {
      line(l);
      if (l.entries == 0) wrong = "an empty line in a lane";
      if (l.tree != &lane.tree) wrong = "a line in another lane than it knows";
      if (before == nullptr ? lane.tree.first() != &l : !LineTree::before(*before, l)) wrong = "lines out of order";
      before = &l;
    });
    if (before == nullptr && lane.tree.first() != nullptr) wrong = "a first line in an empty lane";
    if (entries != lane.entries) wrong = "entries of a lane do not add up";
    const auto at = static_cast<std::size_t>(&lane - lanes_.data());
    if ((entries != 0) != (((filled_ >> at) & 1U) != 0)) wrong = "stale: filled lanes";
    all += entries;
  }
  return all == entries_ ? wrong : "entries of a queue do not add up";
}

}  // namespace perigee::admission
