// Leaving a slow backend idle although somebody waits, where a fast one will be free sooner than the slow one
// could answer.
//
// SpeedClasses learns, from the logarithm of service times, how many times slower each backend of a pool is
// than its fastest one, in powers of two. That two backends differ is believed only where chance does not
// explain it: equal backends stay in class 1 whatever their work looks like. held() is the rule: a slow one
// gets work once `hold · speed` exchanges wait, or once so many wait that the fast ones would take longer.
// While others wait, important exchanges leave the slow ones to them.
//
// Threads: everything under the dispatcher's lock. Nothing allocates. review() is for every 50 ms while
// somebody waits (a few exp() a backend); the rest is O(1). Source: ours, from simulations (README).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "perigee/base/time.h"
#include "perigee/base/vocabulary.h"

namespace perigee::balancing {

struct HoldOptions {
  double hold = 2.0;  // ≥ 0; 0 = never: every free place is used at once
  Duration probe = std::chrono::seconds(5);   // a held backend gets an exchange after so long without one
  Duration decay = std::chrono::seconds(10);  // τ of an estimate that gets no samples, towards the median
};

// What the service times of one backend say.
class ServiceSpeed {
 public:
  // 1 = as the fastest of its pool, 2, 4, 8 … times slower. As of the last review.
  [[nodiscard]] std::uint32_t speed() const { return speed_; }
  // An exchange was given to it: the end of a probe.
  void started(TimePoint now) {
    last_start_ = now;
    probe_due_ = false;
  }
  // A place there fell free.
  void ended() { ++ends_; }
  // It came back, perhaps as another process.
  void forget() { *this = ServiceSpeed(); }

  // Who waits in a pool, the asking exchange included.
  struct Queue {
    std::uint32_t all = 0;
    std::uint32_t important = 0;  // of these, critical and high
  };
  // Whether it is to be left idle. Only where a backend of speed 1 is among those that the asking exchange
  // may use: who can use no fast one never waits for one.
  [[nodiscard]] bool held(const Queue& waiting, bool important) const {
    if (speed_ == 1 || probe_due_) return false;
    if (important && waiting.important < waiting.all) return waiting.important < patience_;
    return waiting.all < needed_;
  }

 private:
  friend class SpeedClasses;
  double quick_ = 0;   // mean logarithm of the service time beside its class: the last ten or so
  double steady_ = 0;  // the same of the last fifty: slower to move, so finer differences show
  std::uint32_t samples_ = 0;
  std::uint32_t speed_ = 1;
  std::uint32_t ends_ = 0;  // since the last review
  bool probe_due_ = false;
  double end_rate_ = 0;     // places that fell free, a second, over the last second or so
  double needed_ = 0;       // exchanges that must wait
  double patience_ = 0;     // so many are served by the fast ones in the time that they save
  TimePoint last_sample_{};
  TimePoint last_start_{};
};

// One per pool.
class SpeedClasses {
 public:
  void configure(const HoldOptions& options) { options_ = options; }
  [[nodiscard]] bool enabled() const { return options_.hold > 0; }
  // A good answer: dispatch → end; of streams → first event.
  void sample(ServiceSpeed& of, RequestClass c, Duration service, TimePoint now);

  struct Member {
    ServiceSpeed* speed;
    bool up;  // takes exchanges: speeds are relative to these
  };
  // At most kMaxBackends members. True where one is slower than the fastest.
  bool review(std::span<const Member> members, TimePoint now);

 private:
  struct Level {
    double quick = 0;
    double steady = 0;
  };
  [[nodiscard]] Level median(std::span<const Member> members, TimePoint now) const;
  [[nodiscard]] Level now_of(const ServiceSpeed& s, Level median, TimePoint now) const;
  void classify(ServiceSpeed& s, Level above_least, std::uint32_t least_samples) const;

  struct Mean {
    double log_seconds = 0;
    std::uint32_t samples = 0;
  };
  HoldOptions options_;
  std::array<Mean, kClassCount> means_{};
  Mean usual_;             // of all classes
  double variance_ = 0.64;  // of the logarithms about their backend's mean; to begin with, a usual one
  TimePoint reviewed_{};
  const ServiceSpeed* least_ = nullptr;  // the fastest, by the last review; never followed
};

}  // namespace perigee::balancing
