// How an exchange went, as far as it says something about the backend, and what each ending counts for.
//
// The proxy names the outcome; `counts()` is the one table that turns it into consequences for the
// breaker, the learned speed and the adaptive limit. Whether another attempt is allowed is not decided
// here: that is the route's replay rule.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "perigee/base/vocabulary.h"

namespace perigee::balancing {

// Reported once per ticket when its verdict falls: at the first event (success), or at the failure that
// came before it. A stream that was a success at its first event may report one of the stream_ outcomes,
// `stopped` or `client_gone` later; those never undo the first verdict.
enum class Outcome : std::uint8_t {
  success,                // first event of an answer below 400
  status_4xx,             // any 4xx but 429: the worker did its work
  connect_refused,
  connect_timeout,
  reset_before_head_fresh,   // on a connection made for this exchange: the worker broke it
  reset_reused_idle,      // on a pooled connection with nothing received: the keep-alive race
  reset_reused_warm,      // the same within a second of its last use: too soon for that race
  protocol_error,         // the answer was no HTTP, or its framing is unsafe
  head_timeout,
  first_event_timeout,    // a head came, then nothing that counts
  status_500,             // 500 and any 5xx not named below
  status_502,
  status_504,
  status_429_503,         // the worker's own limiter, or its pause
  stream_broken,          // cut after its first event
  stream_unterminated,    // ended in good order without its terminal event
  stream_error_event,     // carried an error event
  stopped,                // ended by a stop for its request id
  client_gone,            // the client left, before or after the first event
  our_refusal,            // our own doing: deadline, shutdown, a full buffer
};
inline constexpr std::size_t kOutcomeCount = 20;
inline constexpr std::array<std::string_view, kOutcomeCount> kOutcomeNames = {
    "success",        "status_4xx",    "connect_refused", "connect_timeout", "reset_before_head_fresh",
    "reset_reused_idle", "reset_reused_warm", "protocol_error", "head_timeout", "first_event_timeout", "status_500",
    "status_502",     "status_504",    "status_429_503",  "stream_broken",   "stream_unterminated",
    "stream_error_event", "stopped",   "client_gone",     "our_refusal"};
constexpr std::string_view to_string(Outcome o) { return kOutcomeNames[static_cast<std::size_t>(o)]; }

// What an outcome is to a breaker.
enum class BreakerEffect : std::uint8_t {
  none,         // says nothing of the backend; a trial that ends so is given back
  success,      // ends a run of failures
  failure,      // extends it
  // Matters to the share of failures over a window, neither ends nor extends a run of them. A trial that ends so
  // has succeeded: it fails only by what would have opened the breaker.
  window_only,
  // The same, but believed only where the backend's share is more than twice that of the rest of its pool: what a
  // provider does, or a pause, it does to all.
  beside_fleet,
};

// What an outcome is to the learned speed of the backend.
enum class SpeedEffect : std::uint8_t {
  none,
  sample,   // the time to the first event is a sample
  penalty,  // counts as a very slow answer (or as the worker's Retry-After, if that is longer)
};

struct Verdict {
  BreakerEffect breaker = BreakerEffect::none;
  SpeedEffect speed = SpeedEffect::none;
  bool drop = false;  // to an adaptive limit: this backend was given more than it can take
};

// ORBIT answers 500 for any failure of a model provider and for many an odd request, the same on every
// worker: such a 500 is no fault of the backend. A worker of unknown kind is given the same doubt.
Verdict counts(Outcome outcome, WorkerKind kind);

}  // namespace perigee::balancing
