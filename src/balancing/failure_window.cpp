// Buckets are moved by whoever comes first in a new one; who only looks leaves them alone.
#include "perigee/balancing/failure_window.h"

#include <algorithm>

namespace perigee::balancing {

void FailureWindow::set_length(Duration length) {
  const Duration bucket = std::max<Duration>(length / static_cast<std::int64_t>(kBuckets), Duration(1));
  if (bucket == bucket_) return;
  bucket_ = bucket;
  clear();
}

void FailureWindow::clear() {
  buckets_.fill({});
  edge_ = TimePoint::min();
}

FailureWindow::Counts FailureWindow::sum(TimePoint now) const {
  Counts sum;
  if (edge_ == TimePoint::min()) return sum;
  // Edges that have passed since anything was counted: so many of the oldest are over.
  const std::int64_t passed = now < edge_ ? 0 : (now - edge_) / bucket_ + 1;
  for (std::size_t age = 0; age < kBuckets; ++age) {
    if (static_cast<std::int64_t>(age) + passed >= static_cast<std::int64_t>(kBuckets)) break;
    sum += buckets_[(newest_ + kBuckets - age) % kBuckets];
  }
  return sum;
}

void FailureWindow::advance(TimePoint now) {
  const auto bucket_number = now.time_since_epoch() / bucket_;
  const TimePoint edge = TimePoint(Duration((bucket_number + 1) * bucket_.count()));
  const auto steps = edge_ == TimePoint::min() ? static_cast<std::int64_t>(kBuckets) : (edge - edge_) / bucket_;
  for (std::int64_t i = 0; i < std::min<std::int64_t>(steps, kBuckets); ++i) {
    newest_ = (newest_ + 1) % kBuckets;
    buckets_[newest_] = {};
  }
  edge_ = edge;
}

}  // namespace perigee::balancing
