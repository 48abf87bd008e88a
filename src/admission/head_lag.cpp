// Head-lag control, derived from delay-based congestion control. The constants were tuned on the worker
// model of tests/admission; README.md of this folder has the figures and what each of them costs.
#include "perigee/admission/head_lag.h"

#include <algorithm>
#include <utility>

namespace perigee::admission {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Target = the least lag ever seen (10 min) + this. More throughput and later tokens above, less below.
constexpr double kTargetAbove = 0.070;
constexpr double kLongestBase = 0.100;  // seconds: a first sample from a cold worker is no base

constexpr double kBucketDepth = 3.0;  // starts that may come at once
constexpr double kPaceCut = 0.30;  // at twice the target and beyond
constexpr Duration kPaceCutEvery = milliseconds(100);

constexpr double kSlotCut = 0.9;
constexpr double kGrowthBelowStart = 1.040;  // a worker that came back, on its way to the usual start
constexpr double kGrowthAtFirst = 1.010;
constexpr double kGrowth = 1.008;  // once a standing delay was met
constexpr Duration kGrowthEvery = milliseconds(250);
constexpr double kLifetimeWeight = 0.05;

constexpr Duration kProbeInStall = milliseconds(50);  // a probe out for so long waited through the silence
constexpr Duration kLongestStall = seconds(1);
constexpr Duration kLongestDrain = seconds(2);
constexpr double kDrainPace = 0.1;  // part of the pace while a stall's backlog drains

std::int64_t second_of(TimePoint t) {
  return std::chrono::floor<seconds>(t.time_since_epoch()).count();
}
std::int64_t tenth_of(TimePoint t) {
  return std::chrono::floor<milliseconds>(t.time_since_epoch()).count() / 100;
}

}  // namespace

void HeadLag::SlidingBase::add(TimePoint now, double s) {
  const std::int64_t minute = std::max(second_of(now) / 60, minute_);
  const std::int64_t oldest = minute - static_cast<std::int64_t>(kMinutes) + 1;
  for (std::int64_t m = std::max(minute_ + 1, oldest); m <= minute; ++m) {
    least_[static_cast<std::size_t>(m) % kMinutes] = kInfinity;
  }
  minute_ = minute;
  double& least = least_[static_cast<std::size_t>(minute) % kMinutes];
  least = std::min(least, s);
}

double HeadLag::SlidingBase::value() const {
  return *std::min_element(least_.begin(), least_.end());
}

void HeadLag::LastSecond::add(TimePoint now, double part) {
  const std::int64_t number = tenth_of(now);
  Tenth& tenth = tenths_[static_cast<std::size_t>(number) % kTenths];
  tenth = {number, tenth.number == number ? std::min(tenth.least, part) : part};
}

double HeadLag::LastSecond::least(TimePoint now) const {
  const std::int64_t before = tenth_of(now) - static_cast<std::int64_t>(kTenths);
  double least = kInfinity;
  for (const Tenth& t : tenths_) {
    if (t.number > before) least = std::min(least, t.least);
  }
  return least;
}

HeadLag::HeadLag(const HeadLagConfig& config, TimePoint now)
    : config_(config),
      steered_(true),
      pace_(config.start_pace),
      slots_(std::min(config.start_slots, config.ceiling)),
      tokens_(kBucketDepth),
      tokens_at_(now),
      last_byte_(now) {}

HeadLag HeadLag::fixed(std::uint32_t slots) {
  HeadLag h;
  h.slots_ = slots;
  return h;
}

void HeadLag::recovered(TimePoint now) {
  if (!steered_) return;
  HeadLag fresh(config_, now);
  // What an operator reads goes on: counters never fall, and the trace shows what led here.
  fresh.stalls_ = stalls_;
  fresh.slot_cuts_ = slot_cuts_;
  fresh.pace_cuts_ = pace_cuts_;
  fresh.trace_ = trace_;
  fresh.trace_second_ = trace_second_;
  fresh.trace_first_ = trace_first_;
  fresh.growth_held_ = growth_held_;
  *this = fresh;
  pace_ = config_.recovered_pace;
  slots_ = std::min(config_.recovered_slots, config_.ceiling);
  tokens_ = 1;
}

void HeadLag::set_ceiling(double ceiling) {
  config_.ceiling = ceiling;
  slots_ = steered_ ? std::min(slots_, ceiling) : ceiling;
}

// --- starts

double HeadLag::tokens_at(TimePoint now) const {
  const Duration held = std::clamp(draining_until_ - tokens_at_, Duration::zero(), now - tokens_at_);
  const double refill = to_seconds(held) * kDrainPace + to_seconds(now - tokens_at_ - held);
  return std::min(kBucketDepth, tokens_ + refill * pace());
}

