// See gcra.h.
#include "perigee/admission/gcra.h"

#include <algorithm>

namespace perigee::admission {

namespace {
constexpr std::size_t kFirstSlots = 256;
constexpr std::int64_t kDebtBursts = 10;

Duration times(Duration each, std::uint64_t n) {
  return each * static_cast<std::int64_t>(n);
}
}  // namespace

RateSpec RateSpec::of(std::uint64_t quota, Duration per, std::uint64_t burst) {
  const auto n = static_cast<std::int64_t>(quota);
  return {Duration((per.count() + n - 1) / n), burst, quota, per};
}

RateSpec RateSpec::part(std::uint32_t parts) const {
  RateSpec one = *this;
  one.each *= parts;
  one.burst = std::max<std::uint64_t>(1, burst / parts);
  return one;
}

RateAnswer gcra(const RateSpec& spec, TimePoint tat, TimePoint now, std::uint64_t n) {
  RateAnswer answer;
  const TimePoint from = std::max(tat, now);
  if (n > spec.burst) {
    answer.never = true;
    n = spec.burst;
  }
  const TimePoint next = from + times(spec.each, n);
  const TimePoint allow_at = next - spec.tolerance();
  answer.allowed = now >= allow_at && !answer.never;
  const TimePoint stands = answer.allowed ? next : from;
  answer.reset = stands - now;
  const Duration free = spec.tolerance() - answer.reset;
  answer.remaining = free > Duration::zero() ? static_cast<std::uint64_t>(free / spec.each) : 0;
  if (answer.remaining < spec.burst) answer.grows = spec.each * static_cast<std::int64_t>(answer.remaining + 1) - free;
  if (!answer.allowed) answer.retry_after = std::max(allow_at - now, Duration::zero());
  return answer;
}

TimePoint new_tat(const RateSpec& spec, TimePoint tat, TimePoint now, std::uint64_t n) {
  return std::max(tat, now) + times(spec.each, std::min(n, spec.burst));
}

TimePoint settled_tat(const RateSpec& spec, TimePoint tat, TimePoint now, std::int64_t more) {
  // Bounded before it is multiplied: an answer may claim any number.
  const std::int64_t most = kDebtBursts * static_cast<std::int64_t>(spec.burst);
  const TimePoint next = std::max(tat, now) + spec.each * std::clamp(more, -most, most);
  return std::clamp(next, now, now + spec.tolerance() * kDebtBursts);
}

GcraTable::GcraTable(std::size_t slots_max) : slots_max_(std::max(slots_max, kSet)) {}

GcraTable::Slot* GcraTable::set_of(std::uint64_t key) const {
  // Keys are hashes already; one that the caller chose badly is spread all the same.
  const std::uint64_t spread = (key ^ key >> 32U) * 0x9E3779B97F4A7C15ULL;
  return &table_[(spread >> 20U) % (slots_ / kSet) * kSet];
}

GcraTable::Slot* GcraTable::find(std::uint64_t key) {
  if (slots_ == 0) return nullptr;
  Slot* const set = set_of(key);
  for (std::size_t i = 0; i < kSet; ++i) {
    if (set[i].key == key) return &set[i];
  }
  return nullptr;
}

GcraTable::Slot& GcraTable::slot(std::uint64_t key, TimePoint now) {
  if (slots_ == 0) grow(now);
  for (;;) {
    Slot* const set = set_of(key);
    Slot* least = set;
    for (std::size_t i = 0; i < kSet; ++i) {
      if (set[i].key == key) return set[i];
      // A slot that was never used before one that has run out, so that means are kept for a while.
      const bool better = least->key != 0 && (set[i].key == 0 || set[i].tat < least->tat);
      if (better) least = &set[i];
    }
    if (least->key != 0 && least->tat > now) {
      if (slots_ < slots_max_) {
        grow(now);
        continue;
      }
      ++evicted_;
    }
    *least = {key, now, 0};
    return *least;
  }
}

void GcraTable::rescale(Duration each_before, Duration each_now, TimePoint now) {
  if (each_before == each_now || each_before <= Duration::zero()) return;
  const double factor = static_cast<double>(each_now.count()) / static_cast<double>(each_before.count());
  constexpr Duration kMost = std::chrono::hours(24 * 365 * 10);
  for (std::size_t i = 0; i < slots_; ++i) {
    if (table_[i].key == 0 || table_[i].tat <= now) continue;
    const double used = to_seconds(table_[i].tat - now) * factor;
    table_[i].tat = now + (used < to_seconds(kMost) ? from_seconds(used) : kMost);
  }
}

void GcraTable::grow(TimePoint now) {
  const std::size_t before = slots_;
  std::unique_ptr<Slot[]> old = std::move(table_);
  slots_ = std::min(slots_max_, before == 0 ? kFirstSlots : before * 4);
  table_ = std::make_unique<Slot[]>(slots_);
  for (std::size_t i = 0; i < before; ++i) {
    if (old[i].key == 0 || old[i].tat <= now) continue;
    Slot* const set = set_of(old[i].key);
    // Four times as many sets take what one held; were one full all the same, the least used gives way.
    Slot* least = set;
    for (std::size_t s = 1; s < kSet && least->key != 0; ++s) {
      if (set[s].key == 0 || set[s].tat < least->tat) least = &set[s];
    }
    if (least->key != 0) ++evicted_;
    if (least->key == 0 || least->tat < old[i].tat) *least = old[i];
  }
}

}  // namespace perigee::admission
