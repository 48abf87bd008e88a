// How long to wait before the next attempt: full jitter, U(0, min(cap, base · 2^n)).
//
// Full jitter spreads the retries of a crowd that failed at one moment best of all (Brooker, AWS, 2015);
// the base and cap are Envoy's. A connect that failed costs the worker nothing: if there is another one to
// go to, the next attempt starts at once.
#pragma once

#include <cstdint>
#include <optional>

#include "perigee/balancing/outcome.h"
#include "perigee/base/random.h"
#include "perigee/base/time.h"

namespace perigee::balancing {

struct BackoffOptions {
  Duration base = std::chrono::milliseconds(25);
  Duration cap = std::chrono::milliseconds(250);
};

// `retries`: how many were made before this one (0 for the first).
Duration backoff(std::uint32_t retries, const BackoffOptions& options, Rng& rng);

// The wait before retrying after `outcome`; nullopt when it would end at or past `deadline`.
// `another_backend`: a backend other than the failed one can take it.
std::optional<Duration> retry_delay(Outcome outcome, bool another_backend, std::uint32_t retries,
                                    TimePoint now, TimePoint deadline, const BackoffOptions& options,
                                    Rng& rng);

}  // namespace perigee::balancing
