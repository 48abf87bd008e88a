// CPU and memory of the machine and of our own control group: read from files, judged without them.
//
// HostReader looks at /proc and /sys/fs/cgroup (version 2, version 1, or both at once) below a root that tests
// replace by a tree of their own. HostStats turns two looks into a load; it is pure. A signal that cannot
// be had is absent, never 0. The numbers say what is, not what to do: a full machine is healthy as long as
// nobody waits, so CPU alone refuses nothing.
// Files of these trees are answered from memory by the kernel; a look takes well under a millisecond.
// Control loop; one thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "perigee/base/time.h"

namespace perigee::health {

// Counters since the machine or the group began.
struct HostCounters {
  // Machine.
  std::optional<std::uint64_t> machine_busy_ticks;
  std::optional<std::uint64_t> machine_all_ticks;
  std::optional<std::uint64_t> memory_total_bytes;
  std::optional<std::uint64_t> memory_available_bytes;
  unsigned online_cpus = 1;
  // Group.
  std::optional<std::uint64_t> group_cpu_usec;
  std::optional<std::uint64_t> group_periods;
  std::optional<std::uint64_t> group_throttled_periods;
  double group_cores = 1;  // least of the quotas up to the root, the cpuset, and what is online
  std::optional<std::uint64_t> group_working_set_bytes;  // what is used without the caches that can be dropped
  std::optional<std::uint64_t> group_limit_bytes;        // least of the bounds up to the root; absent: none
  std::optional<std::uint64_t> group_oom_kills;
  // Pressure, in microseconds of stall: of the group where it says so, else of the machine.
  std::optional<std::uint64_t> cpu_stall_usec;
  std::optional<std::uint64_t> memory_stall_usec;
  std::optional<std::uint64_t> memory_full_stall_usec;
  std::optional<std::uint64_t> io_stall_usec;
};

class HostReader {
 public:
  // `root` stands for "/": "/" itself, or a test's folder.
  explicit HostReader(std::string root = "/");
  [[nodiscard]] HostCounters read() const;
  // What the control group of a process may use, least of the bounds up to the root; absent: no bound, no such
  // process, or a group that our mounts do not show.
  [[nodiscard]] std::optional<std::uint64_t> memory_limit_of(int pid) const;
  // The file that counts whom the kernel killed for memory in the control group of a process (0: our own); "" where there
  // is none. It may outlive the process.
  [[nodiscard]] std::string kills_file_of(int pid) const;
  [[nodiscard]] static std::optional<std::uint64_t> kills_in(const std::string& file);

 private:
  // A control group's folder and those above it, the group first; empty where the controller has none.
  struct Groups {
    std::vector<std::string> unified, cpu, cpuacct, cpuset, memory;
  };
  [[nodiscard]] Groups find_groups(const std::string& process = "self") const;
  void read_machine(HostCounters& c) const;
  void read_cpu(const Groups& groups, HostCounters& c) const;
  void read_memory(const Groups& groups, HostCounters& c) const;
  void read_pressure(const Groups& groups, HostCounters& c) const;

  std::string root_;  // without a slash at its end
};

// Shares of what may be used, 0..1 (throttled and stalled time also as shares of time).
struct HostLoad {
  std::optional<double> machine_cpu;
  std::optional<double> group_cpu;
  std::optional<double> group_throttle;   // periods in which the quota stopped us
  std::optional<double> machine_memory;
  std::optional<double> group_memory;     // absent: the group has no bound
  std::optional<double> cpu_pressure;
  std::optional<double> memory_pressure;
  std::optional<double> memory_full_pressure;
  std::optional<double> io_pressure;
  std::uint64_t new_oom_kills = 0;        // since the last look: a worker of this group died of memory
  double cores = 1;

  // The tighter of machine and group.
  [[nodiscard]] std::optional<double> cpu() const;
  [[nodiscard]] std::optional<double> memory() const;
};

// Rates between two looks. A counter that went back (a new group, a wrapped number) gives no rate this time.
class HostStats {
 public:
  // Looks closer together than this are too coarse: the counters tick in 10 ms.
  static constexpr Duration kShortest = std::chrono::milliseconds(100);

  // Levels are of this look; rates are absent in the first one, and when less than kShortest has passed since
  // the one before (which then stays the one to compare with).
  HostLoad update(const HostCounters& now_counters, TimePoint now);

 private:
  std::optional<HostCounters> before_;
  TimePoint at_{};
};

// `0-3,8-11` -> 8; nothing for text that is not such a list, or an empty one. At most 4096 CPUs.
std::optional<unsigned> count_cpu_list(std::string_view text);

}  // namespace perigee::health
