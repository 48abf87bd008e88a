// Head-lag control: finds how much one ORBIT worker stands, from how late its event loop answers.
//
// ORBIT sends the head of a streamed answer before any model work, so "request sent → head received" is
// the queueing delay of the worker's single event loop, free of the model's speed; the answer time of a
// /health probe is the same delay seen from the side. As in delay-based congestion control two bounds
// are steered so that the delay stays just below a target: the pace of starts (a token bucket) and the
// slots (exchanges in flight). One object per backend, called under the dispatcher's lock; every call is
// O(1) and allocates nothing. In front of other workers it is fixed: slots as given, no pace, no samples.
// What the constants achieve, on the worker model of tests/admission, stands in src/admission/README.md.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "perigee/base/time.h"

namespace perigee::admission {

struct HeadLagConfig {
  double ceiling = 100;  // of slots: min(max_concurrent_requests, the worker's provider connections)
  double start_pace = 25;     // starts a second; 0 = not paced
  double start_slots = 48;
  double recovered_pace = 5;  // a worker that is new or came back
  double recovered_slots = 8;
  double least_pace = 0.5;  // where steering stops
  double most_pace = 500;
  double least_slots = 4;
};

enum class StartAnswer : std::uint8_t { yes, pace, slots };  // yes, or what holds the start back

// One second of the controller's past, for the admin page.
struct HeadLagTrace {
  TimePoint at{};  // begin of the second
  float pace = 0;
  float slots = 0;
  float lag_seconds = 0;  // greatest sample of that second; 0 = none
  std::uint16_t in_flight = 0;
  std::uint16_t stalls = 0;
};

class HeadLag {
 public:
  // A silence of this length with at least kStallRunning chats running is a stall of the worker
  // (collector), not a queue. The I/O loops watch for it without the lock and report it then.
  static constexpr Duration kStallSilence = std::chrono::milliseconds(120);
  static constexpr std::uint32_t kStallRunning = 8;
  static constexpr std::size_t kTraceSeconds = 120;
  static constexpr double kLeastPace = 0.5;  // unless the operator wrote another

  // Steered by head lag, from the start values.
  explicit HeadLag(const HeadLagConfig& config, TimePoint now);
  // Not steered: `slots` is fixed and starts are not paced.
  [[nodiscard]] static HeadLag fixed(std::uint32_t slots);

  // --- may an exchange start? `in_flight`: tickets of this backend, critical's own four left out.
  [[nodiscard]] StartAnswer may_start(TimePoint now, std::uint32_t in_flight) const;
  // A ticket was granted: takes one start from the pace. Only after may_start said yes.
  void take_start(TimePoint now);
  // It was cancelled before it was used.
  void give_back_start(TimePoint now);
  // After a pump: somebody who could use this backend still waits. Marks what held him back, because
  // nothing grows that nobody needed.
  void note_held_back(TimePoint now, std::uint32_t in_flight);
  // When the pace alone would let the next one start: arm a timer. `now` if it may already; kNever where
  // slots hold it back (a release pumps).
  [[nodiscard]] TimePoint next_change(TimePoint now, std::uint32_t in_flight) const;

  // --- what the worker says. Each may change pace and slots; where it returns true a start may have
  // become possible: pump.
  // A streamed chat: its last request byte was written at `sent`, its head came at `now`.
  bool on_head_sample(TimePoint now, TimePoint sent, std::uint32_t in_flight);
  // A lag probe leaves. A probe that waited through a silence is what tells a stall from want of work.
  void on_probe_sent(TimePoint now);
  // GET /health, every 250 ms while anything waits or runs.
  bool on_probe_sample(TimePoint now, TimePoint sent, std::uint32_t in_flight);
  // A request or probe sent at `sent` has no answer yet: call with each new probe while one is out.
  void on_unanswered(TimePoint now, TimePoint sent, std::uint32_t in_flight);
  // Any byte from the worker. Calls on_silence when the gap was long; with several loops keep the time of
  // the last byte in a relaxed atomic instead and call on_silence yourself.
  void on_byte(TimePoint now, std::uint32_t running_chats);
  // Nothing came from the worker in [from, to] although `running_chats` ran. Report it before the head or
  // probe answer that ended it.
  void on_silence(TimePoint from, TimePoint to, std::uint32_t running_chats);
  // An exchange of this backend ended; `lifetime` = dispatch → end.
  void on_end(Duration lifetime);