void HeadLag::settle(TimePoint now) {
  if (now < tokens_at_) return;
  tokens_ = tokens_at(now);
  tokens_at_ = now;
}

StartAnswer HeadLag::may_start(TimePoint now, std::uint32_t in_flight) const {
  if (in_flight >= slots()) return StartAnswer::slots;
  if (paced() && tokens_at(std::max(now, tokens_at_)) < 1.0) return StartAnswer::pace;
  return StartAnswer::yes;
}

void HeadLag::take_start(TimePoint now) {
  if (!steered_) return;
  settle(now);
  tokens_ -= 1.0;
}

void HeadLag::give_back_start(TimePoint now) {
  if (!steered_) return;
  settle(now);
  tokens_ = std::min(kBucketDepth, tokens_ + 1.0);
}

void HeadLag::note_held_back(TimePoint now, std::uint32_t in_flight) {
  const StartAnswer answer = may_start(now, in_flight);
  held_by_pace_ = held_by_pace_ || answer == StartAnswer::pace;
  held_by_slots_ = held_by_slots_ || answer == StartAnswer::slots;
}

TimePoint HeadLag::next_change(TimePoint now, std::uint32_t in_flight) const {
  const StartAnswer answer = may_start(now, in_flight);
  if (answer == StartAnswer::yes) return now;
  if (answer == StartAnswer::slots) return kNever;
  const TimePoint from = std::max(now, tokens_at_);
  const double missing = 1.0 - tokens_at(from);
  const double during_drain =
      to_seconds(std::max(draining_until_ - from, Duration::zero())) * kDrainPace * pace();
  // A microsecond late rather than early: rounding must not make a timer fire for nothing.
  constexpr Duration kAfter = std::chrono::microseconds(1);
  if (missing <= during_drain) return from + from_seconds(missing / (kDrainPace * pace())) + kAfter;
  return std::max(from, draining_until_) + from_seconds((missing - during_drain) / pace()) + kAfter;
}

// --- samples

bool HeadLag::on_head_sample(TimePoint now, TimePoint sent, std::uint32_t in_flight) {
  return on_sample(now, sent, head_base_, in_flight);
}

void HeadLag::on_probe_sent(TimePoint now) {
  probe_out_ = true;
  probe_sent_ = now;
}

bool HeadLag::on_probe_sample(TimePoint now, TimePoint sent, std::uint32_t in_flight) {
  probe_out_ = false;
  return on_sample(now, sent, probe_base_, in_flight);
}

bool HeadLag::on_sample(TimePoint now, TimePoint sent, SlidingBase& base, std::uint32_t in_flight) {
  if (!steered_) return false;
  settle(now);
  const double lag = std::max(0.0, to_seconds(now - sent));
  base.add(now, lag);
  const double target = std::min(base.value(), kLongestBase) + kTargetAbove;
  const bool was_hung = std::exchange(hung_, false);
  last_lag_ = lag;
  HeadLagTrace& trace = trace_now(now);
  trace.lag_seconds = std::max(trace.lag_seconds, static_cast<float>(lag));
  trace.in_flight = static_cast<std::uint16_t>(std::min<std::uint32_t>(in_flight, 65535));

  bool more = was_hung;
  if (sent < silence_to_ && lag > target) {
    if (confirmed_to_ < silence_to_) confirm_stall(now);
  } else {
    last_second_.add(now, lag / target);
    if (draining(now) && lag < target) {
      draining_until_ = now;
      more = true;
    }
    if (!draining(now)) {
      more = steer_pace(now, lag, target) || more;
      more = steer_slots(now, lag / target, in_flight) || more;
    }
  }
  trace.pace = static_cast<float>(pace_);
  trace.slots = static_cast<float>(slots_);
  return more;
}

// Up by what is left of the target while somebody needs it, down by how far it was passed.
bool HeadLag::steer_pace(TimePoint now, double lag, double target) {
  if (!paced()) return false;
  if (lag < target) {
    if (!held_by_pace_) return false;
    held_by_pace_ = false;
    const double most = growth_held_ ? std::max(pace_, config_.start_pace) : config_.most_pace;
    pace_ = std::min(most, pace_ + 1.0 - lag / target);
    return true;
  }
  if (now < next_pace_cut_) return false;
  next_pace_cut_ = now + std::max(kPaceCutEvery, from_seconds(lag));
  pace_ = std::max(config_.least_pace, pace_ * (1.0 - kPaceCut * std::min(1.0, (lag - target) / target)));
  ++pace_cuts_;
  return false;
}

