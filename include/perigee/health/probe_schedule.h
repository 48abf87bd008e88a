// When a backend is looked at next.
//
// State: every `interval`, spread by `jitter` so that probes of many backends do not fall together; faster
// until the first answer and while it is down. Lag: a steady beat while anything waits or runs. Fall and rise
// counts are not here but in balancing/health_state.h. Pure: time and chance are handed in.
#pragma once

#include <algorithm>
#include <cstdint>

#include "perigee/base/random.h"
#include "perigee/base/time.h"
#include "perigee/config/config.h"

namespace perigee::health {

enum class ProbePhase : std::uint8_t {
  unprobed,  // no answer yet
  up,
  down,      // refusing, silent, or not ready
};

// From the end of a probe to the start of the next.
inline Duration pause_between_probes(const config::Probe& probe, ProbePhase phase, Rng& rng) {
  if (phase == ProbePhase::unprobed) return probe.first_interval;  // somebody waits for this one: no spreading
  const Duration middle = phase == ProbePhase::up ? probe.interval : std::min(probe.interval, probe.down_interval);
  return from_seconds(to_seconds(middle) * rng.uniform(1 - probe.jitter, 1 + probe.jitter));
}

// A steady beat that skips what it missed.
class Beat {
 public:
  explicit Beat(Duration period) : period_(period) {}
  void start(TimePoint now) { due_ = now; }
  [[nodiscard]] TimePoint due() const { return due_; }
  // Whatever is due now has been made, or missed: the next beat lies after `now`, in step with those before.
  void made(TimePoint now) {
    if (due_ <= now) due_ += ((now - due_) / period_ + 1) * period_;
  }

 private:
  Duration period_;
  TimePoint due_{};
};

}  // namespace perigee::health
