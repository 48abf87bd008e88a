// CPU and memory of single processes: of ourselves, and of workers on this machine.
//
// Read from /proc below a root that tests replace. A pid is only believed together with the process's start
// time, because pids are used again. An ORBIT worker computes on one core at a time whatever the machine
// has, so its CPU is measured in cores: 1.0 is saturated.
// find_listeners() walks every process: call it when a backend comes up, not every second. Control loop.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "perigee/base/time.h"

namespace perigee::health {

struct ProcessCounters {
  int pid = 0;
  std::uint64_t start_ticks = 0;  // with the pid: who it is
  double cpu_seconds = 0;         // user and system
  std::uint64_t resident_bytes = 0;
  std::optional<std::uint64_t> open_descriptors;  // only of processes that we may look into
  std::optional<std::uint64_t> descriptors_max;
  std::optional<double> start_time_seconds;       // since 1970
  std::optional<std::uint64_t> read_bytes;        // from disks
  std::optional<std::uint64_t> written_bytes;
};

class ProcessReader {
 public:
  explicit ProcessReader(std::string root = "/");

  // Nothing if there is no such process (any more).
  [[nodiscard]] std::optional<ProcessCounters> read(int pid) const;
  [[nodiscard]] std::optional<ProcessCounters> read_self() const;
  // Processes that hold the listening socket of this TCP port, lowest pid first. `ip` is what the backend is
  // reached at ("127.0.0.1", "::1"); a socket bound to all addresses counts too. A server with several
  // processes on one socket gives them all. Only processes of our own user can be seen unless we are root.
  [[nodiscard]] std::vector<int> find_listeners(std::string_view ip, std::uint16_t port) const;
  [[nodiscard]] std::vector<int> children(int pid) const;

 private:
  [[nodiscard]] std::optional<ProcessCounters> read_folder(const std::string& folder) const;

  std::string root_;
};

// CPU of one process between two looks.
class ProcessStats {
 public:
  static constexpr Duration kShortest = std::chrono::milliseconds(500);  // /proc counts in 10 ms

  // Cores in use since the look before; nothing at first, after less than kShortest (the look before then
  // stays), and when the process is another one than before.
  std::optional<double> cores(const ProcessCounters& now_counters, TimePoint now);

 private:
  std::optional<ProcessCounters> before_;
  TimePoint at_{};
};

}  // namespace perigee::health
