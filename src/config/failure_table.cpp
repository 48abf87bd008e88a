// What happens when workers fail, and how that is noticed.
#include "tables.h"
#include "values.h"

namespace perigee::config {

namespace {

// What a worker is judged by that fails now and then.
void add_windowed(Table<Breaker>& t) {
  t.add("ratio", &Breaker::ratio, share(0, 1), "Failed share of recent requests that opens a breaker; 0: none does");
  t.add("ratio_minimum", &Breaker::ratio_minimum, count(1, 1'000'000), "Requests in the window before the share is looked at");
  t.add("window", &Breaker::window, duration(1s, 1h), "Length of that window");
}

}  // namespace

Codec<Retries> retries() {
  Table<Retries> t;
  add_classes(t, &Retries::by_class, count(0, 10), "Further attempts after the first,");
  t.add("budget", &Retries::budget, share(0, 1), "Retries as a share of recent requests, at most");
  return section(std::move(t));
}

Codec<Breaker> breaker() {
  Table<Breaker> t;
  t.add("consecutive", &Breaker::consecutive, count_or_none(1, 1'000'000),
        "Failures in a row that open a worker's breaker");
  t.add("open", &Breaker::open, duration(10ms, 1h),
        "Time it stays open at first; doubles with each time in a row");
  t.add("open_max", &Breaker::open_max, duration(10ms, 24h), "Longest time it stays open");
  t.add("jitter", &Breaker::jitter, share(0, 1), "Random share of that time, either way");
  t.add("trials", &Breaker::trials, count(1, 1000),
        "Half-open: requests let through at once, all of which must succeed");
  add_windowed(t);
  return section(std::move(t));
}

Codec<Probe> probe() {
  Table<Probe> t;
  t.add("interval", &Probe::interval, duration(50ms, 1h), "Between two looks at a worker's state");
  t.add("jitter", &Probe::jitter, share(0, 0.9), "Random share of the interval, either way");
  t.add("down_interval", &Probe::down_interval, duration(50ms, 1h), "The interval while the worker is down");
  t.add("first_interval", &Probe::first_interval, duration(10ms, 1h), "The interval until its first answer");
  t.add("silent", &Probe::silent, duration(100ms, 1h),
        "No answer for this long: no new requests until one comes");
  t.add("lag_interval", &Probe::lag_interval, duration(50ms, 1h),
        "Between two looks at an ORBIT worker's delay, while it is used");
  t.add("fall", &Probe::fall, count(1, 1000), "Bad answers in a row that take a worker out");
  t.add("rise", &Probe::rise, count(1, 1000), "Good answers in a row that bring it back");
  t.add("kind", &Probe::kind, one_of<ProbeKind>(kProbeKindNames), "How a worker that is not ORBIT is asked");
  t.add("path", &Probe::path, text({.longest = 1024, .allowed = "/._-~%?&=:,;@+", .expected = "a path"}),
        "What such a worker is asked for; any answer is good");
  return section(std::move(t));
}

}  // namespace perigee::config