  // --- the operator and the life of the worker.
  void set_ceiling(double ceiling);
  // The machine or the worker is hot: nothing grows beyond the start values until this is taken back. What was cut
  // below them may come back, or a busy neighbour would keep a worker at its least for ever.
  void hold_growth(bool held) { growth_held_ = held; }
  // The worker is new or came back: small start values, everything learnt is forgotten (counters and
  // trace stay).
  void recovered(TimePoint now);

  // --- reading. Slots are whole: what may be in flight now.
  [[nodiscard]] bool steered() const { return steered_; }
  [[nodiscard]] std::uint32_t slots() const { return static_cast<std::uint32_t>(slots_); }
  [[nodiscard]] double pace() const { return hung_ && paced() ? config_.least_pace : pace_; }  // starts a second; 0 = not paced
  [[nodiscard]] Duration lifetime() const { return from_seconds(lifetime_); }
  [[nodiscard]] Duration last_lag() const { return from_seconds(last_lag_); }
  [[nodiscard]] std::uint64_t stalls() const { return stalls_; }
  [[nodiscard]] std::uint64_t slot_cuts() const { return slot_cuts_; }
  [[nodiscard]] std::uint64_t pace_cuts() const { return pace_cuts_; }
  // The i-th newest second of the trace, 0 = the current one; false where there is none.
  bool trace(std::size_t i, HeadLagTrace& out) const;

 private:
  HeadLag() = default;

  // The least of the last 10 minutes, in minutes.
  class SlidingBase {
   public:
    void add(TimePoint now, double seconds);
    [[nodiscard]] double value() const;  // infinity = none yet

   private:
    static constexpr std::size_t kMinutes = 10;
    std::array<double, kMinutes> least_ = filled();
    std::int64_t minute_ = -1;
    static constexpr std::array<double, kMinutes> filled() {
      std::array<double, kMinutes> a{};
      a.fill(std::numeric_limits<double>::infinity());
      return a;
    }
  };
  // The least lag (as a part of its target) of the last second, in tenths.
  class LastSecond {
   public:
    void add(TimePoint now, double part);
    // Least of the last second; infinity where nothing was measured in it.
    [[nodiscard]] double least(TimePoint now) const;

   private:
    static constexpr std::size_t kTenths = 10;
    struct Tenth {
      std::int64_t number = -1;
      double least = 0;
    };
    std::array<Tenth, kTenths> tenths_{};
  };

  [[nodiscard]] bool paced() const { return steered_ && pace_ > 0; }
  bool on_sample(TimePoint now, TimePoint sent, SlidingBase& base, std::uint32_t in_flight);
  bool steer_pace(TimePoint now, double lag, double target);
  bool steer_slots(TimePoint now, double part, std::uint32_t in_flight);
  void confirm_stall(TimePoint now);
  void settle(TimePoint now);  // brings tokens_ up to `now`, before anything that they depend on changes
  [[nodiscard]] double tokens_at(TimePoint now) const;
  [[nodiscard]] bool draining(TimePoint now) const { return now < draining_until_; }
  HeadLagTrace& trace_now(TimePoint now);

  HeadLagConfig config_;
  bool steered_ = false;
  bool slow_ = true;            // no standing delay met yet: slots grow faster
  bool held_by_pace_ = false;   // since the last sample below its target
  bool held_by_slots_ = false;  // since the last growth
  bool growth_held_ = false;
  bool hung_ = false;           // nothing for very long: the least pace until the next sample
  bool probe_out_ = false;
  double pace_ = 0;
  double slots_ = 0;
  double tokens_ = 0;
  double lifetime_ = 0;    // seconds
  double last_lag_ = 0;    // seconds
  TimePoint tokens_at_{};  // when `tokens_` was right
  TimePoint last_byte_{};
  TimePoint probe_sent_{};
  TimePoint silence_from_{};
  TimePoint silence_to_{};    // late samples sent before it are the stall's
  TimePoint confirmed_to_{};  // the last silence that was a stall
  TimePoint draining_until_{};
  TimePoint no_slot_cut_before_{};
  TimePoint next_pace_cut_{};
  TimePoint next_slot_cut_{};
  TimePoint next_growth_{};
  SlidingBase head_base_;
  SlidingBase probe_base_;
  LastSecond last_second_;
  std::uint64_t stalls_ = 0;
  std::uint64_t slot_cuts_ = 0;
  std::uint64_t pace_cuts_ = 0;
  std::array<HeadLagTrace, kTraceSeconds> trace_{};
  std::int64_t trace_second_ = -1;  // of the newest entry
  std::int64_t trace_first_ = 0;    // one before the oldest ever written
};

}  // namespace perigee::admission
