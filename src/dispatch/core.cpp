// Asking, waiting, granting and giving back: the paths that every exchange takes.
#include "core.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <utility>

namespace perigee::dispatch {

using balancing::Breaker;
using balancing::BreakerEffect;
using balancing::Outcome;
using balancing::SpeedEffect;

namespace {

constexpr std::size_t index(RequestClass c) { return static_cast<std::size_t>(c); }
// Fail fast where nothing is up: three seconds, as linkerd has it.
constexpr Duration kNoBackendRetry = std::chrono::seconds(3);
// Twice the half-life of what the throttle goes by.
constexpr Duration kThrottledRetry = std::chrono::seconds(6);
constexpr Duration kSpeedReview = std::chrono::milliseconds(50);
constexpr Duration kContended = std::chrono::seconds(1);  // after the last wait: slots are what is scarce
constexpr Duration kLearning = std::chrono::seconds(60);  // after the last wait: service times are looked at

// Share of its pool's grants below which a priority is taken to be overtaken, and not only to be counted coarsely.
constexpr double kOvertaken = 0.7;
// Grants by written priority for each that age may decide.
constexpr std::uint32_t kNativeTurns = 8;

TimePoint later(TimePoint t, Duration d) { return d > kNever - t ? kNever : t + d; }

}  // namespace

Core::~Core() { assert(queue_.entries() == 0 && decided_.empty()); }

// --- who may use what -------------------------------------------------------------------------------------

// Backends that this ask may ever use as things stand, whether or not they have room now. What earlier
// attempts failed on is left out while there is anything else.
BackendSet Core::usable(const Waiter& w) const {
  if (w.pinned_.exists()) {
    const Backend* b = find(w.pinned_);
    return b == nullptr ? 0 : b->bit() & reachable_;
  }
  BackendSet all = pools_[w.pool_]->members & up_ & ~shut_;
  if (w.priority == Priority::low && (throttle_.above_soft || hot_ != 0)) all = spare_for_low(all);
  const BackendSet others = all & ~w.excluded_;
  return others != 0 ? others : all;
}

// Nothing is up, and nothing is left whose first probe might find it up.
bool Core::hopeless(const Waiter& w) const {
  if (w.pinned_.exists()) {
    const Backend* b = find(w.pinned_);
    return b == nullptr || b->removed || ((reachable_ | unprobed_) & b->bit()) == 0;
  }
  return (pools_[w.pool_]->members & (up_ | unprobed_)) == 0;
}

bool Core::may_start_now(const Backend& b) const {
  if (b.lag.may_start(now_, b.in_flight) != admission::StartAnswer::yes) return false;
  return !b.slow_starting || b.in_flight < b.slow.limit(b.lag.slots(), now_);
}

Core::Free Core::free_among(BackendSet set) const {
  return {free_slots(set), free_critical(set)};
}

BackendSet Core::free_slots(BackendSet set) const {
  BackendSet free = 0;
  for_each(set, [&](const Backend& b) {
    if (may_start_now(b)) free |= b.bit();
  });
  return free;
}

BackendSet Core::free_critical(BackendSet set) const {
  BackendSet free = 0;
  for_each(set, [&](const Backend& b) {
    if (b.critical < policy_.critical_slots) free |= b.bit();
  });
  return free;
}

BackendSet Core::startable(const Waiter& w, BackendSet usable, const Free& free) {
  if (w.critical_) return usable & free.critical;
  BackendSet set = usable & free.normal;
  if (has_shares_) set = within_shares(w.request_class, usable, set);
  if (!w.pinned_.exists()) set &= admitting_;
  const std::size_t start_pool = start_pool_of(w.request_class);
  if (bounded_starts_ && start_pool < kStartPoolCount) {
    for_each(set, [&](Backend& b) {
      if (b.starts[start_pool].count(now_) >= policy_.starting[start_pool]) set &= ~b.bit();
    });
  }
  return set & ~held_back(w, usable, set);
}

// --- slow backends are left idle where a fast one will be free sooner ----------------------------------------

// A pool where nobody waits has no use for it: there the cheapest place is the right one.
bool Core::contended(const Pool& pool) const {
  return pool.waiting() != 0 || now_ - pool.last_wait < kContended;
}

BackendSet Core::held_back(const Waiter& w, BackendSet use, BackendSet set) const {
  if ((set & slow_) == 0 || w.pinned_.exists()) return 0;
  const Pool& pool = *pools_[w.pool_];
  if ((use & ~slow_) == 0 || !contended(pool)) return 0;
  const bool important = w.priority <= Priority::high;
  balancing::ServiceSpeed::Queue waiting;
  for (const LaneQueue* queue : {&pool.plain, &pool.streamed, &pool.picky}) {
    waiting.all += queue->size();
    waiting.important += queue->count(Priority::critical) + queue->count(Priority::high);
  }
  if (w.queue_ == nullptr) {  // at the door: only those who wait already may lift a hold, for it is theirs
    waiting.all = std::max(waiting.all, 1U);
    if (important) waiting.important = std::max(waiting.important, 1U);
  }
  BackendSet held = 0;
  for_each(set & slow_, [&](const Backend& b) {
    if (b.service.held(waiting, important)) held |= b.bit();
  });
  return held;
}

BackendSet Core::fastest(const Pool& pool, BackendSet set) const {
  if ((set & slow_) == 0 || !contended(pool)) return set;
  std::uint32_t least = kUnbounded;
  for_each(set, [&](const Backend& b) { least = std::min(least, b.service.speed()); });
  BackendSet best = 0;
  for_each(set, [&](const Backend& b) {
    if (b.service.speed() == least) best |= b.bit();
  });
  return best;
}

void Core::note_wait(Pool& pool) {
  pool.last_wait = last_wait_ = now_;
  speeds_due_ = std::min(speeds_due_, now_ + kSpeedReview);
}

// What it finds holds until the next one: time alone changes nothing in between.
void Core::review_speeds() {
  slow_ = 0;
  for (std::size_t id = 0; id < kMaxPools; ++id) {
    Pool* pool = pools_[id].get();
    if (pool == nullptr) continue;
    if (pool->waiting() != 0) pool->last_wait = last_wait_ = now_;
    std::array<balancing::SpeedClasses::Member, kMaxBackends> members;
    std::size_t n = 0;
    for_each(pool->members, [&](Backend& b) {
      if (b.home == id) members[n++] = {&b.service, (eligible() & b.bit()) != 0};
    });
    if (!pool->classes.review({members.data(), n}, now_)) continue;
    for_each(pool->members, [&](const Backend& b) {
      if (b.service.speed() > 1) slow_ |= b.bit();
    });
  }
  speeds_due_ = now_ - last_wait_ < kLearning ? now_ + kSpeedReview : kNever;
}

// One more waits, which may be the one that a held place was waiting for.
Verdict Core::pump_for(Waiter& w) {
  pump(now_);
  if (w.place_ == Waiter::Place::queued) return Verdict::waiting;
  w.unlink();
  if (w.granted_) return Verdict::granted;
  w.place_ = Waiter::Place::nowhere;
  w.refusal_.at_door = true;
  --refused_waiting_[static_cast<std::size_t>(w.refusal_.reason)];
  ++refused_at_door_[static_cast<std::size_t>(w.refusal_.reason)];
  return Verdict::refused;
}

// Of `set`, where a class may start: what has a free slot and not its ceiling of it, and where it has not had its floor.
BackendSet Core::within_shares(RequestClass c, BackendSet set, BackendSet free) const {
  const double share = policy_.floors[index(c)];
  for_each(set, [&](const Backend& b) {
    const std::uint32_t busy = b.by_class[index(c)];
    const admission::FirstEventLimit* const own = b.limit_of(c);
    if (busy >= policy_.ceilings[index(c)] || (own != nullptr && busy >= own->slots())) {
      free &= ~b.bit();
    } else if ((free & b.bit()) == 0 && share > 0 && b.lag.may_start(now_, 0) == admission::StartAnswer::yes) {
      // Only slots hold it back: the pace is kept whoever starts.
      const std::uint32_t slots = b.slow_starting ? b.slow.limit(b.lag.slots(), now_) : b.lag.slots();
      if (admission::partition_admits(b.in_flight, slots, busy, share)) free |= b.bit();
    }
  });
  return free;
}

// In a pool for batch work nobody starts until a batch has gathered, then as many as belong to it.
bool Core::batch_is_open(Pool& pool) {
  if (!pool.batch || pool.batch_left != 0) return true;
  const std::uint32_t n = pool.in_lanes();
  const TimePoint full = later(pool.gathering_since, policy_.batch_timeout);
  if (n != 0 && (n >= policy_.batch_size || now_ >= full)) {
    pool.batch_left = std::min(n, policy_.batch_size);
    return true;
  }
  if (n != 0) due_ = std::min(due_, full);
  return false;
}

void Core::take_from_batch(Pool& pool) {
  if (!pool.batch || --pool.batch_left != 0) return;
  pool.gathering_since = now_;  // who is left behind waits for one more batch at most
}

Core::LaneQueue& Core::queue_for(const Waiter& w) const {
  if (w.pinned_.exists()) {
    Backend& b = *backends_[w.pinned_.id];
    return w.critical_ ? b.pinned_critical : w.streamed ? b.pinned_streamed : b.pinned_plain;
  }
  Pool& pool = *pools_[w.pool_];
  if (w.excluded_ != 0) return pool.picky;
  return w.critical_ ? pool.critical : w.streamed ? pool.streamed : pool.plain;
}

// --- at the door --------------------------------------------------------------------------------------------

Verdict Core::enter(Waiter& w, const Ask& ask, TimePoint now) {
  tick(now);
  if (due_ <= now_) pump(now_);  // who waits comes first: nobody is overtaken
  w.request_class = ask.request_class;
  w.priority = ask.priority;
  w.streamed = ask.streamed;
  w.body_bytes = ask.body_bytes;
  w.arrival = ask.arrival != 0 ? ask.arrival : queue_.next_arrival();
  w.queued_at = now_;
  w.queue_deadline = later(now_, ask.queue_wait);
  w.deadline = ask.deadline;
  w.tenant = ask.tenant;
  w.tenant_weight = ask.tenant_weight;
  w.home_ = ask.home;
  w.affinity_ = ask.affinity;
  w.prefers_ = ask.home.exists() || ask.affinity != 0;
  w.pool_ = ask.pool;
  w.pinned_ = ask.pinned;
  w.excluded_ = ask.pinned.exists() ? 0 : ask.excluded;
  w.critical_ = ask.critical_lane;
  w.retry_ = ask.retry;

  if (draining_ && !ask.retry && !ask.in_line) return refuse(w, Refused::draining, true);
  if (ask.pool >= kMaxPools || pools_[ask.pool] == nullptr || hopeless(w)) return refuse(w, Refused::no_backend, true);
  if (throttle_.refuse_above != admission::kMostRank && throttled(w)) return refuse(w, Refused::throttled, true);
  Pool& pool = *pools_[ask.pool];
  if (pool.overload != nullptr && refused_by_pool(w, pool, ask.cohort)) return refuse(w, Refused::throttled, true);
  const bool gathers = pool.batch && !w.critical_ && !w.pinned_.exists() && w.excluded_ == 0;
  const bool open = w.critical_ || w.pinned_.exists() || !(pool.paused || gathers);
  const bool within = open && within_limits(w);
  // Where it cannot be answered in time, a free place is not for it either.
  const Duration usual = usual_first_event(w, false);
  if (w.deadline != kNever && !w.critical_ && now_ + usual >= w.deadline) return refuse(w, Refused::queue_timeout, true);
  const BackendSet use = usable(w);
  if (within) {
    const Free free = w.critical_ ? Free{0, free_critical(use)} : Free{free_slots(use), 0};
    const BackendSet now_free = startable(w, use, free);
    if (now_free != 0) {
      if (!w.critical_ && !w.pinned_.exists()) granted_from(pool, w);
      if (throttle_.above_soft) note_standing(w);
      if (pool.overload != nullptr) {
        let_in_by_pool(w, pool);
        static_cast<void>(dropped_by_pool(w, pool));
      }
      w.hold_ = Hold();
      if (pool.waiting() != 0) charge(w);
      grant(w, now_free);
      w.place_ = Waiter::Place::decided;
      w.granted_ = true;
      return Verdict::granted;
    }
  }
  if (!w.retry_ && !has_room(pool, w)) return refuse(w, Refused::queue_full, true);
  LaneQueue& queue = queue_for(w);
  const admission::WaitLimits limits{w.deadline, ask.queue_wait};
  if (!admission::may_wait(estimate(w), now_, limits, usual_first_event(w, true))) return refuse(w, Refused::queue_timeout, true);
  if (gathers && pool.in_lanes() == 0) pool.gathering_since = now_;
  queue.push(w, now_);
  w.queue_ = &queue;
  w.place_ = Waiter::Place::queued;
  ++waits_;
  if (w.pinned_.exists()) pinned_ |= BackendSet{1} << w.pinned_.id;
  else if (!pool.paused) {
    pool.drain.set_waiting(true, now_);
    if (pool.waiting(w.priority) != 0) pool.own[static_cast<std::size_t>(w.priority)].set_waiting(true, now_);
  }
  if (pool.overload != nullptr) entered_queue(w, pool);
  if (within && !w.critical_) note_wanted(use);
  if (!w.critical_) note_wait(pool);
  // A held place may have waited for one more, a batch for its last.
  return slow_ == 0 && !gathers ? Verdict::waiting : pump_for(w);
}

QueuePlace Core::place_of(const Waiter& w, TimePoint now) {
  tick(now);
  if (w.place_ != Waiter::Place::queued) return {};
  const admission::Line& line = *w.line;
  std::uint64_t ahead = LaneQueue::own_ahead(w);
  const Pool* pool = pools_[w.pool_].get();
  if (pool == nullptr || w.critical_ || w.pinned_.exists()) return {true, static_cast<std::uint32_t>(ahead + 1), {}};
  if (line.account != nullptr) {
    // What else of its tenant waits is taken to be spread over the lanes as it is over its own.
    const auto p = static_cast<std::size_t>(w.priority);
    const std::uint64_t own = ahead * line.account->waiting[p] / line.entries;
    const std::uint64_t equal = std::uint64_t{pool->plain.count(w.priority)} + pool->streamed.count(w.priority) - 1;
    ahead = std::min(equal, pool->shares.fair_ahead(own, line.account->weight, w.priority, true));
  }
  for (std::size_t p = 0; p < static_cast<std::size_t>(w.priority); ++p) {
    const auto better = static_cast<Priority>(p);
    ahead += std::uint64_t{pool->plain.count(better)} + pool->streamed.count(better) + pool->picky.count(better);
  }
  const bool moves = !pool->paused;
  return {true, static_cast<std::uint32_t>(ahead + 1),
          moves ? admission::estimate_wait(ahead + 1, drain_rate(*pool)) : std::nullopt};
}

// From dispatch to first event, as it is for its class; zero where that is not known or nobody asks. Where others
// could use the place it has to be likely that this one will be in time.
Duration Core::usual_first_event(const Waiter& w, bool others_wait) const {
  // The pool of a pinned one may be gone.
  if (w.deadline == kNever || pools_[w.pool_] == nullptr) return Duration::zero();
  const admission::UsualTime& of_class = pools_[w.pool_]->first_event[index(w.request_class)];
  return (others_wait ? of_class.nine_of_ten(now_) : of_class.median(now_)).value_or(Duration::zero());
}

bool Core::has_room(const Pool& pool, const Waiter& w) const {
  // Of the bytes a tenant may have as much as is still free: half where it is alone, a third each of two, and so on, so that
  // there is always room for one more.
  if (w.body_bytes != 0 && w.tenant != 0 && pool.shares.on() &&
      pool.shares.bytes_waiting(w.tenant) + w.body_bytes > queue_.free_bytes()) {
    return false;
  }
  if (queue_.room_for(w.priority, w.body_bytes) == admission::QueueRoom::yes) return true;
  // Asked only at a full queue. A tenant alone has no others to make room for.
  const bool first = pool.shares.on() && pool.shares.tenants_waiting() != 0 && !pool.shares.anything_waits(w.tenant);
  return first && queue_.room_for(w.priority, w.body_bytes, true) == admission::QueueRoom::yes;
}

// How many go before it: all of better priority, and of its own as many as have their turns until it has its.
Core::Ahead Core::entries_ahead(const Pool& pool, const Waiter& w) const {
  const auto at = [&](Priority p) {
    return std::uint64_t{pool.plain.count(p)} + pool.streamed.count(p) + pool.picky.count(p);
  };
  std::uint64_t better = 0;
  for (std::size_t p = 0; p < static_cast<std::size_t>(w.priority); ++p) better += at(static_cast<Priority>(p));
  const std::uint64_t equal = at(w.priority);
  if (equal == 0 || !pool.shares.on()) return {better, equal};
  const std::uint64_t own = pool.shares.own_waiting(w.tenant, w.priority);
  return {better, std::min(equal, pool.shares.fair_ahead(own, w.tenant_weight, w.priority, own != 0))};
}

// Time until its turn, where that can be told: from what stands ahead of it and the pool's drain rate.
std::optional<Duration> Core::estimate(const Waiter& w) const {
  const Pool* pool = w.pool_ < kMaxPools ? pools_[w.pool_].get() : nullptr;
  if (pool == nullptr || pool->paused || w.critical_ || w.pinned_.exists()) return std::nullopt;
  if (pool->overload != nullptr && pool->overload->newest_first(now_)) return Duration::zero();
  return estimate_in(*pool, w);
}

std::optional<Duration> Core::estimate_in(const Pool& pool, const Waiter& w) const {
  const Ahead ahead = entries_ahead(pool, w);
  if (ahead.better + ahead.equal == 0) return Duration::zero();
  const std::optional<double> rate = drain_rate(pool);
  const std::optional<Duration> wait = admission::estimate_wait(ahead.better + ahead.equal, rate);
  // Later ones of better priority will go before it too: its own priority moves as slowly as it has of late.
  const std::optional<double> own = pool.own[static_cast<std::size_t>(w.priority)].per_second(now_);
  if (!wait || !own || *own >= kOvertaken * *rate) return wait;
  return std::max(*wait, *admission::estimate_wait(ahead.equal, own));
}

void Core::granted_from(Pool& pool, const Waiter& w) {
  pool.drain.on_grant(now_);
  pool.own[static_cast<std::size_t>(w.priority)].on_grant(now_);
}

// Grants a second; before enough were measured, what the paces allow. One backend without a pace makes that
// unknown, and unknown never refuses.
std::optional<double> Core::drain_rate(const Pool& pool) const {
  double paces = 0;
  bool paced = true;
  for_each(pool.members & up_ & ~shut_, [&](const Backend& b) {
    paced = paced && b.lag.pace() > 0;
    paces += b.lag.pace();
  });
  return pool.drain.per_second(now_, paced ? paces : 0);
}

Verdict Core::refuse(Waiter& w, Refused reason, bool at_door) {
  const std::optional<Duration> wait = reason == Refused::no_backend  ? kNoBackendRetry
                                       : reason == Refused::throttled ? kThrottledRetry
                                                                      : estimate(w);
  // One client gets one answer within a second, however often it asks.
  const double jitter = w.tenant != 0 ? admission::retry_jitter(w.tenant, now_) : rng_.uniform();
  w.refusal_ = {reason, at_door, static_cast<std::uint16_t>(admission::retry_after(wait, jitter))};
  ++(at_door ? refused_at_door_ : refused_waiting_)[static_cast<std::size_t>(reason)];
  if (w.retry_) retries_.retry_ended();
  w.retry_ = false;
  if (!at_door) decide(w, false);
  return Verdict::refused;
}

void Core::dequeue(Waiter& w) {
  w.queue_->remove(w);
  w.queue_ = nullptr;
  w.place_ = Waiter::Place::nowhere;
  if (w.pinned_.exists()) {
    const Backend& b = *backends_[w.pinned_.id];
    if (b.pinned_waiting() == 0) pinned_ &= ~b.bit();
  } else {
    Pool& pool = *pools_[w.pool_];
    if (pool.waiting(w.priority) == 0) pool.own[static_cast<std::size_t>(w.priority)].set_waiting(false, now_);
    if (pool.waiting() == 0) {
      pool.drain.set_waiting(false, now_);
      if (pool.overload != nullptr) pool.overload->set_waiting(false, now_);
      pool.last_wait = last_wait_ = now_;
    }
    if (pool.batch && pool.in_lanes() == 0) pool.batch_left = 0;
  }
}

void Core::decide(Waiter& w, bool granted) {
  w.granted_ = granted;
  w.place_ = Waiter::Place::decided;
  decided_.push_back(w);
}

void Core::leave(Waiter& w, Cancelled why, TimePoint now) {
  tick(now);
  if (w.place_ == Waiter::Place::queued) {
    dequeue(w);
    if (why == Cancelled::queue_timeout) {
      if (throttle_.above_soft) note_standing(w);
      refuse(w, Refused::queue_timeout, false);
      w.unlink();  // the caller knows: nobody else is to be told
    } else {
      ++cancelled_;
      if (w.retry_) retries_.retry_ended();
    }
    w.place_ = Waiter::Place::nowhere;
    if (slow_ != 0) pump(now_);  // whom a hold concerns depends on who waits
  } else if (w.place_ == Waiter::Place::decided) {
    w.unlink();
    if (w.granted_) {
      undo(w.hold_);
      if (why == Cancelled::queue_timeout) refuse(w, Refused::queue_timeout, false);
      else ++cancelled_;
      w.unlink();
      pump(now_);
    }
  }
  w.place_ = Waiter::Place::nowhere;
}

bool Core::try_retry(RequestClass c, TimePoint now) {
  tick(now);
  if (!throttle_.no_retries && retries_.try_retry(c, in_flight_ + queue_.entries(), now_)) {
    ++retried_;
    return true;
  }
  ++retries_denied_;
  return false;
}

void Core::free_retry() {
  retries_.free_retry();
  ++retried_;
}

// --- the pump -------------------------------------------------------------------------------------------------

void Core::pump(TimePoint now) {
  tick(now);
  if (breaker_due_ <= now_) advance_breakers();
  if (speeds_due_ <= now_) review_speeds();
  due_ = breaker_due_;
  if (queue_.entries() == 0) return;
  for (const auto& pool : pools_) {
    if (pool != nullptr && pool->overload != nullptr) expire_oldest(*pool);
  }
  if (slow_ != 0) due_ = std::min(due_, speeds_due_);
  Free free = free_among(present_);
  for (;;) {
    BackendSet wanted = 0;
    const Best best = best_waiter(free, wanted);
    if (best.waiter == nullptr) {
      note_wanted(wanted);
      return;
    }
    Waiter& w = *best.waiter;
    if (throttle_.above_soft) note_standing(w);
    // The estimate is made again here: what could no longer be served in time does not get the slot.
    const Duration usual = usual_first_event(w, queue_.entries() > 1);
    const TimePoint deadline = w.critical_ ? kNever : w.deadline;
    if (!admission::worth_granting(now_, deadline, w.queue_deadline, usual)) {
      dequeue(w);
      refuse(w, Refused::queue_timeout, false);
      continue;
    }
    // Who is pinned may outlive his pool.
    if (Pool* pool = pools_[w.pool_].get(); pool != nullptr && pool->overload != nullptr && dropped_by_pool(w, *pool)) {
      dequeue(w);
      refuse(w, Refused::throttled, false);
      continue;
    }
    // Only a turn that age had begins the count anew: one that has aged may go by its written priority.
    const bool by_age = since_aged_ >= kNativeTurns && LaneQueue::effective(w, now_) != w.priority;
    since_aged_ = by_age ? 0 : since_aged_ + 1;
    if (!w.critical_ && !w.pinned_.exists()) granted_from(*pools_[w.pool_], w);
    w.hold_ = Hold();
    charge(w);
    if (const auto& pool = pools_[w.pool_]; pool != nullptr && (w.queue_ == &pool->plain || w.queue_ == &pool->streamed)) {
      take_from_batch(*pool);
    }
    dequeue(w);
    grant(w, best.startable);
    decide(w, true);
    const BackendSet used = w.hold_.backend->bit();
    const Free left = free_among(used);
    free = {(free.normal & ~used) | left.normal, (free.critical & ~used) | left.critical};
  }
}

// The newest of the best priority that `accept` takes.
template <typename Accept>
admission::Waiting* Core::newest_of(const LaneQueue& queue, Accept&& accept) const {
  for (std::size_t p = 0; p < kPriorityCount; ++p) {
    admission::Waiting* chosen = nullptr;
    for (std::size_t c = 0; c < kClassCount; ++c) {
      admission::Waiting* w = queue.newest(static_cast<RequestClass>(c), static_cast<Priority>(p));
      if (w != nullptr && (chosen == nullptr || w->arrival > chosen->arrival) && accept(*w)) chosen = w;
    }
    if (chosen != nullptr) return chosen;
  }
  return nullptr;
}

// The best waiter for whom there is a place, over all queues. Where there is none, `wanted` has every backend
// that somebody waits for and may use but for its own slots and pace.
Core::Best Core::best_waiter(const Free& free, BackendSet& wanted) {
  Best best;
  BackendSet accepted = 0;
  // In overload everybody has aged: then they would go before what is important, which comes late and must be quick.
  const TimePoint aged = since_aged_ >= kNativeTurns ? now_ : TimePoint{};
  const auto accept = [&](admission::Waiting& waiting) {
    Waiter& w = waiter(waiting);
    if (!within_limits(w)) return false;
    const BackendSet use = usable(w);
    const BackendSet set = startable(w, use, free);
    if (set == 0 && !w.critical_) wanted |= use;
    if (set != 0) accepted = set;
    return set != 0;
  };
  const auto offer = [&](admission::Waiting* waiting) {
    if (waiting == nullptr) return;
    Waiter& w = waiter(*waiting);
    if (best.waiter != nullptr && !LaneQueue::better(w, *best.waiter, aged)) return;
    best = {&w, accepted};
  };
  const auto look = [&](const LaneQueue& queue) {
    if (!queue.empty()) offer(queue.best(aged, accept));
  };
  // What stands in the two queues of a pool shares the turns of its tenants.
  const auto look_at_both = [&](const Pool& pool) {
    if (pool.plain.empty()) return look(pool.streamed);
    admission::Waiting* first = pool.plain.best(aged, accept);
    if (first == nullptr) return look(pool.streamed);
    const BackendSet for_first = accepted;
    const auto fairer = [&](admission::Waiting& w) { return LaneQueue::fairer(w, *first, aged) && accept(w); };
    if (admission::Waiting* other = pool.streamed.best(aged, fairer); other != nullptr) first = other;
    else accepted = for_first;
    offer(first);
  };
  const auto look_at_newest = [&](const Pool& pool) {
    admission::Waiting* last = newest_of(pool.plain, accept);
    const BackendSet for_last = accepted;
    const auto goes_before = [&](admission::Waiting& w) {
      if (last != nullptr && w.priority > last->priority) return false;
      if (last != nullptr && w.priority == last->priority && w.arrival < last->arrival) return false;
      return accept(w);
    };
    if (admission::Waiting* other = newest_of(pool.streamed, goes_before); other != nullptr) last = other;
    else accepted = for_last;
    offer(last);
  };
  const auto walk = [&](const LaneQueue& queue, bool critical_only) {
    for (std::size_t lane = 0; lane < kClassCount * kPriorityCount && !queue.empty(); ++lane) {
      const auto c = static_cast<RequestClass>(lane % kClassCount);
      const auto p = static_cast<Priority>(lane / kClassCount);
      if (queue.count(c, p) == 0) continue;
      admission::Waiting* w = queue.front(c, p);
      while (w != nullptr && ((critical_only && !waiter(*w).critical_) || !accept(*w))) w = queue.next(*w);
      offer(w);
    }
  };
  for (const auto& pool : pools_) {
    if (pool == nullptr || pool->waiting() == 0) continue;
    look(pool->critical);
    walk(pool->picky, pool->paused);
    if (pool->paused || !batch_is_open(*pool)) continue;
    if (pool->overload != nullptr && pool->overload->newest_first(now_)) {
      look_at_newest(*pool);
      continue;
    }
    look_at_both(*pool);
  }
  for_each(pinned_, [&](const Backend& b) {
    look(b.pinned_critical);
    look(b.pinned_plain);
    look(b.pinned_streamed);
  });
  return best;
}

// Somebody waits for these and may use them but for what their own bounds hold back: they may grow, and the
// time comes at which the next one may start.
void Core::note_wanted(BackendSet wanted) {
  for_each(wanted, [&](Backend& b) {
    b.lag.note_held_back(now_, b.in_flight);
    const TimePoint paced = b.lag.next_change(now_, b.in_flight);
    if (paced > now_) due_ = std::min(due_, paced);
    // A floor is open beyond the slots as soon as the pace allows.
    if (has_floors_ && paced == kNever) {
      if (const TimePoint next = b.lag.next_change(now_, 0); next > now_) due_ = std::min(due_, next);
    }
    if (b.slow_starting) {
      due_ = std::min(due_, b.slow.next_step(b.lag.slots(), now_));
      if (!b.slow.probation() && b.slow.factor(now_) >= 1.0) b.slow_starting = false;
    }
    if (!bounded_starts_) return;
    for (std::size_t p = 0; p < kStartPoolCount; ++p) {
      if (b.starts[p].count(now_) >= policy_.starting[p]) due_ = std::min(due_, b.starts[p].next_change());
    }
  });
}

// --- the life of a hold ---------------------------------------------------------------------------------------

// Where it was before, unless that one cannot take it now or has too much to do beside the others: beside its share
// of all work by how fast it is, so that a slow one is left sooner.
Backend* Core::at_home(const Waiter& w, BackendSet set) {
  const BackendSet bit = BackendSet{1} << w.home_.id;
  if ((set & bit) == 0) return nullptr;
  Backend& home = *backends_[w.home_.id];
  if (home.identity.ref != w.home_) return nullptr;
  const Pool& pool = *pools_[w.pool_];
  const double beta = pool.kind == WorkerKind::http ? policy_.http_costs.stream : policy_.orbit_costs.stream;
  const auto standing = [&](const Backend& b) {
    const double ramp = b.slow_starting ? b.slow.factor(now_) : 1.0;
    return balancing::Rendezvous{0, b.spec.weight * ramp / b.load.slowness(), b.load.work(beta)};
  };
  balancing::RendezvousTotal all;
  for_each((pool.members & up_ & ~shut_) | bit, [&](const Backend& b) { all.add(standing(b)); });
  const balancing::Rendezvous one = standing(home);
  return one.load < balancing::rendezvous_capacity(all, one.weight, policy_.affinity_bound) ? &home : nullptr;
}

// Where what it belongs to is likely to be, unless that one has too much to do beside the others.
Backend& Core::by_affinity(const Waiter& w, BackendSet set) {
  const Pool& pool = *pools_[w.pool_];
  const double beta = pool.kind == WorkerKind::http ? policy_.http_costs.stream : policy_.orbit_costs.stream;
  balancing::RendezvousTotal all;
  std::size_t n = 0;
  for_each((pool.members & up_ & ~shut_) | set, [&](const Backend& b) {
    const double ramp = b.slow_starting ? b.slow.factor(now_) : 1.0;
    const balancing::Rendezvous one{b.affinity_id, b.spec.weight * ramp, b.load.work(beta)};
    all.add(one);
    if ((set & b.bit()) == 0) return;
    preferences_[n] = one;
    candidates_[n++].backend = b.identity.ref.id;
  });
  const std::size_t best = balancing::pick_rendezvous(w.affinity_, {preferences_.data(), n}, all, policy_.affinity_bound);
  return *backends_[candidates_[best].backend];
}

Backend* Core::preferred(const Waiter& w, BackendSet set) {
  return w.home_.exists() ? at_home(w, set) : &by_affinity(w, set);
}

Backend& Core::choose(const Waiter& w, BackendSet set) {
  if (const BackendSet cold = set & ~hot_; cold != 0) set = cold;
  if ((set & (set - 1)) == 0) return *backends_[static_cast<std::size_t>(std::countr_zero(set))];
  set = fastest(*pools_[w.pool_], set);
  if (w.prefers_) {
    if (Backend* b = preferred(w, set)) return *b;
  }
  std::size_t n = 0;
  for_each(set, [&](const Backend& b) {
    const double ramp = b.slow_starting ? b.slow.factor(now_) : 1.0;
    candidates_[n++] = {b.identity.ref.id, b.spec.weight * ramp, &b.load};
  });
  Pool& pool = *pools_[w.pool_];
  auto& picker = pool.kind == WorkerKind::http ? pool.http_picker : pool.orbit_picker;
  return *backends_[candidates_[picker->pick({candidates_.data(), n}, rng_)].backend];
}

// Only while others wait: what is taken from nobody is nobody's turn.
void Core::charge(Waiter& w) {
  if (w.critical_ || w.pinned_.exists()) return;
  w.hold_.tenant = pools_[w.pool_]->shares.charge(w.tenant, w.tenant_weight, w.request_class, w.body_bytes, now_);
}

// `w.hold_` is new, with its tenant where that was charged.
void Core::grant(Waiter& w, BackendSet candidates) {
  Backend& b = choose(w, candidates);
  Hold& hold = w.hold_;
  hold.backend = &b;
  hold.granted_at = now_;
  hold.phase = Hold::Phase::starting;
  hold.critical = w.critical_;
  hold.retry = w.retry_;
  const balancing::CostModel& costs = b.kind == WorkerKind::orbit ? policy_.orbit_costs : policy_.http_costs;
  hold.share = b.load.begin(w.request_class, costs.of(w.request_class, w.body_bytes));
  ++b.grants;
  ++grants_;
  ++in_flight_;
  if (!w.retry_) retries_.on_request(w.request_class, now_);
  w.retry_ = false;  // the hold has it from here on
  if (w.critical_) {
    hold.judged = true;
    ++b.critical;
    return;
  }
  if (b.breaker.admits()) {
    hold.pass = b.breaker.begin(now_);
    if (hold.pass.trial != 0) {
      update(b);
      set_breaker_due();
    }
  } else {
    hold.judged = true;  // pinned: goes there whatever the breaker says, and has no voice
  }
  b.lag.take_start(now_);
  b.service.started(now_);
  limits_.start(hold.limit, w.request_class, w.streamed);
  ++b.in_flight;
  if (b.limit) b.limit->on_start(b.in_flight);
  ++b.starting;
  const std::uint32_t of_class = ++b.by_class[index(w.request_class)];
  if (admission::FirstEventLimit* const own = b.limit_of(w.request_class); own != nullptr) own->on_start(of_class);
  const std::size_t start_pool = start_pool_of(w.request_class);
  if (start_pool < kStartPoolCount) b.starts[start_pool].start(now_);
  hold.lag_sample = w.streamed && w.request_class == RequestClass::chat;
  if (hold.lag_sample) {
    const std::uint32_t chats = b.chats_running.load(std::memory_order_relaxed) + 1;
    // Silence before there were enough of them says nothing.
    if (chats == admission::HeadLag::kStallRunning) {
      b.last_byte.store(now_.time_since_epoch().count(), std::memory_order_relaxed);
    }
    b.chats_running.store(chats, std::memory_order_relaxed);
  }
}

// The one verdict of an exchange on its backend: at its first event, or at the failure that came before it.
void Core::judge(Hold& hold, Outcome outcome, Duration retry_after) {
  if (hold.judged) return;
  hold.judged = true;
  Backend& b = *hold.backend;
  const balancing::Verdict verdict = balancing::counts(outcome, b.kind);
  if (Pool* home = pools_[b.home].get(); home != nullptr) {
    const RequestClass c = hold.share.request_class;
    if (verdict.speed == SpeedEffect::sample) home->speed.sample(b.load, c, now_ - hold.granted_at, now_);
    if (outcome == Outcome::success && now_ - last_wait_ < kLearning && home->classes.enabled()) {
      home->classes.sample(b.service, c, now_ - hold.granted_at, now_);
    }
    if (verdict.speed == SpeedEffect::penalty) home->speed.failure(b.load, c, retry_after, now_);
  }
  if (b.limit) {
    const bool sampled = verdict.speed == SpeedEffect::sample && b.limit->on_sample(now_, now_ - hold.granted_at, b.in_flight);
    if (sampled || (verdict.drop && b.limit->on_overload(now_, b.in_flight))) b.lag.set_ceiling(b.limit->slots());
  }
  if (admission::FirstEventLimit* const own = b.limit_of(hold.share.request_class); own != nullptr) {
    const std::uint32_t of_class = b.by_class[index(hold.share.request_class)];
    if (verdict.speed == SpeedEffect::sample) own->on_sample(now_, now_ - hold.granted_at, of_class);
    if (verdict.drop) own->on_overload(now_, of_class);
  }
  if ((policy_.deadlines || has_controllers_) && verdict.speed == SpeedEffect::sample) {
    for (const auto& pool : pools_) {
      if (pool == nullptr || (pool->members & b.bit()) == 0) continue;
      if (pool->overload != nullptr) pool->overload->serviced(now_ - hold.granted_at);
      if (policy_.deadlines) pool->first_event[index(hold.share.request_class)].sample(now_ - hold.granted_at, now_);
    }
  }
  if (verdict.breaker == BreakerEffect::failure) ++b.failures;
  if (verdict.breaker == BreakerEffect::success && b.slow_starting) b.slow.on_success(now_);
  bool changed = false;
  if (verdict.breaker == BreakerEffect::none) {
    changed = b.breaker.give_back(hold.pass);
  } else {
    const bool harmless = verdict.breaker == BreakerEffect::success && b.breaker.state() == Breaker::State::closed;
    changed = b.breaker.settle(hold.pass, verdict.breaker, harmless || may_open(b), now_, rng_, others_of(b, verdict.breaker));
  }
  if (!changed) return;
  update(b);
  review();
}

// It was a success at its first event, and went wrong after it: that counts in the breaker's window.
void Core::judge_late(Hold& hold, Outcome outcome) {
  Backend& b = *hold.backend;
  const BreakerEffect effect = balancing::counts(outcome, b.kind).breaker;
  if (effect == BreakerEffect::none || effect == BreakerEffect::success) return;
  if (!b.breaker.settle_late(hold.pass, effect, may_open(b), now_, rng_, others_of(b, effect))) return;
  update(b);
  review();
}

// What the rest of its pool has seen, where that decides whose fault a failure is.
balancing::FailureWindow::Counts Core::others_of(const Backend& b, BreakerEffect effect) const {
  balancing::FailureWindow::Counts sum;
  const Pool* const home = pools_[b.home].get();
  if (effect != BreakerEffect::beside_fleet || home == nullptr) return sum;
  for_each(home->members & present_ & ~b.bit(), [&](const Backend& other) { sum += other.breaker.recent(now_); });
  return sum;
}

void Core::leave_start(Hold& hold) {
  if (hold.phase != Hold::Phase::starting) return;
  Backend& b = *hold.backend;
  hold.phase = Hold::Phase::running;
  if (hold.critical) return;
  --b.starting;
  const std::size_t start_pool = start_pool_of(hold.share.request_class);
  if (start_pool < kStartPoolCount) b.starts[start_pool].done(hold.granted_at, now_);
}

void Core::give_up_slot(Hold& hold) {
  Backend& b = *hold.backend;
  leave_start(hold);
  --in_flight_;
  if (hold.critical) {
    --b.critical;
    return;
  }
  if (hold.limit.phase == admission::LimitHold::Phase::streaming) --b.streams;
  limits_.end(hold.limit);
  b.service.ended();
  --b.in_flight;
  --b.by_class[index(hold.share.request_class)];
  if (hold.lag_sample) {
    b.chats_running.store(b.chats_running.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
    hold.lag_sample = false;
  }
}

void Core::undo(Hold& hold) {
  Backend& b = *hold.backend;
  if (!hold.critical) b.lag.give_back_start(now_);
  if (!hold.judged && b.breaker.give_back(hold.pass)) {
    update(b);
    set_breaker_due();
  }
  settle(hold, 0, false);
  give_up_slot(hold);
  b.load.end(hold.share);
  if (hold.retry) retries_.retry_ended();
  hold = Hold();
}

// What it generated counts for its tenant, in place of what was expected.
void Core::settle(Hold& hold, std::uint32_t tokens, bool learn) {
  if (hold.tenant == admission::kNoAccount) return;
  const double generated = tokens == kTokensUnknown ? admission::PoolShares::kAsExpected : tokens;
  admission::PoolShares::settle(tenants_, hold.tenant, hold.share.request_class, generated, learn);
  hold.tenant = admission::kNoAccount;
}

// --- what happens to a ticket ----------------------------------------------------------------------------------

void Core::silence_may_have_ended(Backend& b, TimePoint now) {
  tick(now);
  const TimePoint last{Duration(b.last_byte.load(std::memory_order_relaxed))};
  const std::uint32_t chats = b.chats_running.load(std::memory_order_relaxed);
  if (now <= last) return;
  if (policy_.steered && now - last >= admission::HeadLag::kStallSilence && chats >= admission::HeadLag::kStallRunning) {
    b.lag.on_silence(last, now, chats);
  }
  b.last_byte.store(now.time_since_epoch().count(), std::memory_order_relaxed);
}

void Core::head(Hold& hold, TimePoint now) {
  tick(now);
  Backend& b = *hold.backend;
  // What is left of its cost is waiting for a provider, not work of the worker.
  const balancing::CostModel& costs = b.kind == WorkerKind::orbit ? policy_.orbit_costs : policy_.http_costs;
  b.load.head(hold.share, costs.after_head);
  if (!hold.lag_sample || hold.sent_after_us == 0 || !policy_.steered || !b.lag.steered()) return;
  silence_may_have_ended(b, now);
  const TimePoint sent = hold.granted_at + std::chrono::microseconds(hold.sent_after_us);
  if (b.lag.on_head_sample(now_, sent, b.in_flight)) pump(now_);
}

void Core::first_event(Hold& hold, Outcome verdict, TimePoint now) {
  tick(now);
  if (hold.had_event || hold.phase == Hold::Phase::tunnel) return;
  hold.had_event = true;
  Backend& b = *hold.backend;
  leave_start(hold);
  b.load.first_event(hold.share);
  limits_.first_event(hold.limit);
  if (hold.limit.phase == admission::LimitHold::Phase::streaming) ++b.streams;
  judge(hold, verdict, Duration::zero());
  pump(now_);
}

bool Core::became_tunnel(Hold& hold, TimePoint now) {
  tick(now);
  Backend& b = *hold.backend;
  if (hold.phase == Hold::Phase::tunnel) return true;
  if (b.tunnels >= policy_.tunnels) return false;
  ++b.tunnels;
  b.load.first_event(hold.share);
  give_up_slot(hold);
  hold.phase = Hold::Phase::tunnel;
  if (hold.retry) retries_.retry_ended();
  hold.retry = false;
  judge(hold, Outcome::success, Duration::zero());
  pump(now_);
  return true;
}

void Core::finish(Hold& hold, Outcome outcome, TimePoint now, Duration retry_after, std::uint32_t tokens) {
  tick(now);
  Backend& b = *hold.backend;
  const bool served = hold.had_event || outcome == Outcome::success || outcome == Outcome::status_4xx;
  settle(hold, tokens, served && outcome != Outcome::status_4xx);
  if (hold.phase == Hold::Phase::tunnel) {
    --b.tunnels;
  } else {
    if (served && !hold.critical) b.lag.on_end(now_ - hold.granted_at);
    give_up_slot(hold);
  }
  b.load.end(hold.share);
  if (hold.retry) retries_.retry_ended();
  if (hold.had_event && !hold.critical && outcome != Outcome::success) judge_late(hold, outcome);
  judge(hold, outcome, retry_after);
  if (outcome == Outcome::connect_refused && !b.removed) {
    b.health.on_refused_exchange(now_);
    update(b);
    review();
  }
  hold = Hold();
  pump(now_);
}

}  // namespace perigee::dispatch
