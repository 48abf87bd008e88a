#include "perigee/balancing/outcome.h"

#include <doctest/doctest.h>

using namespace perigee;
using namespace perigee::balancing;

TEST_CASE("what each outcome counts for") {
  using B = BreakerEffect;
  using S = SpeedEffect;
  struct Row {
    Outcome outcome;
    B breaker;
    S speed;
    bool drop;
  };
  const Row rows[] = {
      {Outcome::success, B::success, S::sample, false},
      {Outcome::status_4xx, B::success, S::sample, false},
      {Outcome::connect_refused, B::failure, S::penalty, true},
      {Outcome::connect_timeout, B::failure, S::penalty, true},
      {Outcome::reset_before_head_fresh, B::failure, S::penalty, true},
      {Outcome::reset_reused_idle, B::none, S::none, false},
      {Outcome::reset_reused_warm, B::window_only, S::penalty, false},
      {Outcome::protocol_error, B::failure, S::penalty, false},
      {Outcome::head_timeout, B::failure, S::penalty, true},
      {Outcome::first_event_timeout, B::failure, S::penalty, true},
      {Outcome::status_500, B::beside_fleet, S::none, false},
      {Outcome::status_502, B::failure, S::penalty, false},
      {Outcome::status_504, B::failure, S::penalty, false},
      {Outcome::status_429_503, B::beside_fleet, S::penalty, true},
      {Outcome::stream_broken, B::window_only, S::none, false},
      {Outcome::stream_unterminated, B::beside_fleet, S::none, false},
      {Outcome::stream_error_event, B::beside_fleet, S::none, false},
      {Outcome::stopped, B::none, S::none, false},
      {Outcome::client_gone, B::none, S::none, false},
      {Outcome::our_refusal, B::none, S::none, false},
  };
  static_assert(std::size(rows) == kOutcomeCount);
  for (const Row& row : rows) {
    CAPTURE(to_string(row.outcome));
    const Verdict v = counts(row.outcome, WorkerKind::orbit);
    CHECK(v.breaker == row.breaker);
    CHECK(v.speed == row.speed);
    CHECK(v.drop == row.drop);
  }
}

TEST_CASE("a 500 is the backend's fault only where it is not ORBIT's") {
  CHECK(counts(Outcome::status_500, WorkerKind::http).breaker == BreakerEffect::failure);
  CHECK(counts(Outcome::status_500, WorkerKind::http).speed == SpeedEffect::penalty);
  CHECK(counts(Outcome::status_500, WorkerKind::unknown).breaker == BreakerEffect::beside_fleet);
  CHECK(counts(Outcome::status_429_503, WorkerKind::http).breaker == BreakerEffect::window_only);
  for (std::size_t i = 0; i < kOutcomeCount; ++i) {
    const auto o = static_cast<Outcome>(i);
    if (o == Outcome::status_500 || o == Outcome::status_429_503) continue;
    CHECK(counts(o, WorkerKind::http).breaker == counts(o, WorkerKind::orbit).breaker);
  }
}
