// Slots of one worker that is not ORBIT, found from how its times to the first event grow with its load.
//
// Additive increase, multiplicative decrease on windows of a second or more: where a window's median is above
// 2.5 times what this worker takes with little to do, it was given too much and loses a tenth of its slots;
// where half of them were in use and it was not, it gets one more. How long a stream goes on is never looked
// at. What "with little to do" takes is learnt from windows in which few ran; a worker that is busy from the
// first moment is held at two slots until thirty answers have told it. One object per backend, under the
// dispatcher's lock; allocates nothing. Source: AIMD (Chiu, Jain 1989) as in Netflix's concurrency-limits, with a
// learnt base in place of a fixed time-out.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "perigee/base/time.h"

namespace perigee::admission {

struct FirstEventLimitConfig {
  double least = 1;        // slots: it never goes below
  double most = 1024;      // what the operator wrote: nor above
  double start = 8;
  Duration objective{0};   // twice what it is believed to take unloaded, until ten windows told; 0 = unknown
};

class FirstEventLimit {
 public:
  FirstEventLimit(const FirstEventLimitConfig& config, TimePoint now);

  // A ticket was granted; `in_flight` with it.
  void on_start(std::uint32_t in_flight) { if (in_flight > most_in_flight_) most_in_flight_ = in_flight; }
  // An answer's first event, `took` after dispatch. Both are true where the slots may have changed.
  bool on_sample(TimePoint now, Duration took, std::uint32_t in_flight);
  // The worker refused for want of capacity, timed out or broke: it was given too much, whatever the times say.
  bool on_overload(TimePoint now, std::uint32_t in_flight);
  // What the operator changed; what was measured stays.
  void configure(double most, Duration objective);
  // The machine or the worker is short of something: nothing grows until this is taken back.
  void hold_growth(bool held) { growth_held_ = held; }

  [[nodiscard]] std::uint32_t slots() const { return static_cast<std::uint32_t>(slots_); }
  [[nodiscard]] Duration base() const { return from_seconds(base_); }  // 0 = not known yet
  [[nodiscard]] std::uint64_t cuts() const { return cuts_; }

 private:
  static constexpr std::size_t kSamples = 128;  // of a window, the newest
  static constexpr std::size_t kQuiet = 64;     // windows with little to do, the newest
  struct Quiet {
    TimePoint at;
    double median;
  };
  bool close_if_due(TimePoint now, std::uint32_t in_flight);
  void steer(double median);
  void begin_window(TimePoint now, std::uint32_t in_flight);
  void learn_base(TimePoint now, double median);
  void search();
  [[nodiscard]] double median();

  FirstEventLimitConfig config_;
  double slots_;
  double base_ = 0;        // seconds; 0 = not known
  bool climbing_ = true;   // never congested since the base was learnt: doubles
  bool overloaded_ = false;
  bool growth_held_ = false;
  std::uint32_t most_in_flight_ = 0;
  std::uint32_t events_ = 0;  // of this window: samples and overloads
  std::uint32_t samples_ = 0;
  std::uint32_t at_least_ = 0;  // windows in a row at the least
  std::uint32_t quiet_windows_ = 0;
  std::uint64_t cuts_ = 0;
  TimePoint window_;
  std::array<float, kSamples> seconds_{};
  std::array<Quiet, kQuiet> quiet_{};
};

}  // namespace perigee::admission
