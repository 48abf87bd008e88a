// From two looks to a load: differences and shares. See host_stats.h.
#include "perigee/health/host_stats.h"

#include <algorithm>

namespace perigee::health {
namespace {

using Number = std::optional<std::uint64_t>;
using Share = std::optional<double>;

// How far a counter went; nothing if it is missing on either side or went back.
Share grown(Number before, Number after) {
  if (!before || !after || *after < *before) return std::nullopt;
  return static_cast<double>(*after - *before);
}

Share share(Share part, Share whole) {
  if (!part || !whole || *whole <= 0) return std::nullopt;
  return *part / *whole;
}

Share tighter(Share a, Share b) {
  if (!a || !b) return a ? a : b;
  return std::max(*a, *b);
}

}  // namespace

std::optional<double> HostLoad::cpu() const {
  return tighter(machine_cpu, group_cpu);
}
std::optional<double> HostLoad::memory() const {
  return tighter(machine_memory, group_memory);
}

HostLoad HostStats::update(const HostCounters& now_counters, TimePoint now) {
  const HostCounters& c = now_counters;
  HostLoad load;
  load.cores = c.group_cores;
  if (c.memory_total_bytes && c.memory_available_bytes && *c.memory_total_bytes > 0) {
    const double free = static_cast<double>(std::min(*c.memory_available_bytes, *c.memory_total_bytes));
    load.machine_memory = 1 - free / static_cast<double>(*c.memory_total_bytes);
  }
  if (c.group_working_set_bytes && c.group_limit_bytes && *c.group_limit_bytes > 0) {
    load.group_memory =
        static_cast<double>(*c.group_working_set_bytes) / static_cast<double>(*c.group_limit_bytes);
  }
  if (!before_) {
    before_ = c;
    at_ = now;
    return load;
  }
  if (now - at_ < kShortest) return load;
  const HostCounters& b = *before_;
  const double usec = to_seconds(now - at_) * 1e6;
  load.machine_cpu = share(grown(b.machine_busy_ticks, c.machine_busy_ticks),
                           grown(b.machine_all_ticks, c.machine_all_ticks));
  load.group_cpu = share(grown(b.group_cpu_usec, c.group_cpu_usec), usec * c.group_cores);
  load.group_throttle = share(grown(b.group_throttled_periods, c.group_throttled_periods),
                              grown(b.group_periods, c.group_periods));
  load.cpu_pressure = share(grown(b.cpu_stall_usec, c.cpu_stall_usec), usec);
  load.memory_pressure = share(grown(b.memory_stall_usec, c.memory_stall_usec), usec);
  load.memory_full_pressure = share(grown(b.memory_full_stall_usec, c.memory_full_stall_usec), usec);
  load.io_pressure = share(grown(b.io_stall_usec, c.io_stall_usec), usec);
  load.new_oom_kills = static_cast<std::uint64_t>(grown(b.group_oom_kills, c.group_oom_kills).value_or(0));
  before_ = c;
  at_ = now;
  return load;
}

}  // namespace perigee::health
