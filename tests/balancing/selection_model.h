// Eight workers as processor-sharing servers in virtual time, with a picker in front: what the choice of a
// worker does to the time to first event.
//
// Jobs are embeddings (80 %, 30 ms of CPU), searches (14 %, 60 ms) and chats (6 %, 60 ms, then a stream of
// 4 to 40 s that costs 1.25 % of a core). CPU times are exponential. A worker with 400 jobs refuses.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace perigee::model {

enum class Scenario : std::uint8_t {
  equal,
  two_slow,      // workers 0 and 1 at 40 % speed
  fails_fast,    // worker 7 answers errors in 1 ms from 1200 s on
  slow_spell,    // worker 7 at 5 % speed during 800 … 1000 s
  // Every 30 s each worker is at 30 % speed with probability .25, but at most three of them at once: with
  // five the offered load exceeds what is left, and the tail would measure the draw, not the choice.
  redrawn,
};

struct SelectionSetup {
  Scenario scenario = Scenario::equal;
  double load = 0.85;
  std::uint64_t seed = 42;
  std::string_view picker = "least_loaded";
  bool normalised = true;       // learn per class, or as the published figures did from raw times
  bool chat_waits = false;      // a chat waits U(.3, 3) s for a provider, without CPU, before its first event
  double chat_weight = 1.0;
  double stream_cost = 0.02;
  bool penalty = true;          // a failure is a slow sample
  double seconds = 2200;        // the first 300 are not measured
};

struct SelectionFigures {
  double p50_ms = 0;  // of short jobs (embeddings, searches)
  double p99_ms = 0;
  std::uint64_t refused = 0;
  std::uint64_t decisions = 0;
  std::array<double, 8> share{};       // of dispatches, measured part
  double share7_failing = 0;           // worker 7's, from 1210 s on
  double share7_recovered = 0;         // worker 7's, from 1100 s on
};

SelectionFigures run_selection(const SelectionSetup& setup);

}  // namespace perigee::model
