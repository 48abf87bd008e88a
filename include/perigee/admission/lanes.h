// The queue of a pool: who waits, in which order, and how much may wait.
//
// One lane for each (class, priority). Within a lane tenants take fair turns (fair_turns.h), and the requests of
// one tenant stand in arrival order; with a single tenant that is arrival order. A lane whose head has waited
// long is compared at a better priority (`effective`): looking at heads when a place is free is all that
// ageing takes. Nothing allocates; insertion and removal are O(log tenants), O(1) with one of them. Called
// under the dispatcher's lock; entries are owned by whoever waits.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cstddef>
#include <cstdint>

#include "perigee/admission/fair_turns.h"
#include "perigee/base/intrusive_list.h"
#include "perigee/base/time.h"
#include "perigee/base/vocabulary.h"

namespace perigee::admission {

// What waits. The dispatcher derives its waiter from this. Must be removed before it dies.
struct Waiting : ListNode<LaneTag> {
  RequestClass request_class = RequestClass::other;
  Priority priority = Priority::normal;
  bool streamed = false;
  std::uint64_t arrival = 0;          // 0 = never queued; given by the first push and kept for retries
  std::uint64_t body_bytes = 0;       // held in memory while waiting
  std::uint64_t tenant = 0;           // whose it is; all that have none are one tenant
  double tenant_weight = 1.0;         // > 0
  Line* line = nullptr;               // where it stands while it waits
  std::uint64_t place = 0;            // grows along its line
  TimePoint queued_at{};              // set by the dispatcher: first push
  TimePoint queue_deadline = kNever;  // queued_at + the class's queue_wait
  TimePoint deadline = kNever;        // the client's own, where trusted

  Waiting() = default;
  ~Waiting() { assert(!linked()); }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;
};

struct QueueBounds {
  std::uint32_t entries = 5000;
  std::uint32_t extra_entries = 1000;                  // on top, for critical and high only
  std::uint64_t body_bytes = std::uint64_t{64} << 20;  // of all that waits
};

enum class QueueRoom : std::uint8_t { yes, no_entries, no_bytes };

// The memory bound, shared by every LaneQueue of the sidecar (pools, pinned lanes of backends), and the
// one sequence of arrivals, so that heads of different queues compare.
class QueueBudget {
 public:
  explicit QueueBudget(QueueBounds bounds = {}) : bounds_(bounds) {}

  // Lowering a bound drops nobody: it only closes the door until enough have left.
  void set(QueueBounds bounds) { bounds_ = bounds; }
  // Asked at the door, once. A retry does not ask again: it is one of a bounded number of exchanges.
  // `first_of_tenant`: nothing else of its tenant waits while others do; half of the extra entries are for
  // such as well, or a tenant that fills the queue would close the door to all others.
  [[nodiscard]] QueueRoom room_for(Priority priority, std::uint64_t body_bytes, bool first_of_tenant = false) const;

  // Numbers an arrival that may never queue, so that its later attempts keep its place.
  [[nodiscard]] std::uint64_t next_arrival() { return ++last_arrival_; }

  [[nodiscard]] const QueueBounds& bounds() const { return bounds_; }
  [[nodiscard]] std::uint64_t entries() const { return entries_; }
  [[nodiscard]] std::uint64_t body_bytes() const { return body_bytes_; }
  [[nodiscard]] std::uint64_t free_bytes() const { return bounds_.body_bytes - std::min(bounds_.body_bytes, body_bytes_); }

 private:
  friend class LaneQueue;
  QueueBounds bounds_;
  std::uint64_t entries_ = 0;
  std::uint64_t body_bytes_ = 0;
  std::uint64_t last_arrival_ = 0;
};

class LaneQueue {
 public:
  // `shares`: the turns of tenants; nullptr: arrival order whoever asks.
  explicit LaneQueue(QueueBudget& budget, PoolShares* shares = nullptr);
  LaneQueue(const LaneQueue&) = delete;
  LaneQueue& operator=(const LaneQueue&) = delete;
  ~LaneQueue() { assert(empty()); }

  // Behind what waits of its tenant in its lane; or, with an arrival from an earlier push, at its original place.
  void push(Waiting& waiting, TimePoint now);
  // `waiting` stands in this queue.
  void remove(Waiting& waiting);

  [[nodiscard]] bool empty() const { return entries_ == 0; }
  [[nodiscard]] std::uint32_t size() const { return entries_; }
  [[nodiscard]] std::uint32_t count(RequestClass c) const { return by_class_[index(c)]; }
  [[nodiscard]] std::uint32_t count(Priority p) const { return by_priority_[index(p)]; }
  [[nodiscard]] std::uint32_t count(RequestClass c, Priority p) const { return lanes_[lane(c, p)].entries; }

