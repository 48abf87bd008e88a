// A new or recovered backend gets its share little by little.
//
// First probation: one exchange at a time until one has succeeded (Netflix Zuul does so). Then its weight
// and its slots grow from a tenth to all of it in 30 s (the curve and the floor are Envoy's). A restarted
// ORBIT worker is "ready" long before its first chat has loaded what it needs.
//
// Backends that are up when Perigee starts skip all of it, or nothing would be served. Pure; guarded by the
// dispatcher's lock.
#pragma once

#include <cstdint>

#include "perigee/base/time.h"

namespace perigee::balancing {

struct SlowStartOptions {
  Duration window = std::chrono::seconds(30);
  double floor = 0.10;       // 0 < floor ≤ 1
  double aggression = 1.0;   // > 0; above 1 the ramp rises fast at first
};

// Share of its full weight after being in use for `t`: max(floor, min(1, (t/window)^(1/aggression))).
double ramp(Duration t, const SlowStartOptions& options);

class SlowStart {
 public:
  explicit SlowStart(SlowStartOptions options = {}) : options_(options) {}

  // It came back, or was added while others serve: probation from now on.
  void begin();
  // An exchange there succeeded: probation ends and the ramp starts. Later calls do nothing. True when it
  // did.
  bool on_success(TimePoint now);

  [[nodiscard]] bool probation() const { return phase_ == Phase::probation; }
  // Factor of its weight at `now`, in [floor, 1].
  [[nodiscard]] double factor(TimePoint now) const;
  // Exchanges that it may hold at `now`, of `slots`; ≥ 1.
  [[nodiscard]] std::uint32_t limit(std::uint32_t slots, TimePoint now) const;
  // When limit() grows next by time alone (look for waiters then); kNever when it will not.
  [[nodiscard]] TimePoint next_step(std::uint32_t slots, TimePoint now) const;
  void configure(SlowStartOptions options) { options_ = options; }

 private:
  enum class Phase : std::uint8_t { full, probation, ramp };
  SlowStartOptions options_;
  Phase phase_ = Phase::full;
  TimePoint start_{};
};

}  // namespace perigee::balancing
