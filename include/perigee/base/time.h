// Time as every room sees it: monotonic, in integer nanoseconds, always handed in.
//
// Nobody calls the system's clock: a room that needs the time takes a `TimePoint` as an argument or a
// `Clock&` in its constructor, so that its tests move time by hand. The one real clock is
// `SystemClock` (src/base/system_clock.cpp).
#pragma once

#include <chrono>
#include <cstdint>

namespace perigee {

using Duration = std::chrono::nanoseconds;

// A tag, not a clock that can be read: it only keeps monotonic times apart from calendar times.
struct Monotonic {
  using rep = Duration::rep;
  using period = Duration::period;
  using duration = Duration;
  using time_point = std::chrono::time_point<Monotonic>;
  static constexpr bool is_steady = true;
};
using TimePoint = Monotonic::time_point;

inline constexpr TimePoint kNever = TimePoint::max();

// Seconds as a double, for arithmetic of rates and averages.
constexpr double to_seconds(Duration d) { return static_cast<double>(d.count()) * 1e-9; }
constexpr Duration from_seconds(double s) { return Duration(static_cast<std::int64_t>(s * 1e9)); }

// Read on any thread.
class Clock {
 public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual TimePoint now() const = 0;
  // Milliseconds since 1970, for log lines and HTTP dates only.
  [[nodiscard]] virtual std::int64_t wall_ms() const = 0;
};

// The machine's clocks. The only place that reads them.
class SystemClock final : public Clock {
 public:
  [[nodiscard]] TimePoint now() const override;
  [[nodiscard]] std::int64_t wall_ms() const override;
};

// A clock that stands still until it is moved. For tests and simulations.
class ManualClock final : public Clock {
 public:
  [[nodiscard]] TimePoint now() const override { return now_; }
  [[nodiscard]] std::int64_t wall_ms() const override {
    return wall_start_ms_ + std::chrono::duration_cast<std::chrono::milliseconds>(now_.time_since_epoch()).count();
  }
  void advance(Duration d) { now_ += d; }
  void set(TimePoint t) { now_ = t; }

 private:
  TimePoint now_{std::chrono::seconds(1000)};
  std::int64_t wall_start_ms_ = 1'700'000'000'000;
};

}  // namespace perigee