// Slots answer slowly (a chat that is cut now would have ended in seconds), so only a standing delay
// moves them down, and growth is by time, not by sample or completion.
bool HeadLag::steer_slots(TimePoint now, double part, std::uint32_t in_flight) {
  const double standing = last_second_.least(now);
  if (standing > 1.0 && standing < kInfinity && now >= next_slot_cut_ && now >= no_slot_cut_before_) {
    slow_ = false;
    const double cut = kSlotCut * std::min(slots_, static_cast<double>(in_flight));
    slots_ = std::min(slots_, std::max(config_.least_slots, cut));
    next_slot_cut_ = now + from_seconds(std::max(1.0, lifetime_ / 2));
    held_by_slots_ = false;
    ++slot_cuts_;
    return false;
  }
  if (part >= 1.0 || !held_by_slots_ || now < next_growth_) return false;
  held_by_slots_ = false;
  next_growth_ = now + kGrowthEvery;
  const std::uint32_t before = slots();
  const double first = slots_ < config_.start_slots ? kGrowthBelowStart : kGrowthAtFirst;
  const double most = growth_held_ ? std::max(slots_, std::min(config_.start_slots, config_.ceiling)) : config_.ceiling;
  slots_ = std::min(most, slots_ * (slow_ ? first : kGrowth));
  return slots() > before;
}

void HeadLag::on_unanswered(TimePoint now, TimePoint sent, std::uint32_t in_flight) {
  if (!steered_) return;
  const double target = std::min(probe_base_.value(), kLongestBase) + kTargetAbove;
  if (to_seconds(now - sent) <= 10 * target + to_seconds(kLongestStall)) return;
  settle(now);
  hung_ = true;
  tokens_ = std::min(tokens_, 1.0);
  HeadLagTrace& trace = trace_now(now);
  trace.lag_seconds = std::max(trace.lag_seconds, static_cast<float>(to_seconds(now - sent)));
  trace.in_flight = static_cast<std::uint16_t>(std::min<std::uint32_t>(in_flight, 65535));
  trace.pace = static_cast<float>(pace());
}

// --- stalls

void HeadLag::on_byte(TimePoint now, std::uint32_t running_chats) {
  if (now - last_byte_ >= kStallSilence) on_silence(last_byte_, now, running_chats);
  last_byte_ = now;
}

void HeadLag::on_silence(TimePoint from, TimePoint to, std::uint32_t running_chats) {
  if (!steered_ || to - from < kStallSilence || running_chats < kStallRunning) return;
  silence_from_ = std::max(from, to - kLongestStall);
  silence_to_ = to;
  // Chats may be silent for want of tokens; a probe that waits as well says that the loop stood still.
  // Without one out, a late sample sent before the end of the silence says it afterwards.
  if (probe_out_ && to - probe_sent_ >= kProbeInStall) confirm_stall(to);
}

void HeadLag::confirm_stall(TimePoint now) {
  confirmed_to_ = silence_to_;
  ++stalls_;
  ++trace_now(now).stalls;
  no_slot_cut_before_ = silence_to_ + 2 * (silence_to_ - silence_from_);
  // What fell due meanwhile is a backlog that the tokens of a full worker drain slowly. Starting more
  // into it makes every running chat late and would be answered by cuts that the load does not deserve:
  // so hold starts down until a sample is below target, and go on where we were.
  if (!held_by_pace_ && !held_by_slots_) return;
  settle(now);
  tokens_ = std::min(tokens_, 0.0);
  draining_until_ = now + kLongestDrain;
}

void HeadLag::on_end(Duration lifetime) {
  const double s = to_seconds(lifetime);
  lifetime_ = lifetime_ == 0 ? s : lifetime_ + kLifetimeWeight * (s - lifetime_);
}

// --- the trace

HeadLagTrace& HeadLag::trace_now(TimePoint now) {
  const std::int64_t second = second_of(now);
  if (trace_second_ < 0) trace_first_ = trace_second_ = second - 1;
  const std::int64_t oldest = second - static_cast<std::int64_t>(kTraceSeconds) + 1;
  for (std::int64_t s = std::max(trace_second_ + 1, oldest); s <= second; ++s) {
    HeadLagTrace& t = trace_[static_cast<std::size_t>(s) % kTraceSeconds];
    t = HeadLagTrace{};
    t.at = TimePoint(seconds(s));
    t.pace = static_cast<float>(pace());
    t.slots = static_cast<float>(slots_);
  }
  trace_second_ = std::max(trace_second_, second);
  return trace_[static_cast<std::size_t>(trace_second_) % kTraceSeconds];
}

bool HeadLag::trace(std::size_t i, HeadLagTrace& out) const {
  const std::int64_t second = trace_second_ - static_cast<std::int64_t>(i);
  if (trace_second_ < 0 || i >= kTraceSeconds || second <= trace_first_) return false;
  out = trace_[static_cast<std::size_t>(second) % kTraceSeconds];
  return true;
}

}  // namespace perigee::admission
