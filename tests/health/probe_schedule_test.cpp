// When the next look is due.
#include "perigee/health/probe_schedule.h"

#include <doctest/doctest.h>

using namespace perigee;
using namespace perigee::health;
using std::chrono::milliseconds;
using std::chrono::seconds;

TEST_CASE("pauses: 250 ms until the first answer, 2 s up, 1 s down, each but the first spread by a tenth") {
  const config::Probe probe;
  Rng rng(42);
  Duration least = Duration::max();
  Duration most{0};
  for (int i = 0; i < 10'000; ++i) {
    CHECK(pause_between_probes(probe, ProbePhase::unprobed, rng) == milliseconds(250));
    const Duration up = pause_between_probes(probe, ProbePhase::up, rng);
    least = std::min(least, up);
    most = std::max(most, up);
    const Duration down = pause_between_probes(probe, ProbePhase::down, rng);
    REQUIRE(down >= milliseconds(900));
    REQUIRE(down <= milliseconds(1100));
  }
  CHECK(least >= milliseconds(1800));
  CHECK(least < milliseconds(1810));
  CHECK(most <= milliseconds(2200));
  CHECK(most > milliseconds(2190));
}

TEST_CASE("a backend that is down is never looked at less often than one that is up") {
  config::Probe probe;
  probe.interval = milliseconds(300);
  probe.jitter = 0;
  Rng rng(1);
  CHECK(pause_between_probes(probe, ProbePhase::down, rng) == milliseconds(300));
}

TEST_CASE("a beat stays in step and skips what it missed") {
  const TimePoint start{seconds(10)};
  Beat beat(milliseconds(250));
  beat.start(start);
  CHECK(beat.due() == start);
  beat.made(start + milliseconds(3));
  CHECK(beat.due() == start + milliseconds(250));
  beat.made(start + milliseconds(4));
  CHECK(beat.due() == start + milliseconds(250));
  beat.made(start + milliseconds(251));
  CHECK(beat.due() == start + milliseconds(500));
  beat.made(start + milliseconds(1'700));
  CHECK(beat.due() == start + milliseconds(1'750));
  beat.made(start + milliseconds(2'000));
  CHECK(beat.due() == start + milliseconds(2'250));  // exactly on a beat: the next one
}
