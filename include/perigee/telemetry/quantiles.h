// Quantiles of latencies: a log-linear histogram, and a ring of six that forgets after a minute.
//
// A bucket is the exponent and the top six mantissa bits of the value as a double: 64 buckets an
// octave from 2^-14 s (61 µs) to 2^10 s, every answer within 0.8 % of the truth, no logarithm taken.
// Values outside fall into the outermost buckets. The idea is that of HdrHistogram (G. Tene) and of
// OpenTelemetry's exponential histogram; merging is addition and exact (Masson et al., VLDB 2019).
// Pure and without locks: each object belongs to one thread. 6 KiB a histogram, 42 KiB a ring.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "perigee/base/time.h"

namespace perigee::telemetry {

inline constexpr std::size_t kQuantileBuckets = 24 * 64;

// Below so many samples a quantile is unknown, and nobody should act on it.
inline constexpr std::uint64_t kFewestSamples = 20;

constexpr std::size_t quantile_bucket(double seconds) {
  constexpr std::int64_t kFirst = (1023 - 14) * 64;
  // Negative values and NaN have large or negative bit patterns: both end in an outermost bucket.
  const std::int64_t index = (std::bit_cast<std::int64_t>(seconds) >> 46) - kFirst;
  return static_cast<std::size_t>(std::clamp<std::int64_t>(index, 0, kQuantileBuckets - 1));
}

// The middle of a bucket, in seconds.
constexpr double quantile_value(std::size_t bucket) {
  constexpr std::uint64_t kFirst = (1023 - 14) * 64;
  return std::bit_cast<double>(((kFirst + bucket) << 46) | (std::uint64_t{1} << 45));
}

class Histogram {
 public:
  void record(double seconds) { add(quantile_bucket(seconds), 1); }
  void add(std::size_t bucket, std::uint32_t samples) {
    counts_[bucket] += samples;
    total_ += samples;
  }
  void merge(const Histogram& other);
  // Takes away what was merged before; `other` must be a part of this one.
  void subtract(const Histogram& other);
  void clear();

  [[nodiscard]] std::uint64_t count() const { return total_; }
  [[nodiscard]] std::uint32_t count_in(std::size_t bucket) const { return counts_[bucket]; }
  // The sample of rank ceil(q * n), in seconds; q in (0, 1]. Unknown below kFewestSamples.
  [[nodiscard]] std::optional<double> quantile(double q) const;

  bool operator==(const Histogram&) const = default;

 private:
  std::array<std::uint32_t, kQuantileBuckets> counts_{};
  std::uint64_t total_ = 0;
};

// The last 50 to 60 seconds, in steps of ten.
class SlidingHistogram {
 public:
  static constexpr std::size_t kParts = 6;
  static constexpr Duration kPart = std::chrono::seconds(10);
  static constexpr Duration kAnswerLives = std::chrono::seconds(1);

  explicit SlidingHistogram(TimePoint now) : part_began_(now) {}

  void record(double seconds, TimePoint now) { add(quantile_bucket(seconds), 1, now); }
  void add(std::size_t bucket, std::uint32_t samples, TimePoint now);
  // Forgets what is too old. record() and quantile() do so themselves.
  void rotate(TimePoint now);

  [[nodiscard]] std::uint64_t count(TimePoint now);
  // As Histogram::quantile; an answer is kept for a second, so asking often is cheap.
  [[nodiscard]] std::optional<double> quantile(double q, TimePoint now);

 private:
  struct Answer {
    double q = 0;
    TimePoint until{};
    std::optional<double> value;
  };

  std::array<Histogram, kParts> parts_;
  Histogram sum_;
  std::size_t current_ = 0;
  TimePoint part_began_;
  std::array<Answer, 4> answers_{};
  std::size_t next_answer_ = 0;
};

}  // namespace perigee::telemetry
