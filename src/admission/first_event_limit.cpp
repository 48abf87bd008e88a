// The median, not a tail: exponential service has a 90th percentile of 3.3 medians with no load at all. And the
// median of quiet windows, not their least one, which small windows bias.
#include "perigee/admission/first_event_limit.h"

#include <algorithm>
#include <cmath>

namespace perigee::admission {
namespace {

constexpr Duration kWindow = std::chrono::seconds(1);
constexpr Duration kSearchWindow = std::chrono::milliseconds(100);
constexpr Duration kStale = std::chrono::seconds(30);  // a window with too few samples says nothing
constexpr Duration kMemory = std::chrono::minutes(10);
constexpr std::uint32_t kEventsNeeded = 10;
constexpr std::uint32_t kSearchNeeded = 30;  // the median of ten is off by a third now and then
constexpr std::uint32_t kQuietNeeded = 10;
constexpr std::uint32_t kWindowsAtLeast = 5;
constexpr double kCongested = 2.5;
constexpr double kCut = 0.9;
constexpr double kSearchSlots = 2;

}  // namespace

FirstEventLimit::FirstEventLimit(const FirstEventLimitConfig& config, TimePoint now)
    : config_(config), slots_(std::clamp(config.start, config.least, config.most)),
      base_(to_seconds(config.objective) / 2), climbing_(config.objective == Duration::zero()), window_(now) {}

void FirstEventLimit::configure(double most, Duration objective) {
  config_.most = std::max(most, config_.least);
  slots_ = std::min(slots_, config_.most);
  if (objective == config_.objective) return;
  config_.objective = objective;
  if (quiet_windows_ < kQuietNeeded) base_ = to_seconds(objective) / 2;
}

bool FirstEventLimit::on_sample(TimePoint now, Duration took, std::uint32_t in_flight) {
  seconds_[samples_ % kSamples] = static_cast<float>(to_seconds(std::max(took, Duration(1))));
  ++samples_;
  ++events_;
  return close_if_due(now, in_flight);
}

bool FirstEventLimit::on_overload(TimePoint now, std::uint32_t in_flight) {
  overloaded_ = true;
  ++events_;
  return close_if_due(now, in_flight);
}

void FirstEventLimit::begin_window(TimePoint now, std::uint32_t in_flight) {
  window_ = now;
  most_in_flight_ = in_flight;
  events_ = samples_ = 0;
  overloaded_ = false;
}

double FirstEventLimit::median() {
  const std::size_t n = std::min<std::size_t>(samples_, kSamples);
  if (n == 0) return 0;
  const auto middle = seconds_.begin() + static_cast<std::ptrdiff_t>(n / 2);
  std::nth_element(seconds_.begin(), middle, seconds_.begin() + static_cast<std::ptrdiff_t>(n));
  return static_cast<double>(*middle);
}

bool FirstEventLimit::close_if_due(TimePoint now, std::uint32_t in_flight) {
  const bool searching = base_ == 0;
  const bool enough = events_ >= (searching && !overloaded_ ? kSearchNeeded : kEventsNeeded);
  if (!enough || now - window_ < (searching ? kSearchWindow : kWindow)) {
    if (now - window_ >= kStale) begin_window(now, in_flight);
    return false;
  }
  const double took = median();
  const bool quiet = most_in_flight_ <= std::max(kSearchSlots, slots_ / 2);
  if (took > 0 && quiet && !overloaded_) learn_base(now, took);
  const double before = slots_;
  if (base_ == 0) search();
  else steer(took);
  begin_window(now, in_flight);
  return slots_ != before;
}

// Too much runs to tell what little would take.
void FirstEventLimit::search() {
  slots_ = std::clamp(std::floor(slots_ / 2), std::max(std::min(kSearchSlots, config_.most), config_.least), config_.most);
}

void FirstEventLimit::steer(double median) {
  if (overloaded_ || median > kCongested * base_) {
    climbing_ = false;
    ++cuts_;
    slots_ = std::max(config_.least, std::floor(kCut * slots_));
  } else if (!growth_held_ && most_in_flight_ >= slots_ / 2) {
    // What is unknown is found by doubling; the first congestion ends that.
    const bool far = climbing_ && median < 1.5 * base_;
    slots_ = std::min(config_.most, far ? 2 * slots_ : slots_ + 1);
  }
  at_least_ = slots_ <= config_.least ? at_least_ + 1 : 0;
  if (at_least_ < kWindowsAtLeast) return;
  // Congested with next to nothing running: the worker itself has become slower. It is measured anew.
  at_least_ = 0;
  quiet_windows_ = 0;
  climbing_ = true;
  base_ = to_seconds(config_.objective) / 2;
}

void FirstEventLimit::learn_base(TimePoint now, double median) {
  quiet_[quiet_windows_++ % kQuiet] = {now, median};
  if (quiet_windows_ < kQuietNeeded && config_.objective != Duration::zero()) return;
  std::array<double, kQuiet> recent;
  std::size_t n = 0;
  for (std::size_t i = 0; i < std::min<std::size_t>(quiet_windows_, kQuiet); ++i) {
    if (now - quiet_[i].at <= kMemory) recent[n++] = quiet_[i].median;
  }
  const auto middle = recent.begin() + static_cast<std::ptrdiff_t>((n - 1) / 2);
  std::nth_element(recent.begin(), middle, recent.begin() + static_cast<std::ptrdiff_t>(n));
  base_ = *middle;
}

}  // namespace perigee::admission
