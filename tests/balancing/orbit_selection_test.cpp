// The least-loaded choice on three serial-loop ORBIT workers: where the weights of orbit_costs() come from.
//
// Mean over ten seeds, in seconds: first event p50 and p95, worst answer of /health. "Flat" costs count a
// chat as 1 until its first event, and 64 KiB of prompt as one chat more; "head" leaves a fifth of it after
// the head; "fitted" also counts 16 KiB as one chat more. "Long prompts": 15 % of the chats have 32 KiB;
// "long answers": 30 % have five times the tokens.
//
//   load                          taking turns       flat              head              fitted
//   100 at once                  3.40  4.64 .171   3.41 4.64 .171    3.41 4.64 .171    3.41 4.64 .171
//   200 at once                  5.14  6.39 .337   5.14 6.38 .337    5.14 6.38 .337    5.14 6.38 .337
//   70 %, equal chats            1.73  2.96 .032   1.78 3.01 .062    1.76 2.98 .041    1.76 2.99 .039
//   90 %, equal chats            1.88  3.11 .094   2.02 3.29 .147    1.93 3.17 .102    1.94 3.17 .106
//   110 %, equal chats (60 s)    5.34  8.74 .697   5.53 8.91 .734    5.42 8.82 .707    5.42 8.82 .707
//   90 %, long prompts           2.15  4.02 .125   2.15 3.85 .114    2.12 3.75 .100    2.10 3.65 .102
//   90 %, and long answers       2.22  4.34 .172   2.21 4.04 .141    2.17 4.01 .132    2.14 3.84 .129
//   85 %, and worker 0 at half   2.31 22.94 1.17   2.19 4.12 .135    2.14 4.01 .110    2.13 3.88 .104
//
// β between .05 and .1 is flat; from .2 on a worker full of streams is shunned and it gets worse. 8 KiB a
// unit is nearer to the CPU that a character costs, and no better. Equal chats on equal workers are the one
// case in which taking turns is best: nothing beats a perfectly even sequence.
#include <doctest/doctest.h>

#include <vector>

#include "allocation_count.h"
#include "orbit_selection_model.h"

using namespace perigee::model;

namespace {

OrbitSelectionFigures mean(OrbitSelectionSetup setup) {
  OrbitSelectionFigures sum;
  const std::uint64_t seeds = perigee::test::kThorough ? 6 : 1;
  const double part = 1.0 / static_cast<double>(seeds);
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    setup.seed = 42 + seed;
    const OrbitSelectionFigures one = run_orbit_selection(setup);
    sum.p50 += one.p50 * part;
    sum.p95 += one.p95 * part;
    sum.mean += one.mean * part;
    sum.worst_health += one.worst_health * part;
    sum.served += one.served;
  }
  return sum;
}

OrbitSelectionSetup turns(OrbitSelectionSetup setup) {
  setup.picker = "round_robin";
  return setup;
}

// As the costs were before they were fitted.
OrbitSelectionSetup flat(OrbitSelectionSetup setup) {
  setup.costs.after_head = 1.0;
  setup.costs.bytes_per_unit.fill(64 * 1024);
  return setup;
}

}  // namespace

TEST_CASE("bursts of 100 and 200 chats: as even as taking turns") {
  for (const std::uint32_t chats : {100U, 200U}) {
    CAPTURE(chats);
    OrbitSelectionSetup setup;
    setup.at_once = chats;
    const OrbitSelectionFigures ours = mean(setup);
    const OrbitSelectionFigures rr = mean(turns(setup));
    CHECK(ours.p50 == doctest::Approx(chats == 100 ? 3.47 : 5.20).epsilon(0.05));
    CHECK(ours.p95 == doctest::Approx(chats == 100 ? 4.58 : 6.39).epsilon(0.05));
    CHECK(ours.worst_health <= 1.05 * rr.worst_health);
    CHECK(ours.p95 <= 1.03 * rr.p95);
  }
}

TEST_CASE("equal chats at 70 % and 110 %: within a few per cent of taking turns") {
  OrbitSelectionSetup setup;
  setup.per_second = 24;
  setup.seconds = 120;
  const OrbitSelectionFigures below = mean(setup);
  CHECK(below.p50 == doctest::Approx(1.76).epsilon(0.05));
  CHECK(below.p95 <= 1.03 * mean(turns(setup)).p95);
  setup.per_second = 38;
  setup.seconds = 60;
  const OrbitSelectionFigures above = mean(setup);
  const OrbitSelectionFigures above_rr = mean(turns(setup));
  CHECK(above.p95 <= 1.03 * above_rr.p95);
  CHECK(above.worst_health <= 1.05 * above_rr.worst_health);
}

TEST_CASE("unequal chats at 90 %: a shorter tail and a steadier loop than taking turns or flat costs") {
  OrbitSelectionSetup setup;
  setup.per_second = 22.5;
  setup.seconds = 120;
  setup.long_share = 0.15;
  const OrbitSelectionFigures ours = mean(setup);
  CHECK(ours.p95 <= 0.95 * mean(turns(setup)).p95);
  CHECK(ours.p95 <= 0.97 * mean(flat(setup)).p95);
  CHECK(ours.worst_health <= 0.95 * mean(turns(setup)).worst_health);
}

TEST_CASE("one worker at half speed: the others are not made to wait for it") {
  OrbitSelectionSetup setup;
  setup.per_second = 14;
  setup.seconds = 120;
  setup.long_share = 0.15;
  setup.mixed_tokens = 0.3;
  setup.speed_of_first = 0.5;
  const OrbitSelectionFigures ours = mean(setup);
  const OrbitSelectionFigures rr = mean(turns(setup));
  CHECK(ours.p95 < 0.3 * rr.p95);
  CHECK(ours.worst_health < 0.3 * rr.worst_health);
  CHECK(ours.p50 <= mean(flat(setup)).p50);
}
