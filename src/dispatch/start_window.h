// How many tickets are *starting*: granted within the last second and still before their first event.
//
// Kept as a ring of sixteen sixteenths of a second, so that a ticket ages out by itself (after 0.94 to 1 s)
// and nothing has to be remembered of it but the time it was granted.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "perigee/base/time.h"

namespace perigee::dispatch {

class StartWindow {
 public:
  void start(TimePoint now) {
    advance(now);
    ++ring_[place(newest_)];
    ++total_;
  }
  // The ticket granted at `granted` is past its first event, or over. At most once for each start().
  void done(TimePoint granted, TimePoint now) {
    advance(now);
    const std::int64_t bucket = bucket_of(granted);
    if (bucket <= newest_ - kBuckets || ring_[place(bucket)] == 0) return;
    --ring_[place(bucket)];
    --total_;
  }
  std::uint32_t count(TimePoint now) {
    advance(now);
    return total_;
  }
  // When the oldest one ages out; kNever where there is none.
  [[nodiscard]] TimePoint next_change() const {
    for (std::int64_t b = newest_ - kBuckets + 1; b <= newest_; ++b) {
      if (ring_[place(b)] != 0) return TimePoint(kWidth * (b + kBuckets));
    }
    return kNever;
  }

 private:
  static constexpr std::int64_t kBuckets = 16;
  static constexpr Duration kWidth = std::chrono::nanoseconds(62'500'000);
  static std::int64_t bucket_of(TimePoint t) { return t.time_since_epoch() / kWidth; }
  static std::size_t place(std::int64_t bucket) { return static_cast<std::size_t>(bucket) % kBuckets; }

  void advance(TimePoint now) {
    const std::int64_t bucket = bucket_of(now);
    if (bucket - newest_ >= kBuckets) {
      if (total_ != 0) ring_.fill(0);
      total_ = 0;
      newest_ = bucket;
    }
    while (newest_ < bucket) {
      std::uint32_t& oldest = ring_[place(++newest_)];
      total_ -= oldest;
      oldest = 0;
    }
  }

  std::int64_t newest_ = 0;
  std::uint32_t total_ = 0;
  std::array<std::uint32_t, kBuckets> ring_{};
};

}  // namespace perigee::dispatch
