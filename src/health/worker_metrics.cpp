// Picking numbers out of a worker's /metrics. See worker_metrics.h.
#include "perigee/health/worker_metrics.h"

#include <charconv>
#include <cmath>

namespace perigee::health {
namespace {

std::optional<double> value_of(std::string_view text) {
  while (!text.empty() && text.front() == ' ')
    text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  // A timestamp may follow.
  const bool whole = end == text.data() + text.size() || *end == ' ' || *end == '\r';
  if (error != std::errc() || !whole || !std::isfinite(value) || value < 0) return std::nullopt;
  return value;
}

}  // namespace

void MetricsReader::feed(std::string_view piece) {
  piece = piece.substr(0, kPageMax - seen_);
  seen_ += piece.size();
  while (!piece.empty()) {
    const std::size_t end = piece.find('\n');
    const std::string_view part = piece.substr(0, end);
    if (started_.size() + part.size() > kLineMax) {
      skipping_ = true;
      started_.clear();
    }
    if (end == piece.npos) {
      if (!skipping_) started_ += part;
      return;
    }
    if (!skipping_) {
      if (started_.empty()) {
        line(part);
      } else {
        started_ += part;
        line(started_);
      }
    }
    started_.clear();
    skipping_ = false;
    piece.remove_prefix(end + 1);
  }
}

WorkerMetrics MetricsReader::finish() {
  if (!skipping_ && !started_.empty() && seen_ < kPageMax) line(started_);
  started_.clear();
  return found_;
}

void MetricsReader::line(std::string_view text) {
  if (text.empty() || text.front() == '#') return;
  const std::string_view name = text.substr(0, text.find_first_of("{ "));
  std::string_view rest = text.substr(name.size());
  if (rest.starts_with('{')) {
    // Label values may hold braces and blanks; the value stands after the last brace.
    const std::size_t close = rest.rfind('}');
    if (close == rest.npos) return;
    rest.remove_prefix(close + 1);
  }
  const auto take = [&](std::string_view wanted, std::optional<double>& into, bool sum) {
    if (name != wanted) return;
    if (const auto value = value_of(rest)) into = sum ? into.value_or(0) + *value : *value;
  };
  take("process_cpu_seconds_total", found_.cpu_seconds_total, false);
  take("process_resident_memory_bytes", found_.resident_bytes, false);
  take("process_open_fds", found_.open_descriptors, false);
  take("process_start_time_seconds", found_.start_time_seconds, false);
  take("orbit_http_requests_in_progress", found_.requests_in_progress, true);
  take("orbit_thread_pool_queued_tasks", found_.queued_tasks, true);
}

const WorkerLoad& WorkerLoadTracker::scraped(const WorkerMetrics& metrics, TimePoint now) {
  std::optional<double> cores;
  if (metrics.cpu_seconds_total && cpu_before_ && *metrics.cpu_seconds_total >= *cpu_before_ && now > at_) {
    cores = (*metrics.cpu_seconds_total - *cpu_before_) / to_seconds(now - at_);
  }
  cpu_before_ = metrics.cpu_seconds_total;
  at_ = now;
  missed_ = 0;
  load_ = {cores, metrics.resident_bytes, metrics.requests_in_progress, metrics.queued_tasks};
  return load_;
}

const WorkerLoad& WorkerLoadTracker::missed() {
  if (++missed_ >= 2) {
    load_ = {};
    cpu_before_.reset();
  }
  return load_;
}

}  // namespace perigee::health
