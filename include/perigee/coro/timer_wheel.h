// Timers in O(1): a hierarchical wheel (Varghese and Lauck, SOSP 1987).
//
// Five levels of 64 slots over ticks of one millisecond reach 12 days; what lies further is parked in the
// last slot and looked at again. A bitmap per level finds the next slot in use, so that an idle process
// sleeps. Arming is a few instructions, but cheaper still is not to: see Deadline in coro/deadline.h,
// which only notes a later time and re-arms when the old one fires.
#pragma once

#include <array>
#include <cstdint>

#include "perigee/base/intrusive_list.h"
#include "perigee/base/time.h"

namespace perigee::coro {

struct TimerTag;

// Disarms itself on destruction. The function runs with the timer disarmed; it may arm it again, arm or
// destroy others, and destroy this one.
class Timer : public ListNode<TimerTag> {
 public:
  using Function = void (*)(Timer&);
  explicit Timer(Function fire) : fire_(fire) {}
  [[nodiscard]] bool armed() const { return linked(); }
  void disarm() { unlink(); }

 private:
  friend class TimerWheel;
  Function fire_;
  std::uint64_t due_tick_ = 0;
};

class TimerWheel {
 public:
  explicit TimerWheel(TimePoint now);

  void arm(Timer& timer, TimePoint due);
  // Fires everything due at or before `now`, in order of due tick; equal ticks in order of arming.
  void advance(TimePoint now);
  // The earliest moment at which advance() may have something to do; never later than the first timer.
  [[nodiscard]] TimePoint next_due() const;

  static constexpr Duration kTick = std::chrono::milliseconds(1);

 private:
  static constexpr unsigned kLevels = 5;
  static constexpr unsigned kSlotBits = 6;
  static constexpr unsigned kSlots = 1U << kSlotBits;

  struct Level {
    std::array<IntrusiveList<TimerTag>, kSlots> slots;
    // A set bit may belong to a slot whose timers have all been disarmed since; a clear bit is certain.
    mutable std::uint64_t used = 0;
  };

  void place(Timer& timer);
  void cascade(unsigned level);
  // The tick at which `level` next needs attention, or ~0.
  [[nodiscard]] std::uint64_t next_tick_of(unsigned level) const;
  [[nodiscard]] std::uint64_t next_tick() const;

  std::array<Level, kLevels> levels_;
  TimePoint start_;
  std::uint64_t tick_ = 0;  // everything up to and including this tick has fired
};

}  // namespace perigee::coro
