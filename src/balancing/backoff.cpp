#include "perigee/balancing/backoff.h"

#include <algorithm>

namespace perigee::balancing {

Duration backoff(std::uint32_t retries, const BackoffOptions& options, Rng& rng) {
  const double grown = to_seconds(options.base) * static_cast<double>(1ULL << std::min(retries, 62U));
  return from_seconds(rng.uniform() * std::min(grown, to_seconds(options.cap)));
}

std::optional<Duration> retry_delay(Outcome outcome, bool another_backend, std::uint32_t retries,
                                    TimePoint now, TimePoint deadline, const BackoffOptions& options,
                                    Rng& rng) {
  const bool connect_failed = outcome == Outcome::connect_refused || outcome == Outcome::connect_timeout;
  const Duration wait = connect_failed && another_backend ? Duration::zero() : backoff(retries, options, rng);
  // By subtraction: `deadline` may be kNever, `now + wait` never overflows it that way.
  if (deadline <= now || deadline - now <= wait) return std::nullopt;
  return wait;
}

}  // namespace perigee::balancing
