#include <chrono>

#include "perigee/base/time.h"

namespace perigee {

TimePoint SystemClock::now() const {
  const auto since = std::chrono::steady_clock::now().time_since_epoch();
  return TimePoint(std::chrono::duration_cast<Duration>(since));
}

std::int64_t SystemClock::wall_ms() const {
  const auto since = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(since).count();
}

}  // namespace perigee
