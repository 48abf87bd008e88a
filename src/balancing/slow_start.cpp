#include "perigee/balancing/slow_start.h"

#include <algorithm>
#include <cmath>

namespace perigee::balancing {

double ramp(Duration t, const SlowStartOptions& options) {
  if (t >= options.window) return 1.0;
  if (t <= Duration::zero()) return options.floor;
  const double grown = std::pow(to_seconds(t) / to_seconds(options.window), 1.0 / options.aggression);
  return std::clamp(grown, options.floor, 1.0);
}

void SlowStart::begin() { phase_ = Phase::probation; }

bool SlowStart::on_success(TimePoint now) {
  if (phase_ != Phase::probation) return false;
  phase_ = Phase::ramp;
  start_ = now;
  return true;
}

double SlowStart::factor(TimePoint now) const {
  if (phase_ == Phase::full) return 1.0;
  return phase_ == Phase::probation ? options_.floor : ramp(now - start_, options_);
}

std::uint32_t SlowStart::limit(std::uint32_t slots, TimePoint now) const {
  if (phase_ == Phase::full) return std::max(slots, 1U);
  if (phase_ == Phase::probation) return 1;
  // The hair keeps next_step() honest: at the moment it names, rounding must not hold the slot back.
  return std::max(1U, static_cast<std::uint32_t>(factor(now) * slots + 1e-6));
}

TimePoint SlowStart::next_step(std::uint32_t slots, TimePoint now) const {
  if (phase_ != Phase::ramp) return kNever;
  const std::uint32_t held = limit(slots, now);
  if (held >= slots) return kNever;
  const double part = static_cast<double>(held + 1) / slots;
  const TimePoint step =
      start_ + from_seconds(to_seconds(options_.window) * std::pow(part, options_.aggression)) + Duration(1);
  return std::max(step, now + Duration(1));
}

}  // namespace perigee::balancing
