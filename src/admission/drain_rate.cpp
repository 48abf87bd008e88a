#include "perigee/admission/drain_rate.h"

#include <cmath>

#include "perigee/base/random.h"

namespace perigee::admission {

void DrainRate::advance(TimePoint now) {
  if (waiting_ && now > at_) {
    const double keep = std::exp(-to_seconds(now - at_) / kTau);
    rate_ *= keep;
    weight_ = 1.0 - (1.0 - weight_) * keep;
  }
  at_ = std::max(at_, now);
}

void DrainRate::set_waiting(bool somebody_waits, TimePoint now) {
  if (somebody_waits == waiting_) return;
  advance(now);
  waiting_ = somebody_waits;
}

void DrainRate::on_grant(TimePoint now) {
  if (!waiting_) return;
  advance(now);
  rate_ += 1.0 / kTau;
  if (grants_ < kGrantsNeeded) ++grants_;
}

std::optional<double> DrainRate::per_second(TimePoint now, double sum_of_paces) const {
  DrainRate then = *this;
  then.advance(now);
  // Twenty grants in one instant are no measurement either: some waiting time must have been seen.
  if (grants_ >= kGrantsNeeded && then.weight_ > 0.01) return then.rate_ / then.weight_;
  if (sum_of_paces > 0) return sum_of_paces;
  return std::nullopt;
}

void OwnRate::set_waiting(bool any_waits, TimePoint now) {
  if (any_waits == (since_ != kNever)) return;
  since_ = any_waits ? now : kNever;
  if (any_waits) parts_ = {};
}

void OwnRate::on_grant(TimePoint now) {
  if (since_ == kNever) return;
  const std::int64_t number = now.time_since_epoch() / kPart;
  Part& part = parts_[static_cast<std::size_t>(number) % kParts];
  if (part.number != number) part = {number, 0};
  ++part.grants;
}

std::optional<double> OwnRate::per_second(TimePoint now) const {
  if (since_ == kNever || now - since_ < kLeast) return std::nullopt;
  const std::int64_t oldest = now.time_since_epoch() / kPart - static_cast<std::int64_t>(kParts) + 1;
  std::uint64_t grants = 0;
  for (const Part& part : parts_) {
    if (part.number >= oldest) grants += part.grants;
  }
  return static_cast<double>(grants) / to_seconds(now - std::max(since_, TimePoint(oldest * kPart)));
}

std::optional<Duration> estimate_wait(std::uint64_t entries_ahead, std::optional<double> per_second) {
  if (entries_ahead == 0) return Duration::zero();
  if (!per_second) return std::nullopt;
  // A day stands for "never": far beyond every queue_wait, and safe to add to.
  constexpr double kLongest = 86400.0;
  const double seconds = static_cast<double>(entries_ahead) / std::max(*per_second, 1e-9);
  return from_seconds(std::min(seconds, kLongest));
}

bool may_wait(std::optional<Duration> estimate, TimePoint now, const WaitLimits& limits,
              Duration first_event) {
  if (!estimate) return true;
  if (*estimate > limits.queue_wait) return false;
  return limits.deadline == kNever || *estimate + first_event <= limits.deadline - now;
}

std::uint32_t retry_after(std::optional<Duration> estimate, double jitter) {
  const double seconds = std::clamp(to_seconds(estimate.value_or(Duration::zero())), 1.0, 60.0);
  return static_cast<std::uint32_t>(std::ceil(seconds * (0.8 + 0.7 * jitter)));
}

double retry_jitter(std::uint64_t tenant_hash, TimePoint now) {
  const auto second = std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count();
  const std::uint64_t both = mix(tenant_hash + static_cast<std::uint64_t>(second) * 0x9E3779B97F4A7C15ULL);
  return static_cast<double>(both >> 11) * 0x1.0p-53;
}

}  // namespace perigee::admission
