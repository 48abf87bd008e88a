// Histograms of latencies. See quantiles.h.
#include "perigee/telemetry/quantiles.h"

#include <cmath>

namespace perigee::telemetry {

void Histogram::merge(const Histogram& other) {
  for (std::size_t i = 0; i < kQuantileBuckets; ++i)
    counts_[i] += other.counts_[i];
  total_ += other.total_;
}

void Histogram::subtract(const Histogram& other) {
  for (std::size_t i = 0; i < kQuantileBuckets; ++i)
    counts_[i] -= other.counts_[i];
  total_ -= other.total_;
}

void Histogram::clear() {
  if (total_ == 0) return;
  counts_.fill(0);
  total_ = 0;
}

std::optional<double> Histogram::quantile(double q) const {
  if (total_ < kFewestSamples) return std::nullopt;
  const double wanted = std::ceil(std::clamp(q, 0.0, 1.0) * static_cast<double>(total_));
  const std::uint64_t rank = std::max<std::uint64_t>(1, static_cast<std::uint64_t>(wanted));
  std::uint64_t below = 0;
  for (std::size_t i = 0; i < kQuantileBuckets; ++i) {
    below += counts_[i];
    if (below >= rank) return quantile_value(i);
  }
  return quantile_value(kQuantileBuckets - 1);
}

void SlidingHistogram::add(std::size_t bucket, std::uint32_t samples, TimePoint now) {
  rotate(now);
  parts_[current_].add(bucket, samples);
  sum_.add(bucket, samples);
}

void SlidingHistogram::rotate(TimePoint now) {
  if (now - part_began_ < kPart) return;
  const std::int64_t passed = (now - part_began_) / kPart;
  const auto steps = static_cast<std::size_t>(std::min<std::int64_t>(passed, kParts));
  for (std::size_t i = 0; i < steps; ++i) {
    current_ = (current_ + 1) % kParts;
    if (parts_[current_].count() > 0) sum_.subtract(parts_[current_]);
    parts_[current_].clear();
  }
  part_began_ += passed * kPart;
}

std::uint64_t SlidingHistogram::count(TimePoint now) {
  rotate(now);
  return sum_.count();
}

std::optional<double> SlidingHistogram::quantile(double q, TimePoint now) {
  for (const Answer& answer : answers_) {
    if (answer.q == q && now < answer.until) return answer.value;
  }
  rotate(now);
  Answer& answer = answers_[next_answer_];
  next_answer_ = (next_answer_ + 1) % answers_.size();
  answer = {q, now + kAnswerLives, sum_.quantile(q)};
  return answer.value;
}

}  // namespace perigee::telemetry
