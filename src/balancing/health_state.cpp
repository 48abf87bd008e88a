#include "perigee/balancing/health_state.h"

namespace perigee::balancing {

bool HealthState::on_probe(ProbeResult result, TimePoint now) {
  const bool before = eligible();
  switch (result) {
    case ProbeResult::ok:
      last_answer_ = now;
      bad_ = 0;
      ++good_;
      if (state_ == State::unprobed || state_ == State::silent) enter(State::up, now);
      else if ((state_ == State::down || state_ == State::refused) && good_ >= options_.rise)
        enter(State::up, now);
      break;
    case ProbeResult::not_ready:
      last_answer_ = now;
      good_ = 0;
      ++bad_;
      // Only a backend in use is given the benefit of three bad answers.
      if (state_ != State::up || bad_ >= options_.fall) enter(State::down, now);
      break;
    case ProbeResult::refused:
      last_answer_ = now;
      enter(State::refused, now);
      break;
    case ProbeResult::timeout:
      good_ = 0;
      return advance(now);
  }
  return before != eligible();
}

bool HealthState::on_refused_exchange(TimePoint now) {
  const bool before = eligible();
  last_answer_ = now;
  enter(State::refused, now);
  return before != eligible();
}

bool HealthState::on_sign_of_life(TimePoint now) {
  const bool before = eligible();
  last_answer_ = now;
  if (state_ == State::silent) enter(State::up, now);
  return before != eligible();
}

bool HealthState::advance(TimePoint now) {
  const bool before = eligible();
  const bool may_fall_silent = state_ == State::up || state_ == State::unprobed;
  if (may_fall_silent && now - last_answer_ >= options_.silence) enter(State::silent, now);
  return before != eligible();
}

bool HealthState::set_draining(bool draining) {
  const bool before = eligible();
  draining_ = draining;
  return before != eligible();
}

void HealthState::enter(State to, TimePoint now) {
  if (to == state_) {
    if (to == State::refused) good_ = 0;
    return;
  }
  if (to == State::up) recovered_ = state_ == State::down || state_ == State::refused;
  else good_ = 0;
  bad_ = 0;
  state_ = to;
  since_ = now;
}

std::string_view to_string(HealthState::State state) {
  switch (state) {
    case HealthState::State::unprobed: return "unprobed";
    case HealthState::State::up: return "up";
    case HealthState::State::down: return "down";
    case HealthState::State::refused: return "refused";
    case HealthState::State::silent: return "silent";
  }
  return "unknown";
}

}  // namespace perigee::balancing
