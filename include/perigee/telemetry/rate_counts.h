// What rates and the Redis behind them counted so far, for the page of metrics. Labels are names of policies: a closed set
// of the operator's, never a tenant.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace perigee::telemetry {

struct RateCounts {
  struct Policy {
    std::string name;
    std::uint64_t allowed = 0;
    std::uint64_t refused_requests = 0;  // for want of requests
    std::uint64_t refused_tokens = 0;    // for want of tokens
    std::uint64_t refused_concurrent = 0;  // for want of a place
    std::uint64_t running = 0;           // keys with something running, where that is counted
    std::uint64_t tokens = 0;            // counted when chats ended
    std::uint64_t evicted = 0;           // keys forgotten for want of room
  };
  std::vector<Policy> policies;
};

struct RedisCounts {
  bool configured = false;
  bool connected = false;  // of one loop at least
  std::uint64_t calls = 0;
  std::uint64_t answers = 0;
  std::uint64_t timeouts = 0;
  std::uint64_t failures = 0;   // answered by an error, or lost with the connection
  std::uint64_t fallbacks = 0;  // requests decided by this sidecar's own part of a rate
  std::uint64_t connects = 0;
  std::uint64_t latency_ns = 0;  // of all answers together
};

}  // namespace perigee::telemetry
