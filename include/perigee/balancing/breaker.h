// A circuit breaker: stops sending to a backend that keeps failing, and finds out when it has recovered.
//
//   closed --5 failures in a row, or half of at least 20 in 10 s--> open --its time is over--> half_open --3 trials succeed--> closed
//                                     ^------- any trial fails or times out ----'
//
// Failures in a row find what is broken, the share of a window what is half broken. What may be no fault of this
// backend counts in the share only beside that of the others (outcome.h: beside_fleet).
//
// The time grows 5, 10, 20, 40, 60, 60 s with each trip in a row, ±20 %, and shrinks again by one step for
// each healthy minute. Pure: time and chance are arguments; guarded by the dispatcher's lock; no allocation.
//
// Lost wake-ups: whoever owns a breaker must call advance() when next_change() has come, and look for
// waiters whenever a call returns true: the backend may take work again, or not any more.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "perigee/balancing/failure_window.h"
#include "perigee/balancing/outcome.h"
#include "perigee/base/random.h"
#include "perigee/base/time.h"

namespace perigee::balancing {

struct BreakerOptions {
  std::uint32_t consecutive = 5;                   // ≥ 1
  double ratio = 0.5;                              // failed share of the window that opens it; 0 = none does
  std::uint32_t ratio_minimum = 20;                // requests in the window before its share is looked at
  Duration window = std::chrono::seconds(10);
  Duration open_base = std::chrono::seconds(5);
  Duration open_max = std::chrono::seconds(60);
  double jitter = 0.2;                             // 0 ≤ j < 1
  std::uint32_t trials = 3;                        // 1 … Breaker::kMaxTrials
  // Longer than ORBIT's own timer for its model provider (60 s): a slow model is no failed trial.
  Duration trial_timeout = std::chrono::seconds(65);
  Duration forgive = std::chrono::seconds(60);     // healthy time that takes one trip back
};

class Breaker {
 public:
  enum class State : std::uint8_t { closed, open, half_open };
  static constexpr std::size_t kMaxTrials = 8;

  // A ticket's side of the breaker: what was true when it was dispatched. Copied freely.
  struct Pass {
    std::uint32_t epoch = 0;
    std::uint32_t trial = 0;  // 0 = not a trial
  };

  explicit Breaker(BreakerOptions options = {});

  [[nodiscard]] State state() const { return state_; }
  // May one more exchange be sent now? Closed, or half-open with a trial left.
  [[nodiscard]] bool admits() const;
  // At dispatch. Only when admits().
  [[nodiscard]] Pass begin(TimePoint now);

  // The verdict on an exchange. `may_open` is the pool's word (ejection.h): when false, a trip is put off
  // (closed stays closed, half-open starts its trials anew). Verdicts from before the last change of state
  // and second verdicts on one trial change nothing. True when the state changed, or a trial became free.
  // `others`: the window of the rest of the pool, only looked at for `beside_fleet`.
  bool settle(Pass pass, BreakerEffect effect, bool may_open, TimePoint now, Rng& rng,
              const FailureWindow::Counts& others = {});
  // A fault in an exchange that was a success at its first event. Counts in the window alone, a broken stream half.
  bool settle_late(Pass pass, BreakerEffect effect, bool may_open, TimePoint now, Rng& rng,
                   const FailureWindow::Counts& others = {});
  // The exchange ended without a verdict (client gone, our own refusal): a trial is free again, true then.
  bool give_back(Pass pass);
  // Does what is due: open time over, trials timed out. True when anything changed.
  bool advance(bool may_open, TimePoint now, Rng& rng);
  // open → half_open before its time, because the active probe saw the backend come back (the edge from
  // down to up, not every good probe), or because the pool is in panic. A closed one forgets its failures.
  bool half_open_early();

  // Open for this long, whatever it was: an operator's word. No trip in a row, and nobody is asked.
  void eject(Duration time, TimePoint now);

  // When advance() has something to do; kNever when only an exchange can change anything.
  [[nodiscard]] TimePoint next_change() const;

  // For status pages and metrics.
  [[nodiscard]] std::uint32_t failures_in_a_row() const { return failures_; }
  [[nodiscard]] FailureWindow::Counts recent(TimePoint now) const { return window_.sum(now); }
  [[nodiscard]] std::uint32_t trips_in_a_row() const { return trips_; }
  [[nodiscard]] std::uint32_t trials_in_flight() const;
  [[nodiscard]] std::uint64_t opened_total() const { return opened_total_; }
  // When an open one turns half-open; kNever otherwise.
  [[nodiscard]] TimePoint open_until() const { return state_ == State::open ? until_ : kNever; }

  // New options from a reload: the state stays, the next trip uses them.
  void configure(const BreakerOptions& options);

 private:
  struct Trial {
    std::uint32_t id = 0;  // 0 = free
    TimePoint deadline = kNever;
  };
  Trial* find(std::uint32_t id);
  void change(State to);
  bool counted(bool may_open, TimePoint now, Rng& rng, const FailureWindow::Counts& others);
  void fail(bool may_open, TimePoint now, Rng& rng);
  void close(TimePoint now);

  BreakerOptions options_;
  State state_ = State::closed;
  std::uint32_t epoch_ = 0;        // raised at every change of state
  std::uint32_t failures_ = 0;     // in a row, while closed
  std::uint32_t successes_ = 0;    // of trials, while half-open
  std::uint32_t trips_ = 0;        // k
  std::uint32_t next_trial_ = 1;
  std::uint64_t opened_total_ = 0;
  TimePoint until_ = kNever;       // end of the open time
  TimePoint closed_since_{};
  FailureWindow window_;
  std::array<Trial, kMaxTrials> trials_{};
};

}  // namespace perigee::balancing
