// The few useful lines of a worker's /metrics page, picked out as they come.
//
// Reads classic Prometheus text piece by piece, however it is cut, and keeps nothing but a started line: at
// most kLineMax bytes, longer lines are skipped. After kPageMax bytes the rest is ignored. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "perigee/base/time.h"

namespace perigee::health {

// A series that the page does not have is absent.
struct WorkerMetrics {
  std::optional<double> cpu_seconds_total;
  std::optional<double> resident_bytes;
  std::optional<double> open_descriptors;
  std::optional<double> start_time_seconds;
  std::optional<double> requests_in_progress;  // summed over its labels; ORBIT leaves running streams out
  std::optional<double> queued_tasks;          // of ORBIT's thread pools, summed
};

class MetricsReader {
 public:
  static constexpr std::size_t kLineMax = 1024;
  static constexpr std::size_t kPageMax = 4UL * 1024 * 1024;

  void feed(std::string_view piece);
  // Call once, after the last piece.
  WorkerMetrics finish();

 private:
  void line(std::string_view text);

  WorkerMetrics found_;
  std::string started_;
  std::size_t seen_ = 0;
  bool skipping_ = false;
};

// What is known of a worker's own load now.
struct WorkerLoad {
  std::optional<double> cores;           // CPU of its process; 1.0 is saturated
  std::optional<double> resident_bytes;
  std::optional<double> requests_in_progress;
  std::optional<double> queued_tasks;

  [[nodiscard]] bool known() const { return cores || resident_bytes || requests_in_progress || queued_tasks; }
  bool operator==(const WorkerLoad&) const = default;
};

// Two scrapes make a rate; two missed ones make everything unknown. A lower counter is a restart.
class WorkerLoadTracker {
 public:
  const WorkerLoad& scraped(const WorkerMetrics& metrics, TimePoint now);
  const WorkerLoad& missed();
  [[nodiscard]] const WorkerLoad& load() const { return load_; }

 private:
  WorkerLoad load_;
  std::optional<double> cpu_before_;
  TimePoint at_{};
  unsigned missed_ = 0;
};

}  // namespace perigee::health
