// GCRA: a rate as one number for each key, the theoretical arrival time (TAT) of its next request.
//
// The generic cell rate algorithm (ITU-T I.371), equal to a token bucket: T = the time of one token, tau = burst · T. A
// request of n tokens may go while TAT + n·T does not lie more than tau ahead of now. All in whole nanoseconds, so that
// nothing drifts. The property that counts: in any time W at most burst + W/T tokens are taken.
//
// Pure and of one thread: time comes in, and nothing but a growing table allocates.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "perigee/base/time.h"

namespace perigee::admission {

struct RateSpec {
  Duration each{};          // T, above zero
  std::uint64_t burst = 1;  // burst · T stays below ten years: the configuration is checked for it
  std::uint64_t quota = 1;  // as the operator wrote it: so many in `window`
  Duration window{};
  [[nodiscard]] Duration tolerance() const { return each * static_cast<std::int64_t>(burst); }
  // A rate of `quota` in `per`; T is rounded up, never letting through more than was written.
  static RateSpec of(std::uint64_t quota, Duration per, std::uint64_t burst);
  // One of `parts` equal parts of this rate.
  [[nodiscard]] RateSpec part(std::uint32_t parts) const;
};

struct RateAnswer {
  bool allowed = false;
  bool never = false;            // n is more than the burst: no wait helps
  std::uint64_t remaining = 0;   // tokens that could be taken at once, after this request if it was allowed
  Duration grows{};              // until one more could be taken; zero where all are there
  Duration reset{};              // until the whole burst is there again
  Duration retry_after{};        // refused: until n tokens are there
};

// Looks, and changes nothing: `tat` becomes new_tat() of an answer that allows. TATs are times of one clock.
[[nodiscard]] RateAnswer gcra(const RateSpec& spec, TimePoint tat, TimePoint now, std::uint64_t n);
[[nodiscard]] TimePoint new_tat(const RateSpec& spec, TimePoint tat, TimePoint now, std::uint64_t n);
// What an estimate was wrong by, when the truth is known: a debt may arise, of ten bursts at most; what comes back never
// reaches into the past.
[[nodiscard]] TimePoint settled_tat(const RateSpec& spec, TimePoint tat, TimePoint now, std::int64_t more);

// TATs by key. Sets of eight slots, so that nothing is ever moved or swept: a slot is free as soon as its TAT has passed. A
// full set makes the table grow, and once it may not, the key with the earliest TAT (the one that used least) loses
// what it had used. 24 bytes a slot.
class GcraTable {
 public:
  static constexpr std::size_t kSlotsMax = std::size_t{1} << 17U;

  struct Slot {
    std::uint64_t key = 0;  // 0 = never used
    TimePoint tat{};
    float mean = 0;  // a figure of the caller's that lives as long as the slot: the usual size of an answer
  };

  explicit GcraTable(std::size_t slots_max = kSlotsMax);

  // The key's slot, or nullptr.
  [[nodiscard]] Slot* find(std::uint64_t key);
  // The same, made where there is none. `key` is not 0. Valid until the next call.
  [[nodiscard]] Slot& slot(std::uint64_t key, TimePoint now);

  // The rate changed: what was used, counted in tokens, stays. Walks the table.
  void rescale(Duration each_before, Duration each_now, TimePoint now);

  [[nodiscard]] std::size_t slots() const { return slots_; }
  [[nodiscard]] const Slot& at(std::size_t i) const { return table_[i]; }
  [[nodiscard]] std::uint64_t evicted() const { return evicted_; }

 private:
  static constexpr std::size_t kSet = 8;
  [[nodiscard]] Slot* set_of(std::uint64_t key) const;
  void grow(TimePoint now);

  std::size_t slots_max_;
  std::size_t slots_ = 0;
  std::unique_ptr<Slot[]> table_;
  std::uint64_t evicted_ = 0;
};

}  // namespace perigee::admission
