#include "perigee/admission/overload.h"

#include <algorithm>
#include <cmath>

namespace perigee::admission {

// --- codel and lifo ---------------------------------------------------------------------------------------------

// Steps of a part of the value: the same for work of milliseconds and of minutes. Larger at first, to get there.
void ServiceMedian::add(Duration service) {
  const double step = samples_ < 50 ? 0.2 : 0.02;
  ++samples_;
  seconds_ *= to_seconds(service) > seconds_ ? 1 + step : 1 / (1 + step);
  seconds_ = std::clamp(seconds_, 1e-4, 600.0);
}

DelayTarget DelayTarget::of(Duration median) {
  return {std::max<Duration>(median / 2, std::chrono::milliseconds(5)),
          std::clamp<Duration>(10 * median, std::chrono::milliseconds(100), std::chrono::seconds(5))};
}

bool CoDel::drop(Duration delay, const DelayTarget& aim, TimePoint now) {
  if (now >= interval_end_) {
    // An interval in which nobody left the queue says nothing.
    const bool idle = now >= interval_end_ + aim.interval;
    overloaded_ = !idle && least_ > aim.target;
    interval_end_ = now + aim.interval;
    least_ = delay;
    return false;
  }
  least_ = std::min(least_, delay);
  return overloaded_ && delay > 2 * aim.target;
}

// --- pi ---------------------------------------------------------------------------------------------------------

void PiRejector::step(double in, double out, double free, double queued) {
  if (in == 0 && out == 0) return;
  const double error = (in - out - free + 0.2 * queued) / std::max(out, 1.0);
  integral_ = std::clamp(integral_ + kKi * error * to_seconds(kStep), 0.0, kIntegralMost);
  r_ = std::clamp(1.0 - std::exp(-(kKp * error + integral_)), 0.0, kShareMost);
  set_threshold();
}

// The (1 - r) quantile of the last ranks. Of those who stand on it a part is refused, so that the share is met
// where all who ask are alike, too.
void PiRejector::set_threshold() {
  threshold_ = kRanks;
  share_at_threshold_ = 0;
  if (r_ <= 0 || seen_ == 0) return;
  double above = r_ * static_cast<double>(seen_);  // to be refused of those seen, the highest first
  for (unsigned rank = kRanks; rank-- > 0;) {
    const double here = count_[rank];
    if (here < above) {
      above -= here;
      continue;
    }
    threshold_ = rank;
    share_at_threshold_ = here > 0 ? above / here : 0;
    return;
  }
}

bool PiRejector::refuse(unsigned rank) {
  rank = std::min(rank, kRanks - 1);
  if (seen_ == kRing) --count_[ring_[at_]];
  else ++seen_;
  ring_[at_] = static_cast<std::uint16_t>(rank);
  ++count_[rank];
  at_ = (at_ + 1) % kRing;
  if (rank < 128 || rank < threshold_) return false;  // critical is never refused
  if (rank > threshold_) return true;
  carry_ += share_at_threshold_;
  if (carry_ < 1) return false;
  carry_ -= 1;
  return true;
}

// --- one pool ---------------------------------------------------------------------------------------------------

bool OverloadControl::drop(Duration delay, TimePoint now) {
  return kind_ == OverloadKind::codel && codel_.drop(delay, DelayTarget::of(median_.value()), now);
}

void OverloadControl::set_waiting(bool somebody, TimePoint now) {
  if (somebody && !waiting_) waiting_since_ = now;
  waiting_ = somebody;
}

bool OverloadControl::overloaded(TimePoint now) const {
  return codel_.overloaded() || newest_first(now) || rejector_.share() > 0;
}

void OverloadControl::step(std::uint64_t queued, double free, TimePoint now) {
  // After a silence nothing is known of the steps in between.
  const bool first = next_step_ == TimePoint{} || now - next_step_ > 10 * PiRejector::kStep;
  next_step_ = now + PiRejector::kStep;
  if (first) rejector_ = PiRejector();
  else rejector_.step(in_, out_, free, static_cast<double>(queued));
  in_ = 0;
  out_ = 0;
}

}  // namespace perigee::admission
