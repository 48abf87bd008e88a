// Rates that several sidecars keep together: GCRA as one script in Redis.
//
// A request is one round trip: the script looks at all of its buckets and charges all or none, by Redis' own clock (no
// sidecar's is read, so that they need not agree), in whole microseconds. A bucket is one key that runs out by itself.
// Never blocks beyond the client's time-out; while Redis is away take() fails at once and the caller decides with its
// own part of each rate. What is settled later is sent and not waited for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "perigee/admission/gcra.h"
#include "perigee/state/redis_client.h"

namespace perigee::state {

struct SharedBucket {
  std::string key;             // perigee:{TENANT}:POLICY:r
  admission::RateSpec spec;
  std::uint64_t n = 1;         // tokens; 0 = only looked at
};

struct SharedAnswer {
  bool allowed = false;
  std::vector<admission::RateAnswer> buckets;  // in the order asked
};

class SharedRates {
 public:
  SharedRates(coro::Executor& executor, net::Connector& connector, RedisCounters& counters, std::uint64_t seed);

  [[nodiscard]] RedisClient& client() { return client_; }
  [[nodiscard]] coro::Task<Result<SharedAnswer>> take(std::vector<SharedBucket> buckets);
  // `more` tokens than were charged (less where negative).
  void settle(const SharedBucket& bucket, std::int64_t more);

 private:
  RedisClient client_;
};

}  // namespace perigee::state
