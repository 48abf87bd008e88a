// Counting is integers, so that it returns to exactly zero; learning is an EWMA of normalised samples.
//
// Two things differ from the textbook form. The mean of a class starts as a plain mean (weight 1/n until
// that reaches 1/100): else its first sample, often a cold start, would be the yardstick for a hundred
// requests. And the median towards which estimates decay is the lower one, over backends with a recent
// sample where there are any: with two backends the mean of both would never let a stale one go.
#include "perigee/balancing/backend_load.h"

#include <algorithm>
#include <cassert>
#include <cmath>

namespace perigee::balancing {
namespace {

constexpr double kMeanWeight = 0.01;
constexpr double kMeanUnknown = 1.0;  // seconds; only to scale a penalty before the first sample
constexpr double kFreshDecays = 3.0;  // a sample younger than this many τ is recent

std::size_t index(RequestClass c) { return static_cast<std::size_t>(c); }

}  // namespace

double CostModel::of(RequestClass c, std::uint64_t body_bytes) const {
  double cost = weight[index(c)];
  if (const double unit = bytes_per_unit[index(c)]; unit > 0) cost += static_cast<double>(body_bytes) / unit;
  return std::min(cost, kMaxCost);
}

// Found on three serial-loop workers (tests/balancing/orbit_selection_test.cpp). A chat burns its CPU around
// its head and then waits for the model, so most of its cost is gone with the head: counting it fully until
// the first event makes the provider's moods look like load. A longer prompt costs CPU by the character.
CostModel orbit_costs() {
  CostModel model;
  model.weight.fill(1.0);
  model.bytes_per_unit[index(RequestClass::chat)] = 16.0 * 1024;
  model.after_head = 0.2;
  model.stream = 0.05;
  return model;
}

CostModel waiting_costs() {
  CostModel model;
  model.weight.fill(1.0);
  model.weight[index(RequestClass::search)] = 2.0;
  model.weight[index(RequestClass::chat)] = 0.2;
  model.stream = 0.02;
  return model;
}

LoadShare BackendLoad::begin(RequestClass c, double cost) {
  assert(cost >= 0.0 && cost <= kMaxCost);
  const LoadShare share{c, LoadShare::Phase::pending, static_cast<std::uint32_t>(cost * kCostScale + 0.5)};
  ++pending_[index(c)];
  ++pending_total_;
  pending_cost_ += share.cost;
  return share;
}

void BackendLoad::head(LoadShare& share, double left) {
  assert(left >= 0.0 && left <= 1.0);
  if (share.phase != LoadShare::Phase::pending) return;
  const auto remaining = static_cast<std::uint32_t>(share.cost * left + 0.5);
  pending_cost_ -= share.cost - remaining;
  share.cost = remaining;
  share.phase = LoadShare::Phase::headed;
}

void BackendLoad::first_event(LoadShare& share) {
  if (share.phase != LoadShare::Phase::pending && share.phase != LoadShare::Phase::headed) return;
  --pending_[index(share.request_class)];
  --pending_total_;
  pending_cost_ -= share.cost;
  ++streams_;
  share.phase = LoadShare::Phase::streaming;
}

void BackendLoad::end(LoadShare& share) {
  if (share.phase == LoadShare::Phase::none) return;
  first_event(share);
  --streams_;
  share.phase = LoadShare::Phase::none;
}

void SpeedModel::sample(BackendLoad& load, RequestClass c, Duration first_event, TimePoint now) {
  const double seconds = to_seconds(std::max(first_event, Duration(1)));
  Mean& mean = means_[index(c)];
  ++mean.samples;
  const double weight = mean.samples < 100 ? 1.0 / mean.samples : kMeanWeight;
  if (mean.samples == 0) mean.samples = 100;  // wrapped around after 2^32
  mean.seconds += weight * (seconds - mean.seconds);
  learn(load, seconds / mean.seconds, now);
}

void SpeedModel::failure(BackendLoad& load, RequestClass c, Duration retry_after, TimePoint now) {
  const double seconds = to_seconds(std::clamp(retry_after, options_.penalty, options_.penalty_max));
  const Mean& mean = means_[index(c)];
  const double value = seconds / (mean.samples > 0 ? mean.seconds : kMeanUnknown);
  learn(load, std::max(value, load.learned_.load(std::memory_order_relaxed)), now);
}

Duration SpeedModel::mean(RequestClass c) const { return from_seconds(means_[index(c)].seconds); }

void SpeedModel::learn(BackendLoad& load, double value, TimePoint now) const {
  const std::int64_t stamp = load.stamp_.load(std::memory_order_relaxed);
  double keep = 0.0;  // the first sample is the estimate
  if (stamp != BackendLoad::kUnsampled) {
    const std::int64_t age = std::max<std::int64_t>(0, now.time_since_epoch().count() - stamp);
    keep = std::exp(-static_cast<double>(age) / static_cast<double>(options_.decay.count()));
  }
  const double before = load.learned_.load(std::memory_order_relaxed);
  load.learned_.store(keep * before + (1.0 - keep) * value, std::memory_order_relaxed);
  load.stamp_.store(now.time_since_epoch().count(), std::memory_order_relaxed);
}

void SpeedModel::refresh(std::span<const Member> members, TimePoint now) const {
  assert(members.size() <= kMaxBackends);
  const double tau = static_cast<double>(options_.decay.count());
  const auto age_of = [&](const BackendLoad& load) {
    const std::int64_t stamp = load.stamp_.load(std::memory_order_relaxed);
    if (stamp == BackendLoad::kUnsampled) return -1.0;
    return static_cast<double>(std::max<std::int64_t>(0, now.time_since_epoch().count() - stamp)) / tau;
  };

  std::array<double, kMaxBackends> recent;
  std::array<double, kMaxBackends> stale;
  std::size_t recent_count = 0;
  std::size_t stale_count = 0;
  for (const Member& member : members) {
    const double age = age_of(*member.load);
    if (!member.eligible || age < 0) continue;
    const double learned = member.load->learned_.load(std::memory_order_relaxed);
    if (age < kFreshDecays) recent[recent_count++] = learned;
    else stale[stale_count++] = learned;
  }
  double median = 1.0;
  if (recent_count + stale_count > 0) {
    auto& values = recent_count > 0 ? recent : stale;
    const std::size_t count = recent_count > 0 ? recent_count : stale_count;
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>((count - 1) / 2);
    std::nth_element(values.begin(), middle, values.begin() + static_cast<std::ptrdiff_t>(count));
    median = *middle;
  }

  for (const Member& member : members) {
    const double age = age_of(*member.load);
    double estimate = median;
    if (age >= 0) {
      const double learned = member.load->learned_.load(std::memory_order_relaxed);
      estimate = median + (learned - median) * std::exp(-age);
    }
    member.load->slowness_.store(estimate, std::memory_order_relaxed);
  }
}

}  // namespace perigee::balancing
