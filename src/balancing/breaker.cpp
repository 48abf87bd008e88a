// The breaker's transitions. Each change of state starts a new epoch, which is what makes late verdicts
// harmless; each trial has an id of its own, so that a second verdict on it finds nothing.
#include "perigee/balancing/breaker.h"

#include <algorithm>
#include <cassert>

namespace perigee::balancing {

Breaker::Breaker(BreakerOptions options) { configure(options); }

void Breaker::configure(const BreakerOptions& options) {
  options_ = options;
  options_.consecutive = std::max(options_.consecutive, 1U);
  window_.set_length(options_.window);
  options_.trials = std::clamp(options_.trials, 1U, static_cast<std::uint32_t>(kMaxTrials));
}

std::uint32_t Breaker::trials_in_flight() const {
  return static_cast<std::uint32_t>(std::ranges::count_if(trials_, [](const Trial& t) { return t.id != 0; }));
}

bool Breaker::admits() const {
  if (state_ == State::half_open) return trials_in_flight() < options_.trials;
  return state_ == State::closed;
}

Breaker::Pass Breaker::begin(TimePoint now) {
  assert(admits());
  if (state_ != State::half_open) return {epoch_, 0};
  Trial* const slot = find(0);
  slot->id = next_trial_;
  slot->deadline = now + options_.trial_timeout;
  if (++next_trial_ == 0) next_trial_ = 1;
  return {epoch_, slot->id};
}

bool Breaker::settle(Pass pass, BreakerEffect effect, bool may_open, TimePoint now, Rng& rng,
                     const FailureWindow::Counts& others) {
  if (pass.epoch != epoch_) return false;
  if (state_ == State::half_open) {
    if (effect == BreakerEffect::none) return give_back(pass);
    Trial* const trial = pass.trial == 0 ? nullptr : find(pass.trial);
    if (trial == nullptr) return false;
    *trial = {};
    if (effect == BreakerEffect::failure) fail(may_open, now, rng);
    else if (++successes_ >= options_.trials) close(now);
    return true;
  }
  if (state_ != State::closed) return false;
  switch (effect) {
    case BreakerEffect::none: return false;
    case BreakerEffect::success:
      failures_ = 0;
      window_.add(FailureWindow::kSuccess, now);
      return false;
    case BreakerEffect::failure:
      if (failures_ < options_.consecutive) ++failures_;
      window_.add(FailureWindow::kFailure, now);
      break;
    case BreakerEffect::window_only: window_.add(FailureWindow::kFailure, now); break;
    case BreakerEffect::beside_fleet: window_.add(FailureWindow::kDoubtful, now); break;
  }
  return counted(may_open, now, rng, others);
}

bool Breaker::settle_late(Pass pass, BreakerEffect effect, bool may_open, TimePoint now, Rng& rng,
                          const FailureWindow::Counts& others) {
  if (pass.epoch != epoch_ || state_ != State::closed) return false;
  switch (effect) {
    case BreakerEffect::none:
    case BreakerEffect::success: return false;
    case BreakerEffect::failure:
    case BreakerEffect::window_only: window_.add(FailureWindow::kLateFailure, now); break;
    case BreakerEffect::beside_fleet: window_.add(FailureWindow::kLateDoubtful, now); break;
  }
  return counted(may_open, now, rng, others);
}

// A failure was counted while closed: is it one too many?
bool Breaker::counted(bool may_open, TimePoint now, Rng& rng, const FailureWindow::Counts& others) {
  if (!may_open) return false;
  bool trips = failures_ >= options_.consecutive;
  if (!trips && options_.ratio > 0) {
    const FailureWindow::Counts own = window_.sum(now);
    const std::uint64_t enough = 2ULL * options_.ratio_minimum;
    const auto share = [](std::uint64_t part, std::uint64_t total) {
      return total == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(total);
    };
    if (own.total >= enough) {
      const double all = share(own.failed + own.doubtful, own.total);
      trips = share(own.failed, own.total) >= options_.ratio ||
              (all >= options_.ratio && others.total >= enough && all > 2 * share(others.failed + others.doubtful, others.total));
    }
  }
  if (trips) fail(true, now, rng);
  return trips;
}

bool Breaker::give_back(Pass pass) {
  if (pass.epoch != epoch_ || pass.trial == 0) return false;
  Trial* const trial = find(pass.trial);
  if (trial == nullptr) return false;
  *trial = {};
  return true;
}

bool Breaker::advance(bool may_open, TimePoint now, Rng& rng) {
  if (state_ == State::open && now >= until_) {
    change(State::half_open);
    return true;
  }
  if (state_ != State::half_open) return false;
  const auto late = [now](const Trial& t) { return t.id != 0 && now >= t.deadline; };
  if (std::ranges::none_of(trials_, late)) return false;
  fail(may_open, now, rng);
  return true;
}

bool Breaker::half_open_early() {
  if (state_ == State::closed) {
    failures_ = 0;
    window_.clear();
  }
  if (state_ != State::open) return false;
  change(State::half_open);
  return true;
}

void Breaker::eject(Duration time, TimePoint now) {
  change(State::open);
  until_ = now + time;
  ++opened_total_;
}

TimePoint Breaker::next_change() const {
  if (state_ == State::open) return until_;
  TimePoint next = kNever;
  for (const Trial& trial : trials_) {
    if (trial.id != 0) next = std::min(next, trial.deadline);
  }
  return next;
}

Breaker::Trial* Breaker::find(std::uint32_t id) {
  const auto found = std::ranges::find(trials_, id, &Trial::id);
  return found == trials_.end() ? nullptr : &*found;
}

void Breaker::change(State to) {
  state_ = to;
  ++epoch_;
  failures_ = 0;
  successes_ = 0;
  until_ = kNever;
  trials_.fill({});
  window_.clear();
}

// A trip: the run of failures in closed, or a failed trial. Healthy minutes since the last closing are
// forgiven first.
void Breaker::fail(bool may_open, TimePoint now, Rng& rng) {
  if (state_ == State::closed && options_.forgive > Duration::zero()) {
    const auto minutes =
        static_cast<std::uint64_t>(std::max<std::int64_t>(0, (now - closed_since_) / options_.forgive));
    trips_ -= static_cast<std::uint32_t>(std::min<std::uint64_t>(trips_, minutes));
  }
  if (!may_open) {
    change(State::half_open);
    return;
  }
  if (trips_ < 1000) ++trips_;
  double seconds = to_seconds(options_.open_base);
  const double most = to_seconds(options_.open_max);
  for (std::uint32_t k = 1; k < trips_ && seconds < most; ++k) seconds *= 2.0;
  seconds = std::min(seconds, most) * rng.uniform(1.0 - options_.jitter, 1.0 + options_.jitter);
  change(State::open);
  until_ = now + from_seconds(seconds);
  ++opened_total_;
}

void Breaker::close(TimePoint now) {
  change(State::closed);
  closed_since_ = now;
}

}  // namespace perigee::balancing
