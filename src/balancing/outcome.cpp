// The table of what each outcome counts for.
#include "perigee/balancing/outcome.h"

namespace perigee::balancing {

Verdict counts(Outcome outcome, WorkerKind kind) {
  using B = BreakerEffect;
  using S = SpeedEffect;
  switch (outcome) {
    case Outcome::success: return {B::success, S::sample, false};
    case Outcome::status_4xx: return {B::success, S::sample, false};
    case Outcome::connect_refused: return {B::failure, S::penalty, true};
    case Outcome::connect_timeout: return {B::failure, S::penalty, true};
    case Outcome::reset_before_head_fresh: return {B::failure, S::penalty, true};
    case Outcome::reset_reused_idle: return {B::none, S::none, false};
    case Outcome::reset_reused_warm: return {B::window_only, S::penalty, false};
    case Outcome::protocol_error: return {B::failure, S::penalty, false};
    case Outcome::head_timeout: return {B::failure, S::penalty, true};
    case Outcome::first_event_timeout: return {B::failure, S::penalty, true};
    case Outcome::status_500:
      if (kind == WorkerKind::http) return {B::failure, S::penalty, false};
      return {B::beside_fleet, S::none, false};
    case Outcome::status_502: return {B::failure, S::penalty, false};
    case Outcome::status_504: return {B::failure, S::penalty, false};
    case Outcome::status_429_503:
      // ORBIT's own limiter and its pause answer so on all workers at once.
      return {kind == WorkerKind::http ? B::window_only : B::beside_fleet, S::penalty, true};
    case Outcome::stream_broken: return {B::window_only, S::none, false};
    case Outcome::stream_unterminated: return {B::beside_fleet, S::none, false};
    case Outcome::stream_error_event: return {B::beside_fleet, S::none, false};
    case Outcome::stopped: return {B::none, S::none, false};
    case Outcome::client_gone: return {B::none, S::none, false};
    case Outcome::our_refusal: return {B::none, S::none, false};
  }
  return {};
}

}  // namespace perigee::balancing
