// The useful lines of ORBIT's /metrics, however the page is cut, and what hostile pages may not do.
#include "perigee/health/worker_metrics.h"

#include <doctest/doctest.h>

#include <string>

using namespace perigee;
using namespace perigee::health;
using std::chrono::seconds;

namespace {

const std::string kPage =
    "# HELP process_resident_memory_bytes Resident memory size in bytes.\n"
    "# TYPE process_resident_memory_bytes gauge\n"
    "process_resident_memory_bytes 3.9901184e+08\n"
    "process_start_time_seconds 1.7954225885e+09\n"
    "process_cpu_seconds_total 23.49\n"
    "process_open_fds 15.0\n"
    "process_open_fds_other 99.0\n"
    "orbit_http_requests_total{endpoint=\"/v1/chat\",method=\"POST\",status=\"200\"} 16.0\n"
    "orbit_http_requests_in_progress{endpoint=\"__pending_route__\",method=\"GET\"} 2.0\n"
    "orbit_http_requests_in_progress{endpoint=\"odd } 7\",method=\"POST\"} 3.0 1700000000000\n"
    "orbit_thread_pool_queued_tasks{pool=\"inference\"} 4.0";  // no line end at the end of the page

WorkerMetrics read_in_pieces(std::string_view page, std::size_t piece) {
  MetricsReader reader;
  for (std::size_t at = 0; at < page.size(); at += piece)
    reader.feed(page.substr(at, piece));
  return reader.finish();
}

const TimePoint kStart{seconds(1000)};

}  // namespace

TEST_CASE("the same numbers however the page is cut") {
  for (const std::size_t piece : {1UL, 2UL, 7UL, 64UL, 100'000UL}) {
    const WorkerMetrics m = read_in_pieces(kPage, piece);
    CHECK(m.cpu_seconds_total == 23.49);
    CHECK(m.resident_bytes == 3.9901184e+08);
    CHECK(m.open_descriptors == 15);
    CHECK(m.start_time_seconds == 1.7954225885e+09);
    CHECK(m.requests_in_progress == 5);
    CHECK(m.queued_tasks == 4);
  }
}

TEST_CASE("what is not there is absent, and nonsense is not there") {
  const WorkerMetrics m = read_in_pieces(
      "process_cpu_seconds_total NaN\nprocess_open_fds -3\nprocess_resident_memory_bytes\n"
      "process_start_time_seconds 12x\norbit_http_requests_in_progress{a=\"b 7\n\n#\n",
      5);
  CHECK_FALSE(m.cpu_seconds_total);
  CHECK_FALSE(m.open_descriptors);
  CHECK_FALSE(m.resident_bytes);
  CHECK_FALSE(m.start_time_seconds);
  CHECK_FALSE(m.requests_in_progress);
  CHECK_FALSE(m.queued_tasks);
}

TEST_CASE("lines that are too long are skipped, whole") {
  const std::string noise = std::string(100'000, 'x') + "\n";
  for (const std::size_t piece : {999UL, 4096UL, 1'000'000UL}) {
    const WorkerMetrics m = read_in_pieces(
        noise + "process_open_fds 5\n" + noise + "process_cpu_seconds_total 2\n" + noise, piece);
    CHECK(m.open_descriptors == 5);
    CHECK(m.cpu_seconds_total == 2);
  }
}

TEST_CASE("after four MiB nothing more is read") {
  MetricsReader reader;
  const std::string piece(64UL * 1024, '\n');
  for (std::size_t fed = 0; fed < MetricsReader::kPageMax; fed += piece.size())
    reader.feed(piece);
  reader.feed("process_open_fds 5\n");
  CHECK_FALSE(reader.finish().open_descriptors);
}

TEST_CASE("CPU is a rate; a restart gives none; two missed scrapes make everything unknown") {
  WorkerLoadTracker tracker;
  WorkerMetrics m;
  m.cpu_seconds_total = 10;
  m.resident_bytes = 5;
  CHECK_FALSE(tracker.scraped(m, kStart).cores);
  m.cpu_seconds_total = 14;
  CHECK(*tracker.scraped(m, kStart + seconds(5)).cores == doctest::Approx(.8));
  CHECK(tracker.missed().resident_bytes == 5);
  m.cpu_seconds_total = 1;
  CHECK_FALSE(tracker.scraped(m, kStart + seconds(15)).cores);
  tracker.missed();
  CHECK_FALSE(tracker.missed().known());
  m.cpu_seconds_total = 100;
  CHECK_FALSE(tracker.scraped(m, kStart + seconds(30)).cores);
}