  // Whose turn it is in a lane, or nullptr.
  [[nodiscard]] Waiting* front(RequestClass c, Priority p) const { return head(lanes_[lane(c, p)]); }
  // Who came last, whoever's turn it is. O(tenants that wait in the lane).
  [[nodiscard]] Waiting* newest(RequestClass c, Priority p) const;
  // Each tenant's requests of a lane from its oldest on, as long as `f(Waiting&)` says true. `f` changes nothing.
  template <typename F>
  void from_oldest(RequestClass c, Priority p, F&& f) const {
    const auto line = [&](const Line& l) {
      auto* w = l.waiting.template front<Waiting>();
      while (w != nullptr && f(*w)) w = l.waiting.template next_of<Waiting>(*w);
    };
    line(lanes_[lane(c, p)].common);
    lanes_[lane(c, p)].tree.for_each(line);
  }
  // The one behind in the same line, or nullptr; for walking past one that may use none of the free slots.
  [[nodiscard]] Waiting* next(const Waiting& waiting) const { return waiting.line->waiting.next_of<Waiting>(waiting); }
  // How many of its own tenant stand before it in this lane, those who left from the middle included.
  [[nodiscard]] static std::uint64_t own_ahead(const Waiting& waiting) {
    return waiting.place - waiting.line->waiting.front<Waiting>()->place;
  }

  // The best lane head that `accept(Waiting&)` takes, which is asked at most once a lane. A head that is not
  // accepted closes its own lane only, never another one. nullptr where there is none.
  template <typename Accept>
  [[nodiscard]] Waiting* best(TimePoint now, Accept&& accept) const {
    Waiting* chosen = nullptr;
    for (std::uint64_t mask = filled_; mask != 0; mask &= mask - 1) {
      Waiting* candidate = head(lanes_[static_cast<std::size_t>(std::countr_zero(mask))]);
      if ((chosen == nullptr || fairer(*candidate, *chosen, now)) && accept(*candidate)) chosen = candidate;
    }
    return chosen;
  }

  // Priority after ageing: one level better for each quarter of its longest wait, two at most, and never
  // critical: that is not earned by waiting.
  [[nodiscard]] static Priority effective(const Waiting& w, TimePoint now) {
    if (w.priority <= Priority::high) return w.priority;
    const Duration step = (w.queue_deadline - w.queued_at) / 4;
    const Duration waited = now - w.queued_at;
    if (waited < step) return w.priority;
    return waited < 2 * step ? static_cast<Priority>(index(w.priority) - 1) : Priority::high;
  }
  // a goes before b, wherever they stand: effective priority, then arrival.
  [[nodiscard]] static bool better(const Waiting& a, const Waiting& b, TimePoint now) {
    const Priority pa = effective(a, now);
    const Priority pb = effective(b, now);
    return pa != pb ? pa < pb : a.arrival < b.arrival;
  }
  // The same for heads of one pool, where the tenants' turns count between equal priorities. What has risen
  // by age is compared by arrival: it is late already.
  [[nodiscard]] static bool fairer(const Waiting& a, const Waiting& b, TimePoint now) {
    const Priority pa = effective(a, now);
    const Priority pb = effective(b, now);
    if (pa != pb) return pa < pb;
    if (a.line->account != b.line->account && pa == a.priority && pb == b.priority) {
      const double va = served(a);
      const double vb = served(b);
      if (va != vb) return va < vb;
    }
    return a.arrival < b.arrival;
  }

  // All of a lane, no matter in which order; for tests, as is check(): "" or what is wrong with a lane.
  template <typename F>
  void for_each(RequestClass c, Priority p, F&& f) const {
    from_oldest(c, p, [&](Waiting& w) { return f(w), true; });
  }
  [[nodiscard]] const char* check() const;

 private:
  static_assert(kClassCount * kPriorityCount <= 64);

  struct Lane {
    LineTree tree;  // a line for each tenant
    Line common;    // of those who take no turns
    std::uint32_t entries = 0;
  };
  static constexpr std::size_t index(RequestClass c) { return static_cast<std::size_t>(c); }
  static constexpr std::size_t index(Priority p) { return static_cast<std::size_t>(p); }
  static constexpr std::size_t lane(RequestClass c, Priority p) { return index(p) * kClassCount + index(c); }
  static double served(const Waiting& w) { return w.line->account != nullptr ? w.line->account->served : 0.0; }
  [[nodiscard]] static Waiting* head(const Lane& lane);

  QueueBudget& budget_;
  PoolShares* shares_;
  std::uint64_t filled_ = 0;  // bit = lane with entries
  std::uint32_t entries_ = 0;
  std::array<std::uint32_t, kClassCount> by_class_{};
  std::array<std::uint32_t, kPriorityCount> by_priority_{};
  std::array<Lane, kClassCount * kPriorityCount> lanes_;
};

}  // namespace perigee::admission
