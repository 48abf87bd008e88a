// How many of a backend's recent answers were failures: ten exact buckets.
//
// Exact, because an average that decays with time hides a burst: answers a millisecond apart get next to no weight
// (linkerd's ring is exact for the same reason). Counted in halves of a request, because a stream that breaks after its
// first event has served its client for a while and counts half. Bucket edges are anchored on the clock, so a quiet
// window costs nothing; a success costs a compare and an addition. Pure; guarded by the dispatcher's lock.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "perigee/base/time.h"

namespace perigee::balancing {

class FailureWindow {
 public:
  static constexpr std::size_t kBuckets = 10;

  // In halves of a request. `doubtful`: failures that may be everybody's, a provider's most of all; not in `failed`.
  struct Counts {
    std::uint64_t total = 0;
    std::uint64_t failed = 0;
    std::uint64_t doubtful = 0;
    Counts& operator+=(const Counts& other) {
      total += other.total;
      failed += other.failed;
      doubtful += other.doubtful;
      return *this;
    }
    bool operator==(const Counts&) const = default;
  };
  static constexpr Counts kSuccess{2, 0, 0};
  static constexpr Counts kFailure{2, 2, 0};
  static constexpr Counts kDoubtful{2, 0, 2};
  // Of an exchange that was counted as a success at its first event.
  static constexpr Counts kLateFailure{0, 1, 0};
  static constexpr Counts kLateDoubtful{0, 0, 2};

  // A new length forgets what was counted.
  void set_length(Duration length);
  void add(const Counts& one, TimePoint now) {
    if (now >= edge_) advance(now);
    buckets_[newest_] += one;
  }
  void clear();
  [[nodiscard]] Counts sum(TimePoint now) const;

 private:
  void advance(TimePoint now);

  Duration bucket_ = std::chrono::seconds(1);
  std::array<Counts, kBuckets> buckets_{};
  std::size_t newest_ = 0;
  TimePoint edge_ = TimePoint::min();  // end of the newest bucket
};

}  // namespace perigee::balancing
