#include "perigee/coro/timer_wheel.h"

#include <bit>

namespace perigee::coro {

namespace {
constexpr std::uint64_t kNoTick = ~std::uint64_t{0};
}

TimerWheel::TimerWheel(TimePoint now) : start_(now) {}

void TimerWheel::arm(Timer& timer, TimePoint due) {
  timer.unlink();
  // Rounded up, so that a timer never fires early; at the earliest in the next tick, so that a timer
  // armed by a firing one cannot keep advance() busy for ever.
  const auto since = due <= start_ ? Duration::zero() : due - start_;
  const auto tick = static_cast<std::uint64_t>((since.count() + kTick.count() - 1) / kTick.count());
  timer.due_tick_ = tick > tick_ ? tick : tick_ + 1;
  place(timer);
}

void TimerWheel::place(Timer& timer) {
  const std::uint64_t distance = timer.due_tick_ - tick_;
  unsigned level = 0;
  while (level + 1 < kLevels && distance >= (std::uint64_t{1} << (kSlotBits * (level + 1)))) ++level;
  std::uint64_t tick = timer.due_tick_;
  const std::uint64_t reach = std::uint64_t{1} << (kSlotBits * kLevels);
  if (distance >= reach) tick = tick_ + reach - 1;  // parked; cascades bring it here again
  const auto slot = static_cast<unsigned>(tick >> (kSlotBits * level)) & (kSlots - 1);
  levels_[level].slots[slot].push_back(timer);
  levels_[level].used |= std::uint64_t{1} << slot;
}

// Redistributes the slot of `level` that begins at the current tick.
void TimerWheel::cascade(unsigned level) {
  const auto slot = static_cast<unsigned>(tick_ >> (kSlotBits * level)) & (kSlots - 1);
  Level& from = levels_[level];
  if (((from.used >> slot) & 1U) == 0) return;
  from.used &= ~(std::uint64_t{1} << slot);
  IntrusiveList<TimerTag> timers;
  timers.splice_back(from.slots[slot]);
  while (auto* timer = timers.pop_front<Timer>()) place(*timer);
}

std::uint64_t TimerWheel::next_tick_of(unsigned level) const {
  const Level& l = levels_[level];
  const std::uint64_t position = tick_ >> (kSlotBits * level);
  while (l.used != 0) {
    // Slots after the current one in the order in which they will come up; the current one comes last.
    const auto shift = static_cast<int>((position + 1) & (kSlots - 1));
    const auto ahead = static_cast<unsigned>(std::countr_zero(std::rotr(l.used, shift)));
    const std::uint64_t at = position + 1 + ahead;
    const auto slot = static_cast<unsigned>(at) & (kSlots - 1);
    if (!l.slots[slot].empty()) return at << (kSlotBits * level);
    l.used &= ~(std::uint64_t{1} << slot);
  }
  return kNoTick;
}

std::uint64_t TimerWheel::next_tick() const {
  std::uint64_t next = kNoTick;
  for (unsigned level = 0; level < kLevels; ++level) {
    const std::uint64_t at = next_tick_of(level);
    if (at < next) next = at;
  }
  return next;
}

TimePoint TimerWheel::next_due() const {
  const std::uint64_t tick = next_tick();
  if (tick == kNoTick) return kNever;
  return start_ + kTick * static_cast<std::int64_t>(tick);
}

void TimerWheel::advance(TimePoint now) {
  if (now <= start_) return;
  const auto target = static_cast<std::uint64_t>((now - start_) / kTick);
  while (tick_ < target) {
    const std::uint64_t next = next_tick();
    if (next > target) {
      tick_ = target;
      return;
    }
    tick_ = next;
    for (unsigned level = kLevels - 1; level > 0; --level) {
      if ((tick_ & ((std::uint64_t{1} << (kSlotBits * level)) - 1)) == 0) cascade(level);
    }
    const auto slot = static_cast<unsigned>(tick_) & (kSlots - 1);
    // A firing timer re-arms at the next tick at the earliest, so that this list only shrinks, unless
    // it is re-armed a whole turn of the wheel ahead; those stand behind the mark.
    IntrusiveList<TimerTag> due;
    levels_[0].used &= ~(std::uint64_t{1} << slot);
    due.splice_back(levels_[0].slots[slot]);
    while (auto* timer = due.pop_front<Timer>()) timer->fire_(*timer);
  }
}

}  // namespace perigee::coro
