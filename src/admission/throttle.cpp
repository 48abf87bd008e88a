// From what a machine uses to what it does not take on. See throttle.h.
#include "perigee/admission/throttle.h"

#include <algorithm>
#include <cmath>

namespace perigee::admission {

namespace {

// Quota: periods in which the group was stopped.
constexpr double kQuotaSoft = 0.10;
constexpr double kQuotaHard = 0.30;
// Shares of stalled time that count as being above the soft mark.
constexpr double kCpuPressure = 0.40;
constexpr double kMemoryPressure = 0.10;
constexpr double kMemoryFullPressure = 0.05;
constexpr double kIoPressure = 0.30;
// At the soft mark itself something is done already.
constexpr double kLeastLevel = 0.01;
// Short of saturation: one look at the hard mark may be a mistake.
constexpr double kUnsaturated = 0.99;
constexpr Duration kCalmFor = std::chrono::seconds(5);

constexpr double kNoRetriesAbove = 0.4;
constexpr double kFewerStreamsAbove = 0.6;
// The curve passes the ranks of low (80) at .585 and of normal (40) at .843.
constexpr double kLowRefusedFrom = 0.6;
// One look at memory's hard mark refuses low priority and nobody else; so does the way back.
constexpr double kUnsaturatedRefusal = 0.8;
constexpr double kStandingFrom = 0.5;

double ramp(double y, double soft, double hard) {
  if (y < soft) return 0;
  if (hard <= soft) return 1;
  return std::clamp((y - soft) / (hard - soft), kLeastLevel, 1.0);
}

double ramp(const std::optional<double>& y, double soft, double hard) { return y ? ramp(*y, soft, hard) : 0; }

std::int64_t half_second_of(TimePoint t) { return t.time_since_epoch() / std::chrono::milliseconds(500); }
std::int64_t second_of(TimePoint t) { return t.time_since_epoch() / std::chrono::seconds(1); }

}  // namespace

unsigned shed_rank(Priority priority, bool retry) {
  constexpr std::array<unsigned, kPriorityCount> kRanks = {1, 20, 40, 80};
  const unsigned rank = kRanks[static_cast<std::size_t>(priority)];
  return retry && priority != Priority::critical ? rank + 10 : rank;
}

double shed_above(double x) {
  const double high = 30;  // a high one that is tried again
  return std::max(high, 100.0 * (1.0 - x * x * x));
}

// --- smoothing and holding ----------------------------------------------------------------------------------------

void HalfLifeMean::add(const std::optional<double>& sample, TimePoint now) {
  if (!sample) return;
  if (!value(now)) {
    mean_ = *sample;
  } else {
    const double keep = std::exp2(-to_seconds(now - at_) / to_seconds(half_life_));
    mean_ = keep * *mean_ + (1 - keep) * *sample;
  }
  at_ = now;
}

std::optional<double> HalfLifeMean::value(TimePoint now) const {
  return mean_ && now - at_ <= kStale ? mean_ : std::nullopt;
}

double HeldLevel::update(double raw, TimePoint now) {
  const std::int64_t number = half_second_of(now);
  Part& part = parts_[static_cast<std::size_t>(number) % kParts];
  if (part.number != number) part = {number, raw};
  part.most = std::max(part.most, raw);
  double held = 0;
  for (const Part& p : parts_) {
    if (p.number > number - static_cast<std::int64_t>(kParts)) held = std::max(held, p.most);
  }
  const double fallen = x_ - kFallPerSecond * std::max(0.0, to_seconds(now - at_));
  x_ = std::max({held, fallen, 0.0});
  at_ = now;
  return x_;
}

// --- the machine --------------------------------------------------------------------------------------------------

double Throttle::Resource::raw(double ramp, TimePoint now) {
  at_hard = ramp >= 1 ? at_hard + 1 : 0;
  if (at_hard >= 2) saturated = true;
  if (ramp > 0) low_since = kNever;
  else if (low_since == kNever) low_since = now;
  if (low_since != kNever && now - low_since >= kCalmFor) saturated = false;
  return saturated ? 1.0 : std::min(ramp, kUnsaturated);
}

void Throttle::look_at_pressure(const ResourceSample& sample, TimePoint now) {
  struct Kind {
    const std::optional<double>& sample;
    double mark;
    ThrottleCause cause;
  };
  const std::array<Kind, 4> kinds = {{{sample.cpu_pressure, kCpuPressure, ThrottleCause::cpu_pressure},
                                      {sample.memory_pressure, kMemoryPressure, ThrottleCause::memory_pressure},
                                      {sample.memory_full_pressure, kMemoryFullPressure, ThrottleCause::memory_pressure},
                                      {sample.io_pressure, kIoPressure, ThrottleCause::io_pressure}}};
  double raw = 0;
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    pressure_[i].add(kinds[i].sample, now);
    const auto mean = pressure_[i].value(now);
    if (!mean || *mean < kinds[i].mark) continue;
    raw = kLeastLevel;
    if (state_.cause == ThrottleCause::none) state_.cause = kinds[i].cause;
  }
  state_.pressure_level = pressure_level_.update(raw, now);
}

