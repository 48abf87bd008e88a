// The queue of a pool: who waits, in which order, and how much may wait.
//
// One lane for each (class, priority); within a lane, arrival order (the place where tenants will share is
// a lane's list). A lane's order never changes by itself: what ages does so by moving between lanes.
// Nothing allocates; insertion at the end and removal from anywhere are O(1). Called under the
// dispatcher's lock; entries are owned by whoever waits.
#pragma once

#include <array>
#include <bit>
#include <cassert>
#include <cstddef>
#include <cstdint>

#include "perigee/base/intrusive_list.h"
#include "perigee/base/time.h"
#include "perigee/base/vocabulary.h"

namespace perigee::admission {

struct LaneTag;

// What waits. The dispatcher derives its waiter from this. Must be removed before it dies.
struct Waiting : ListNode<LaneTag> {
  RequestClass request_class = RequestClass::other;
  Priority priority = Priority::normal;
  bool streamed = false;
  std::uint64_t arrival = 0;          // 0 = never queued; given by the first push and kept for retries
  std::uint64_t body_bytes = 0;       // held in memory while waiting
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
  [[nodiscard]] QueueRoom room_for(Priority priority, std::uint64_t body_bytes) const;

  // Numbers an arrival that may never queue, so that its later attempts keep its place.
  [[nodiscard]] std::uint64_t next_arrival() { return ++last_arrival_; }

  [[nodiscard]] const QueueBounds& bounds() const { return bounds_; }
  [[nodiscard]] std::uint64_t entries() const { return entries_; }
  [[nodiscard]] std::uint64_t body_bytes() const { return body_bytes_; }

 private:
  friend class LaneQueue;
  QueueBounds bounds_;
  std::uint64_t entries_ = 0;
  std::uint64_t body_bytes_ = 0;
  std::uint64_t last_arrival_ = 0;
};

class LaneQueue {
 public:
  explicit LaneQueue(QueueBudget& budget) : budget_(budget) {}
  LaneQueue(const LaneQueue&) = delete;
  LaneQueue& operator=(const LaneQueue&) = delete;
  ~LaneQueue() { assert(empty()); }

  // At the end of its lane; or, with an arrival from an earlier push, at its original place.
  void push(Waiting& waiting);
  // `waiting` stands in this queue.
  void remove(Waiting& waiting);

  [[nodiscard]] bool empty() const { return entries_ == 0; }
  [[nodiscard]] std::uint32_t size() const { return entries_; }
  [[nodiscard]] std::uint32_t count(RequestClass c) const { return by_class_[index(c)]; }
  [[nodiscard]] std::uint32_t count(Priority p) const { return by_priority_[index(p)]; }
  [[nodiscard]] std::uint32_t count(RequestClass c, Priority p) const { return lanes_[lane(c, p)].entries; }
  // Entries that a newcomer of this priority would stand behind: at this priority or above.
  [[nodiscard]] std::uint32_t entries_ahead(Priority priority) const;

  [[nodiscard]] Waiting* front(RequestClass c, Priority p) const;
  // The newest of a lane.
  [[nodiscard]] Waiting* back(RequestClass c, Priority p) const;
  // The one behind in the same lane, or nullptr; for walking past one that may use none of the free slots.
  [[nodiscard]] Waiting* next(const Waiting& waiting) const;

  // The best lane head that `accept(Waiting&)` takes: better priority first, then arrival. A head that is
  // not accepted closes its own lane only, never another one. nullptr where there is none.
  template <typename Accept>
  [[nodiscard]] Waiting* best(Accept&& accept) const {
    for (std::size_t p = 0; p < kPriorityCount; ++p) {
      Waiting* chosen = nullptr;
      std::uint64_t mask = (filled_ >> (p * kClassCount)) & kClassMask;
      // Oldest acceptable head of this priority. `accept` is asked at most once a lane.
      for (; mask != 0; mask &= mask - 1) {
        auto& list = lanes_[p * kClassCount + static_cast<std::size_t>(std::countr_zero(mask))].list;
        auto* head = list.template front<Waiting>();
        if ((chosen == nullptr || head->arrival < chosen->arrival) && accept(*head)) chosen = head;
      }
      if (chosen != nullptr) return chosen;
    }
    return nullptr;
  }

  // better(a, b): a goes before b.
  [[nodiscard]] static bool better(const Waiting& a, const Waiting& b) {
    return a.priority != b.priority ? a.priority < b.priority : a.arrival < b.arrival;
  }

 private:
  static constexpr std::uint64_t kClassMask = (std::uint64_t{1} << kClassCount) - 1;
  static_assert(kClassCount * kPriorityCount <= 64);

  struct Lane {
    IntrusiveList<LaneTag> list;
    std::uint32_t entries = 0;
  };
  static constexpr std::size_t index(RequestClass c) { return static_cast<std::size_t>(c); }
  static constexpr std::size_t index(Priority p) { return static_cast<std::size_t>(p); }
  static constexpr std::size_t lane(RequestClass c, Priority p) { return index(p) * kClassCount + index(c); }

  QueueBudget& budget_;
  std::uint64_t filled_ = 0;  // bit = lane with entries
  std::uint32_t entries_ = 0;
  std::array<std::uint32_t, kClassCount> by_class_{};
  std::array<std::uint32_t, kPriorityCount> by_priority_{};
  std::array<Lane, kClassCount * kPriorityCount> lanes_;
};

}  // namespace perigee::admission
