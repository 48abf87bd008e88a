// What a worker's answer to a probe means.
//
// ORBIT answers GET /health/ready with 200 even when it is not ready, so the body decides. A worker of
// unknown kind is asked the same: a body with `healthy_ratio` shows ORBIT (as does the 503 that ORBIT gives
// while its adapters are not there yet), any other answer an ordinary HTTP server, which lives.
// Pure. Bodies are bounded by the caller (kReadyBodyMax).
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

#include "perigee/balancing/health_state.h"
#include "perigee/base/vocabulary.h"

namespace perigee::health {

inline constexpr std::size_t kReadyBodyMax = 16UL * 1024;

struct ReadyVerdict {
  balancing::ProbeResult result = balancing::ProbeResult::not_ready;
  WorkerKind kind = WorkerKind::unknown;  // what the answer shows, or `known`
  std::optional<double> healthy_ratio;    // share of ORBIT's adapters that are healthy
};

// `known`: what is written or was found before; unknown at first. Never gives `unknown` as kind.
ReadyVerdict judge_ready(WorkerKind known, int status, std::string_view body);

}  // namespace perigee::health
