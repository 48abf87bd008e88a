// How fast a queue moves, and the one law of admission that follows from it.
//
// A request is refused at the door when what waits ahead of it, divided by the measured rate of grants,
// is more than it may wait; it is dropped at dequeue when it can no longer be served in time. Estimating
// at both ends is what keeps a long queue useful: dropping only what is already late serves nobody, for
// what comes next is about to be late as well. Called under the dispatcher's lock; allocation-free.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "perigee/base/time.h"

namespace perigee::admission {

// Grants a second of one pool, all classes: an EWMA of 5 s over the time in which somebody waited (an
// idle pool grants slowly for want of work, which says nothing of how fast it could).
class DrainRate {
 public:
  // Tell it when the first one begins to wait and when the last one leaves. Repeats are harmless.
  void set_waiting(bool somebody_waits, TimePoint now);
  // A ticket was granted. Counts only while somebody waits, the granted one included: call it before
  // set_waiting(false).
  void on_grant(TimePoint now);
  // Grants a second; before 20 measured grants `sum_of_paces` of the eligible backends (0 = they have
  // none: unknown).
  [[nodiscard]] std::optional<double> per_second(TimePoint now, double sum_of_paces) const;

 private:
  static constexpr double kTau = 5.0;
  static constexpr std::uint32_t kGrantsNeeded = 20;
  void advance(TimePoint now);

  bool waiting_ = false;
  TimePoint at_{};
  double rate_ = 0;    // decayed sum of grants ÷ tau
  double weight_ = 0;  // what a rate of 1/s would have summed to: removes the bias of a short past
  std::uint32_t grants_ = 0;
};

// Grants a second to one priority of a pool in the last five seconds, while any of it waited. What comes later and is more
// important goes before it, so that it may move far more slowly than its pool.
class OwnRate {
 public:
  // When the first of this priority begins to wait and when the last one leaves. Repeats are harmless.
  void set_waiting(bool any_waits, TimePoint now);
  void on_grant(TimePoint now);
  // Nothing before they have waited for two seconds.
  [[nodiscard]] std::optional<double> per_second(TimePoint now) const;

 private:
  static constexpr Duration kPart = std::chrono::milliseconds(500);
  static constexpr std::size_t kParts = 11;  // ten whole ones and the one that runs
  static constexpr Duration kLeast = std::chrono::seconds(2);
  struct Part {
    std::int64_t number = -1;
    std::uint32_t grants = 0;
  };
  TimePoint since_ = kNever;  // kNever: none waits
  std::array<Part, kParts> parts_{};
};

// Time until a newcomer's turn. No rate, no estimate.
[[nodiscard]] std::optional<Duration> estimate_wait(std::uint64_t entries_ahead,
                                                    std::optional<double> per_second);

struct WaitLimits {
  TimePoint deadline = kNever;            // the client's, where believed
  Duration queue_wait = Duration::max();  // the class's
};
// At the door: may it join the queue? What is unknown never refuses. `first_event`: the usual time from
// dispatch to first event where known, so that only what can still be served in time is let in.
[[nodiscard]] bool may_wait(std::optional<Duration> estimate, TimePoint now, const WaitLimits& limits,
                            Duration first_event = Duration::zero());
// At dequeue: is it still worth a slot?
[[nodiscard]] constexpr bool worth_granting(TimePoint now, TimePoint deadline, TimePoint queue_deadline,
                                            Duration first_event = Duration::zero()) {
  return now < queue_deadline && (deadline == kNever || now + first_event < deadline);
}

// Seconds for the Retry-After field, at least 1: ceil(clamp(estimate, 1, 60) · U(0.8, 1.5)), `jitter` in
// [0, 1). An unknown estimate counts as 1 s.
[[nodiscard]] std::uint32_t retry_after(std::optional<Duration> estimate, double jitter);
// The jitter of one tenant in one second: the same client gets the same answer, different ones spread.
[[nodiscard]] double retry_jitter(std::uint64_t tenant_hash, TimePoint now);

}  // namespace perigee::admission
