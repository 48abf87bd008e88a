// Drives worker models under a policy, in virtual time: arrivals, one queue, the choice of a worker,
// probes, and what a client would measure. Used by head_lag_simulation_test.cpp; deterministic by seed.
#pragma once

#include <cstdint>
#include <vector>

#include "orbit_worker_model.h"
#include "perigee/admission/head_lag.h"

namespace perigee::model {

struct Load {
  const char* name = "";
  double rate = 40;  // arrivals a second, Poisson; unused for bursts
  ChatShape shape;
  double seconds = 120;     // measured over the second half
  std::uint32_t burst = 0;  // so many at once at the start instead of arrivals; runs until all ended
  std::uint32_t workers = 1;
  bool pauses = true;
  bool recovered = false;  // the controller begins as for a worker that came back
};

struct Policy {
  enum class Kind : std::uint8_t { direct, fixed, head_lag } kind = Kind::head_lag;
  std::uint32_t slots = 0;  // of fixed

  static Policy direct() { return {Kind::direct, 0}; }
  static Policy fixed(std::uint32_t n) { return {Kind::fixed, n}; }
  static Policy head_lag() { return {Kind::head_lag, 0}; }
};

struct Outcome {
  double served = 0;     // chats ended a second in the measured half
  double token_p50 = 0;  // seconds, sent - due
  double token_p95 = 0;
  double token_p99 = 0;
  double health_worst = 0;     // seconds
  double whole_mean = 0;       // arrival → end, seconds
  double first_token_p95 = 0;  // arrival → first token
  double slots = 0;            // of the first worker at the end
  double pace = 0;
  std::uint64_t stalls = 0;
  std::uint64_t ended = 0;
};

Outcome simulate(const Load& load, const Policy& policy, std::uint64_t seed);
// The controller of each worker while it runs, for looking at one run: called once a virtual second.
using Look = void (*)(double second, const admission::HeadLag& lag, std::uint32_t in_flight,
                      std::size_t waiting);
Outcome simulate(const Load& load, const Policy& policy, std::uint64_t seed, Look look);

// The five loads on one worker: short, slow tokens, long, heavy, slow provider.
const std::vector<Load>& five_loads();

}  // namespace perigee::model
