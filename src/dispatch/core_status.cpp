// Reading the whole state: for the admin API, and for tests that check it against first principles.
#include <cmath>

#include "core.h"

namespace perigee::dispatch {

namespace {

std::string_view name_of(balancing::Breaker::State s) {
  switch (s) {
    case balancing::Breaker::State::closed: return "closed";
    case balancing::Breaker::State::open: return "open";
    case balancing::Breaker::State::half_open: return "half_open";
  }
  return "closed";
}

void copy(const Backend& b, TimePoint now, BackendStatus& out) {
  out.ref = b.identity.ref;
  out.name.assign(b.identity.name);
  out.address.assign(b.identity.address);
  out.kind = b.kind;
  out.weight = b.spec.weight;
  out.probed = b.health.probed();
  out.up = b.health.reachable();
  out.draining = b.health.draining();
  out.removed = b.removed;
  out.health = to_string(b.health.state());
  out.breaker = name_of(b.breaker.state());
  out.breaker_opened = b.breaker.opened_total();
  out.trials = b.breaker.trials_in_flight();
  out.in_flight = b.in_flight;
  out.starting = b.starting;
  out.streams = b.streams;
  out.critical = b.critical;
  out.tunnels = b.tunnels;
  out.by_class = b.by_class;
  for (std::size_t c = 0; c < kClassCount; ++c) {
    const admission::FirstEventLimit* const own = b.limit_of(static_cast<RequestClass>(c));
    out.class_slots[c] = own != nullptr ? own->slots() : 0;
  }
  out.slots = b.slow_starting ? b.slow.limit(b.lag.slots(), now) : b.lag.slots();
  out.slots_ceiling = b.kind == WorkerKind::orbit ? b.spec.orbit_ceiling : b.spec.http_slots;
  out.slots_limit = b.slots_limit;
  out.base_seconds = b.limit ? to_seconds(b.limit->base()) : 0;
  out.pace = b.lag.pace();
  out.lag_seconds = to_seconds(b.lag.last_lag());
  out.stalls = b.lag.stalls();
  out.slot_cuts = b.limit ? b.limit->cuts() : b.lag.slot_cuts();
  out.pace_cuts = b.lag.pace_cuts();
  out.grants = b.grants;
  out.failures = b.failures;
  out.slowness = b.load.slowness();
  out.speed = b.service.speed();
  out.ramp = b.slow_starting ? b.slow.factor(now) : 1.0;
}

}  // namespace

// `out` has room already: its vectors for every backend and pool, their strings for the longest name.
void Core::copy_status(Status& out) const {
  std::size_t n = 0;
  for (const auto& b : backends_) {
    if (b == nullptr || (b->removed && b->idle())) continue;
    copy(*b, now_, out.backends[n]);
    out.backends[n++].hot = (hot_ & b->bit()) != 0;
  }
  out.backends.resize(n);
  n = 0;
  const auto add_lanes = [&out](const LaneQueue& queue) {
    if (queue.empty()) return;
    for (std::size_t lane = 0; lane < kClassCount * kPriorityCount; ++lane) {
      const std::size_t c = lane / kPriorityCount;
      const std::size_t p = lane % kPriorityCount;
      out.waiting[c][p] += queue.count(static_cast<RequestClass>(c), static_cast<Priority>(p));
    }
  };
  for (std::size_t id = 0; id < kMaxPools; ++id) {
    if (pools_[id] == nullptr) continue;
    const Pool& pool = *pools_[id];
    PoolStatus& to = out.pools[n++];
    to.name.assign(pool.name);
    to.id = static_cast<PoolId>(id);
    to.kind = pool.kind;
    to.eligible = static_cast<std::uint32_t>(std::popcount(pool.members & up_ & ~shut_));
    to.unprobed = static_cast<std::uint32_t>(std::popcount(pool.members & unprobed_));
    to.waiting = pool.waiting();
    to.tenants_waiting = pool.shares.tenants_waiting();
    to.panic = pool.panic;
    to.paused = pool.paused;
    if (pool.overload != nullptr) {
      to.overload = pool.overload->kind();
      to.overloaded = pool.overload->overloaded(now_);
      to.refused_share = pool.overload->refused_share();
    }
    to.batch = pool.batch;
    const std::optional<double> rate = drain_rate(pool);
    to.drain_per_second = rate.value_or(-1.0);
    Waiter newcomer(nullptr);
    for (std::size_t p = 0; p < kPriorityCount; ++p) {
      newcomer.priority = static_cast<Priority>(p);
      const auto wait = pool.paused ? std::nullopt : estimate_in(pool, newcomer);
      to.wait_seconds[p] = wait ? to_seconds(*wait) : -1.0;
    }
    for (const LaneQueue* queue : {&pool.plain, &pool.streamed, &pool.picky}) add_lanes(*queue);
    out.waiting_critical += pool.critical.size();
  }
  out.pools.resize(n);
  for_each(pinned_, [&](const Backend& b) {
    add_lanes(b.pinned_plain);
    add_lanes(b.pinned_streamed);
    out.waiting_critical += b.pinned_critical.size();
  });
  out.draining = draining_;
  out.waiting_bytes = queue_.body_bytes();
  out.streams = limits_.streams();
  for (std::size_t c = 0; c < kClassCount; ++c) {
    out.before_first_event[c] = limits_.before_first_event(static_cast<RequestClass>(c));
  }
  out.grants = grants_;
  out.waits = waits_;
  out.refused_at_door = refused_at_door_;
  out.refused_waiting = refused_waiting_;
  out.cancelled = cancelled_;
  out.retries = retried_;
  out.retries_denied = retries_denied_;
}

// From first principles, without the sets and shortcuts of a pump; but whose place a slow backend keeps idle (held_back), and
// whom a controller leaves alone, is asked of the same functions.
const char* Core::check_at_rest() {
  std::uint64_t tickets = 0, tunnels = 0;
  BackendSet reachable = 0, unprobed = 0, up = 0, open = 0, admitting = 0, slot_free = 0, critical_free = 0, working = 0;
  std::array<BackendSet, kStartPoolCount> start_free{};
  for (const auto& owned : backends_) {
    if (owned == nullptr) continue;
    Backend* const b = owned.get();
    tickets += b->in_flight + b->critical;
    tunnels += b->tunnels;
    std::uint32_t by_class = 0;
    for (const std::uint32_t n : b->by_class) by_class += n;
    if (by_class != b->in_flight) return "classes do not add up to the tickets of a backend";
    if (b->starting + b->streams > b->in_flight) return "more phases than tickets";
    if (b->load.in_flight() != b->in_flight + b->critical + b->tunnels) return "load and tickets differ";
    if (b->idle() && b->chats_running.load(std::memory_order_relaxed) != 0) return "a chat runs on an idle backend";
    if ((b->pinned_waiting() != 0) != ((pinned_ & b->bit()) != 0)) return "stale: pinned";

    const BackendSet bit = b->bit();
    if (b->in_flight != 0) working |= bit;
    if (b->breaker.state() == balancing::Breaker::State::open) open |= bit;
    if (b->breaker.admits()) admitting |= bit;
    if (b->removed) continue;
    if (b->health.reachable()) reachable |= bit;
    if (b->health.eligible()) up |= bit;
    if (!b->health.probed() && !b->health.draining()) unprobed |= bit;
    const bool lag_allows = b->lag.may_start(now_, b->in_flight) == admission::StartAnswer::yes;
    if (lag_allows && (!b->slow_starting || b->in_flight < b->slow.limit(b->lag.slots(), now_))) slot_free |= bit;
    if (b->critical < policy_.critical_slots) critical_free |= bit;
    for (std::size_t p = 0; p < kStartPoolCount; ++p) {
      if (b->starts[p].count(now_) < policy_.starting[p]) start_free[p] |= bit;
    }
  }
  if (up != up_) return "stale: up";
  if (open != shut_) return "stale: shut";
  if (admitting != admitting_) return "stale: admitting";
  if (tickets != in_flight_) return "tickets do not add up";

  std::uint64_t waiting = 0;
  const char* wrong = "";
  const auto one = [&](Waiter& w) {
    ++waiting;
    if (w.place_ != Waiter::Place::queued) wrong = "in a queue, but not queued";
    const bool pinned = w.pinned_.exists();
    const BackendSet pin = pinned ? BackendSet{1} << w.pinned_.id : 0;
    BackendSet mine = pinned ? pin & reachable : pools_[w.pool_]->members & up & ~open;
    if (!pinned && w.priority == Priority::low) mine &= ~(hot_ | (throttle_.above_soft ? working : 0));
    const BackendSet others = mine & ~w.excluded_;
    const BackendSet use = others != 0 ? others : mine;
    const BackendSet hope = pinned ? pin & (reachable | unprobed) : pools_[w.pool_]->members & (up | unprobed);
    if (hope == 0) wrong = "somebody waits for nothing";
    if (w.critical_) {
      if ((use & critical_free) != 0) wrong = "a critical place is free and somebody waits for it";
      return;
    }
    if (!pinned && pools_[w.pool_]->paused) return;
    if (!pinned && pools_[w.pool_]->overload != nullptr && may_expire(w)) {
      const admission::OverloadControl& control = *pools_[w.pool_]->overload;
      if (const TimePoint begins = control.newest_first_at(); begins != kNever) {
        const TimePoint ends = std::max(begins, w.queued_at + control.patience());
        if (ends <= now_) wrong = "the newest go first, and somebody old still waits";
        if (due_ > ends) wrong = "somebody will be old, and nobody looks then";
      }
    }
    if (!limits_.may_start(w.request_class, w.streamed)) return;
    const std::size_t p = start_pool_of(w.request_class);
    const BackendSet starts = p < kStartPoolCount ? start_free[p] : ~BackendSet{0};
    const BackendSet breaker = pinned ? ~BackendSet{0} : admitting;
    const Pool* pool = pinned ? nullptr : pools_[w.pool_].get();
    if (pool != nullptr && pool->batch && pool->batch_left == 0 && w.excluded_ == 0) {
      const bool full = pool->in_lanes() >= policy_.batch_size || now_ >= pool->gathering_since + policy_.batch_timeout;
      if (full) wrong = "a batch has gathered and is not granted";
      return;
    }
    BackendSet places = 0;
    const auto c = static_cast<std::size_t>(w.request_class);
    for_each(use, [&](const Backend& b) {
      const bool paced = b.lag.may_start(now_, 0) == admission::StartAnswer::yes;
      const std::uint32_t slots = b.slow_starting ? b.slow.limit(b.lag.slots(), now_) : b.lag.slots();
      const bool below_floor = paced && policy_.floors[c] > 0 && b.by_class[c] < admission::floor_of(slots, policy_.floors[c]);
      const admission::FirstEventLimit* const own = b.limit_of(w.request_class);
      const std::uint32_t ceiling = own == nullptr ? policy_.ceilings[c] : std::min(policy_.ceilings[c], own->slots());
      if (((slot_free & b.bit()) != 0 || below_floor) && b.by_class[c] < ceiling) places |= b.bit();
    });
    const BackendSet free = places & starts & breaker;
    if ((free & ~held_back(w, use, free)) != 0) wrong = "a slot is free and somebody waits for it";
  };
  const auto all = [&](const LaneQueue& queue) {
    if (const char* flaw = queue.check(); *flaw != 0) wrong = flaw;
    for (std::size_t c = 0; c < kClassCount && !queue.empty(); ++c) {
      if (queue.count(static_cast<RequestClass>(c)) == 0) continue;
      for (std::size_t p = 0; p < kPriorityCount; ++p) {
        queue.for_each(static_cast<RequestClass>(c), static_cast<Priority>(p),
                       [&](admission::Waiting& w) { one(waiter(w)); });
      }
    }
  };
  for (const auto& pool : pools_) {
    if (pool == nullptr) continue;
    for (const LaneQueue* queue : {&pool->plain, &pool->streamed, &pool->picky, &pool->critical}) all(*queue);
  }
  for (const auto& b : backends_) {
    if (b == nullptr) continue;
    for (const LaneQueue* queue : {&b->pinned_plain, &b->pinned_streamed, &b->pinned_critical}) all(*queue);
  }
  for (const auto& pool : pools_) {
    if (pool == nullptr) continue;
    std::array<std::uint32_t, kPriorityCount> by_priority{};
    for (std::size_t p = 0; p < kPriorityCount; ++p) {
      by_priority[p] = pool->plain.count(static_cast<Priority>(p)) + pool->streamed.count(static_cast<Priority>(p));
    }
    if (const char* flaw = pool->shares.check(by_priority); *flaw != 0) return flaw;
  }
  if (tenants_.running() > tickets + tunnels) return "more accounts to settle than tickets";
  if (waiting != queue_.entries()) return "waiters do not add up";
  if (due_ <= now_) return "something is due";
  return wrong;
}

}  // namespace perigee::dispatch
