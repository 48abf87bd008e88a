// Three ORBIT workers, each one serial event loop, with a picker in front: what the choice of a worker does
// to the first event of a chat and to the worker's own /health. A chat is 55 ms of CPU, a model's wait of
// U(.3, 3) s, and 40 tokens 50 ms apart of 0.8 ms of CPU each: a worker stands 11.5 of them a second.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "perigee/balancing/backend_load.h"

namespace perigee::model {

struct OrbitSelectionSetup {
  std::string_view picker = "least_loaded";
  balancing::CostModel costs = balancing::orbit_costs();
  double speed_of_first = 1.0;     // of worker 0 beside the others
  std::uint32_t at_once = 0;       // chats that all come at 0, or
  double per_second = 0;           // Poisson
  double seconds = 60;
  double long_share = 0;           // of the chats: 32 KiB of prompt, 230 ms more CPU
  double mixed_tokens = 0;         // share of chats with five times the tokens
  std::uint32_t slots = 0;         // per worker; the rest waits in one queue. 0 = no bound
  std::uint64_t seed = 42;
};

struct OrbitSelectionFigures {
  double p50 = 0;           // arrival → first token, seconds
  double p95 = 0;
  double mean = 0;
  double worst_health = 0;  // seconds, of probes every 250 ms to each worker
  std::uint64_t served = 0;
  std::array<std::uint64_t, 3> chats{};
};

OrbitSelectionFigures run_orbit_selection(const OrbitSelectionSetup& setup);

}  // namespace perigee::model
