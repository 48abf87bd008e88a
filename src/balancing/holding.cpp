// Two means of each backend decide together. The quick one (weight .1) sees within ten answers that a backend
// has become ten times slower; its own scatter hides anything finer. The steady one (weight .02) shows a
// factor of two after some fifty. A backend is called slow where either stands further above the least one
// than chance does in a month (five deviations, from the scatter that this pool's work really has), and fast
// again as soon as the quick one says so.
#include "perigee/balancing/holding.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <numbers>

#include "perigee/balancing/backend_load.h"

namespace perigee::balancing {
namespace {

constexpr double kQuickWeight = 0.1;
constexpr double kSteadyWeight = 0.02;
constexpr double kMeanWeight = 0.01;
constexpr double kDeviations = 5.0;
constexpr double kFreshDecays = 3.0;  // a sample younger than this many τ is recent
const double kLeastDifference = std::numbers::ln2 / 2;  // what rounds to a factor of two
const double kNoDifference = std::log(1.2);
constexpr int kMostDoublings = 10;
constexpr Duration kRateMemory = std::chrono::seconds(1);

// Variance of an exponentially weighted mean of `n` samples of variance 1 (a plain mean at first).
double scatter(double weight, std::uint32_t n) { return std::max(weight / (2 - weight), 1.0 / n); }

double weight_of(double weight, std::uint32_t n) { return std::max(weight, 1.0 / n); }

}  // namespace

void SpeedClasses::sample(ServiceSpeed& of, RequestClass c, Duration service, TimePoint now) {
  const double log_seconds = std::log(to_seconds(std::max(service, Duration(1000))));
  const auto learn = [&](Mean& mean) {
    mean.samples = std::min(mean.samples + 1, 1'000'000U);
    mean.log_seconds += weight_of(kMeanWeight, mean.samples) * (log_seconds - mean.log_seconds);
  };
  Mean& mean = means_[static_cast<std::size_t>(c)];
  learn(mean);
  learn(usual_);
  const double x = log_seconds - mean.log_seconds;
  of.samples_ = std::min(of.samples_ + 1, 1'000'000U);
  if (of.samples_ > 10) variance_ += kMeanWeight * ((x - of.quick_) * (x - of.quick_) - variance_);
  of.quick_ += weight_of(kQuickWeight, of.samples_) * (x - of.quick_);
  of.steady_ += weight_of(kSteadyWeight, of.samples_) * (x - of.steady_);
  of.last_sample_ = now;
}

// The lower one of two, over members with a recent sample where there are any, as SpeedModel has it.
SpeedClasses::Level SpeedClasses::median(std::span<const Member> members, TimePoint now) const {
  std::array<const ServiceSpeed*, kMaxBackends> found;
  std::size_t n = 0;
  for (const bool recent : {true, false}) {
    for (const Member& m : members) {
      const bool fresh = to_seconds(now - m.speed->last_sample_) < kFreshDecays * to_seconds(options_.decay);
      if (m.up && m.speed->samples_ != 0 && fresh == recent) found[n++] = m.speed;
    }
    if (n != 0) break;
  }
  if (n == 0) return {};
  const auto middle = found.begin() + static_cast<std::ptrdiff_t>((n - 1) / 2);
  std::nth_element(found.begin(), middle, found.begin() + static_cast<std::ptrdiff_t>(n),
                   [](const ServiceSpeed* a, const ServiceSpeed* b) { return a->quick_ < b->quick_; });
  return {(*middle)->quick_, (*middle)->steady_};
}

SpeedClasses::Level SpeedClasses::now_of(const ServiceSpeed& s, Level median, TimePoint now) const {
  const double keep = std::exp(-to_seconds(now - s.last_sample_) / to_seconds(options_.decay));
  return {median.quick + (s.quick_ - median.quick) * keep, median.steady + (s.steady_ - median.steady) * keep};
}

void SpeedClasses::classify(ServiceSpeed& s, Level above_least, std::uint32_t least_samples) const {
  const auto beyond_chance = [&](double difference, double weight) {
    const double deviation =
        std::sqrt(variance_ * (scatter(weight, s.samples_) + scatter(weight, least_samples)));
    return difference > std::max(kDeviations * deviation, kLeastDifference);
  };
  if (above_least.quick <= kNoDifference) {
    if (s.speed_ > 1) s.steady_ = s.quick_;  // what it was is over
    s.speed_ = 1;
    return;
  }
  if (s.speed_ == 1 && !beyond_chance(above_least.quick, kQuickWeight) &&
      !beyond_chance(above_least.steady, kSteadyWeight)) {
    return;
  }
  const auto doublings = static_cast<int>(std::lround(above_least.quick / std::numbers::ln2));
  s.speed_ = std::uint32_t{1} << std::clamp(doublings, 1, kMostDoublings);
}

bool SpeedClasses::review(std::span<const Member> members, TimePoint now) {
  assert(members.size() <= kMaxBackends);
  const double passed = to_seconds(std::max(now - reviewed_, Duration(1)));
  const double keep = std::exp(-passed / to_seconds(kRateMemory));
  reviewed_ = now;
  const Level middle = median(members, now);
  constexpr double kNone = std::numeric_limits<double>::infinity();
  Level least{kNone, kNone};
  std::uint32_t least_samples = 0;
  const ServiceSpeed* fastest = nullptr;
  bool same_yardstick = false;
  for (const Member& m : members) {
    ServiceSpeed& s = *m.speed;
    s.end_rate_ = keep * s.end_rate_ + (1 - keep) * s.ends_ / passed;
    s.ends_ = 0;
    if (!m.up || s.samples_ == 0) continue;
    const Level level = now_of(s, middle, now);
    same_yardstick = same_yardstick || &s == least_;
    if (level.quick < least.quick) {
      fastest = &s;
      least_samples = s.samples_;
    }
    least = {std::min(least.quick, level.quick), std::min(least.steady, level.steady)};
  }

  least_ = fastest;

  double fast_rate = 0;
  for (const Member& m : members) {
    ServiceSpeed& s = *m.speed;
    // Slow beside one that is gone is nothing yet beside another.
    if (!same_yardstick || !enabled() || !m.up || s.samples_ == 0) s.speed_ = 1;
    if (enabled() && m.up && s.samples_ != 0) {
      const Level level = now_of(s, middle, now);
      classify(s, {level.quick - least.quick, level.steady - least.steady}, least_samples);
    }
    if (m.up && s.speed_ == 1) fast_rate += s.end_rate_;
  }

  bool any = false;
  for (const Member& m : members) {
    ServiceSpeed& s = *m.speed;
    if (s.speed_ == 1) continue;
    any = true;
    const double level = now_of(s, middle, now).quick;
    const double saved = std::exp(usual_.log_seconds) * (std::exp(level) - std::exp(least.quick));
    s.patience_ = saved * fast_rate;
    s.needed_ = std::min(options_.hold * s.speed_, s.patience_);
    s.probe_due_ = now - s.last_start_ >= options_.probe;
  }
  return any;
}

}  // namespace perigee::balancing