// Memory above its hard mark refuses by itself; CPU only together with a queue that stands.
void Throttle::decide_refusals(TimePoint now) {
  double of_memory = 0;
  if (memory_resource_.at_hard > 0) memory_refuses_ = true;
  if (memory_refuses_) {
    of_memory = memory_resource_.saturated ? 1.0 : std::min(state_.memory_level, kUnsaturatedRefusal);
    if (of_memory < kLowRefusedFrom) memory_refuses_ = false;
  }
  double of_queue = 0;
  if (cpu_resource_.saturated && state_.standing >= kStandingFrom) {
    const double part = (std::min(state_.standing, 1.0) - kStandingFrom) / (1 - kStandingFrom);
    of_queue = kLowRefusedFrom + (1 - kLowRefusedFrom) * part;
  }
  of_queue = queue_level_.update(of_queue, now);
  state_.refusing_level = std::max(memory_refuses_ ? of_memory : 0.0, of_queue >= kLowRefusedFrom ? of_queue : 0.0);
}

const ThrottleState& Throttle::update(const ResourceSample& sample, double standing, TimePoint now) {
  if (!marks_.enabled) return state_ = ThrottleState();
  cpu_.add(sample.cpu, now);
  quota_.add(sample.cpu_quota, now);
  state_.cpu = cpu_.value(now);
  state_.standing = standing;
  state_.cause = ThrottleCause::none;

  const double by_use = ramp(state_.cpu, marks_.cpu, marks_.cpu_hard);
  const double by_quota = ramp(quota_.value(now), kQuotaSoft, kQuotaHard);
  const double by_memory = ramp(sample.memory, marks_.memory, marks_.memory_hard);
  state_.cpu_level = cpu_resource_.level.update(cpu_resource_.raw(std::max(by_use, by_quota), now), now);
  state_.memory_level = memory_resource_.level.update(memory_resource_.raw(by_memory, now), now);
  if (state_.memory_level > 0 && state_.memory_level >= state_.cpu_level) state_.cause = ThrottleCause::memory;
  else if (state_.cpu_level > 0) state_.cause = by_quota > by_use ? ThrottleCause::cpu_quota : ThrottleCause::cpu;
  look_at_pressure(sample, now);
  state_.level = std::max({state_.cpu_level, state_.memory_level, state_.pressure_level});
  decide_refusals(now);

  ThrottleOrders& orders = state_.orders;
  orders.above_soft = state_.level > 0;
  orders.no_retries = state_.level > kNoRetriesAbove;
  orders.halve_streams = state_.memory_level > kFewerStreamsAbove;
  orders.refuse_above = kMostRank;
  if (state_.refusing_level > 0) orders.refuse_above = static_cast<std::uint8_t>(shed_above(state_.refusing_level));
  state_.step = shed_rank(Priority::normal, false) > orders.refuse_above ? ThrottleStep::normal_refused
                : shed_rank(Priority::low, false) > orders.refuse_above  ? ThrottleStep::low_refused
                : orders.halve_streams                                   ? ThrottleStep::fewer_streams
                : orders.no_retries                                      ? ThrottleStep::no_retries
                : orders.above_soft                                      ? ThrottleStep::low_waits
                                                                         : ThrottleStep::calm;
  return state_;
}

// --- the queue ------------------------------------------------------------------------------------------------------

void StandingQueue::begin(TimePoint now) {
  seconds_ = {};
  since_ = now;
}

void StandingQueue::note(RequestClass c, double share, TimePoint now) {
  const std::int64_t number = second_of(now);
  Second& second = seconds_[static_cast<std::size_t>(number) % kSeconds];
  if (second.number != number) {
    second.number = number;
    second.least.fill(kNothing);
  }
  float& least = second.least[static_cast<std::size_t>(c)];
  least = std::min(least, static_cast<float>(share));
}

double StandingQueue::share(TimePoint now) const {
  if (now - since_ < std::chrono::seconds(kSeconds)) return 0;
  const std::int64_t oldest = second_of(now) - static_cast<std::int64_t>(kSeconds) + 1;
  float most = 0;
  for (std::size_t c = 0; c < kClassCount; ++c) {
    float least = kNothing;
    for (const Second& second : seconds_) {
      if (second.number >= oldest) least = std::min(least, second.least[c]);
    }
    if (least < kNothing) most = std::max(most, least);
  }
  return most;
}

// --- one worker -----------------------------------------------------------------------------------------------------

bool WorkerHeat::update(std::optional<double> cpu, std::optional<double> memory, double memory_mark) {
  if (cpu) {
    looks_ = *cpu >= kHotCpu ? looks_ + 1 : 0;
    if (looks_ >= 2) cpu_hot_ = true;
    if (*cpu < kColdCpu) cpu_hot_ = false;
  }
  if (memory) {
    if (*memory >= memory_mark) memory_hot_ = true;
    if (*memory < memory_mark - kMemoryStep) memory_hot_ = false;
  }
  return hot();
}

bool MemoryDeath::update(std::optional<std::uint64_t> kills, bool gone, bool shared, TimePoint now) {
  if (kills && kills_ && *kills > *kills_) killed_at_ = now;
  if (kills) kills_ = kills;  // a counter that went back belongs to a new group
  if (gone) gone_at_ = now;
  const auto lately = [&](TimePoint at) { return at != kNever && now - at <= kTogether; };
  if (!lately(killed_at_) || (shared && !lately(gone_at_))) return false;
  killed_at_ = gone_at_ = kNever;
  return true;
}

}  // namespace perigee::admission
