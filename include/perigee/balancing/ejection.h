// How many backends of a pool breakers may take away: never most of them, never the last one.
//
// Breakers judge by statistics and can be wrong all at once (a provider that fails everywhere looks like
// N sick workers). So at most half of a pool may be opened by them, and in *panic*, when fewer than half
// are eligible for whatever reasons, opened ones are treated as half-open. Backends that refuse
// connections or fail their probes are facts, not statistics: they never count to the cap, and panic never
// sends to them. (Envoy has a cap and a panic threshold too; the numbers are ours.)
//
// In panic the dispatcher calls half_open_early() on every breaker that is open, and asks again after each
// change of health, drain or breaker state.
#pragma once

#include <cstddef>
#include <span>

#include "perigee/balancing/breaker.h"

namespace perigee::balancing {

struct EjectionMember {
  bool reachable = true;  // HealthState::reachable(): up by its probes
  bool draining = false;  // taken out by the operator: no part of the pool while it lasts
  Breaker::State breaker = Breaker::State::closed;
};

struct PoolStanding {
  std::size_t members = 0;   // not draining
  std::size_t eligible = 0;  // reachable, breaker closed
  std::size_t opened = 0;    // reachable, breaker open or half-open
  bool panic = false;        // opened ones are to be half-open
  bool may_open = false;     // one more closed breaker may open now
  bool may_reopen = false;   // a half-open one whose trial failed may open again

  // The `may_open` argument of Breaker::settle() and advance() for a breaker in this state.
  [[nodiscard]] bool allows_opening(Breaker::State now) const {
    return now == Breaker::State::half_open ? may_reopen : may_open;
  }
};

PoolStanding standing(std::span<const EjectionMember> pool);

}  // namespace perigee::balancing
