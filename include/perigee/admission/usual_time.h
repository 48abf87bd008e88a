// The usual time to first event of one class in one pool, from its newest samples: half of them, or nine of ten,
// were not longer.
//
// What a deadline is compared with: half, where a free place would be wasted otherwise; nine of ten, where
// somebody else can use the place. (In overload all that is served has waited as long as it may; compared with
// the median, half of that comes too late.) Until it has twenty samples it knows nothing, nor
// once none has come for five seconds: an estimate that closes the door must not keep itself alive. Under the
// dispatcher's lock; O(1) but for each eighth sample, which sorts half of 64 numbers.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "perigee/base/time.h"

namespace perigee::admission {

class UsualTime {
 public:
  void sample(Duration d, TimePoint now) {
    newest_[seen_ % kKept] = static_cast<float>(to_seconds(d));
    ++seen_;
    at_ = std::max(at_, now);
    if (seen_ >= kNeeded && seen_ % kEvery == kNeeded % kEvery) look();
  }
  [[nodiscard]] std::optional<Duration> median(TimePoint now) const { return known(median_, now); }
  [[nodiscard]] std::optional<Duration> nine_of_ten(TimePoint now) const { return known(nine_of_ten_, now); }

 private:
  static constexpr std::size_t kKept = 64;
  static constexpr std::uint32_t kNeeded = 20;
  static constexpr std::uint32_t kEvery = 8;
  static constexpr Duration kFresh = std::chrono::seconds(5);

  [[nodiscard]] std::optional<Duration> known(float seconds, TimePoint now) const {
    if (seen_ < kNeeded || now - at_ > kFresh) return std::nullopt;
    return from_seconds(static_cast<double>(seconds));
  }
  void look() {
    std::array<float, kKept> sorted = newest_;
    const auto n = static_cast<std::ptrdiff_t>(std::min<std::size_t>(seen_, kKept));
    const auto half = sorted.begin() + n / 2;
    const auto most = sorted.begin() + n * 9 / 10;
    std::nth_element(sorted.begin(), most, sorted.begin() + n);
    std::nth_element(sorted.begin(), half, most);
    median_ = *half;
    nine_of_ten_ = *most;
  }
  std::array<float, kKept> newest_{};
  std::uint64_t seen_ = 0;
  float median_ = 0;
  float nine_of_ten_ = 0;
  TimePoint at_{};
};

}  // namespace perigee::admission
