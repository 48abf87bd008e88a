// Which backends there are and what state they are in: reload, probes, breakers, the operator's hand.
#include <algorithm>
#include <cassert>
#include <string>
#include <vector>

#include "core.h"

namespace perigee::dispatch {

using balancing::Breaker;

namespace {

void set_bit(BackendSet& set, BackendSet bit, bool on) { set = on ? set | bit : set & ~bit; }

template <typename Items>
bool unique_names(const Items& items) {
  for (auto a = items.begin(); a != items.end(); ++a) {
    if (a->name.empty() || a->name.size() > kMaxNameBytes) return false;
    for (auto b = items.begin(); b != a; ++b) {
      if (a->name == b->name) return false;
    }
  }
  return true;
}

// nullptr, or what is wrong.
const char* flaw(const Setup& setup) {
  if (setup.backends.size() > kMaxBackends) return "more than 64 backends";
  if (setup.pools.empty() || setup.pools.size() > kMaxPools) return "1 to 16 pools";
  if (!unique_names(setup.backends)) return "names of backends: unique, 1 to 128 bytes";
  if (!unique_names(setup.pools)) return "names of pools: unique, 1 to 128 bytes";
  for (const BackendSpec& spec : setup.backends) {
    if (!(spec.weight > 0)) return "a backend's weight must be above 0";
    if (spec.orbit_ceiling == 0 || spec.http_slots == 0) return "a backend needs at least one slot";
    if (spec.address.size() > kMaxAddressBytes) return "a backend's address is longer than 256 bytes";
  }
  for (const PoolSpec& pool : setup.pools) {
    const auto exists = [&](std::uint32_t i) { return i < setup.backends.size(); };
    if (!std::ranges::all_of(pool.backends, exists)) return "a pool names a backend that does not exist";
  }
  const auto pickers = balancing::picker_names();
  if (std::ranges::find(pickers, setup.policy.picker) == pickers.end()) return "unknown picker";
  return nullptr;
}

}  // namespace

// --- reload -------------------------------------------------------------------------------------------------

BackendSet Core::vacant() const {
  BackendSet set = 0;
  for (std::size_t id = 0; id < kMaxBackends; ++id) {
    const Backend* b = backends_[id].get();
    if (b == nullptr || (b->removed && b->idle())) set |= BackendSet{1} << id;
  }
  return set;
}

Result<Core::Plan> Core::prepare(const Setup& setup, BackendSet vacant, TimePoint now) {
  if (const char* what = flaw(setup); what != nullptr) return fail(ErrorKind::invalid, what);
  Plan plan;
  plan.policy = setup.policy;
  std::vector<BackendSet> bits(setup.backends.size());
  for (std::size_t i = 0; i < setup.backends.size(); ++i) {
    const BackendSpec& spec = setup.backends[i];
    const Backend* known = find(spec.name);
    std::size_t id = 0;
    if (known != nullptr && known->identity.address == spec.address) {
      id = known->identity.ref.id;
    } else {
      if (vacant == 0) return fail(ErrorKind::exhausted, "too many removed backends still run their last exchanges");
      id = static_cast<std::size_t>(std::countr_zero(vacant));
      vacant &= vacant - 1;
      const BackendRef ref{static_cast<BackendId>(id), static_cast<std::uint16_t>(generations_[id] + 1)};
      plan.backend[id] =
          std::make_unique<Backend>(BackendIdentity{ref, spec.name, spec.address}, spec, setup.policy, queue_, now);
    }
    plan.spec[id] = &spec;
    if (setup.policy.class_adaptive) plan.class_slots[id] = std::make_unique<ClassSlots>();
    bits[i] = BackendSet{1} << id;
  }
  for (const PoolSpec& spec : setup.pools) {
    const std::optional<PoolId> known = pool_id(spec.name);
    std::size_t id = known.value_or(0);
    if (!known) {
      // A place that was never used, or else the one that fell vacant longest ago.
      std::size_t tried = 0;
      do id = (next_pool_ + tried++) % kMaxPools;
      while (tried < kMaxPools && (pools_[id] != nullptr || plan.pool[id] != nullptr));
      if (pools_[id] != nullptr || plan.pool[id] != nullptr) return fail(ErrorKind::exhausted, "too many pools at once");
      next_pool_ = static_cast<std::uint32_t>(id) + 1;
      plan.pool[id] = std::make_unique<Pool>(spec.name, queue_, tenants_);
    }
    plan.pool_used[id] = true;
    plan.batch[id] = spec.batch;
    for (const std::uint32_t i : spec.backends) plan.members[id] |= bits[i];
    plan.orbit_picker[id] = balancing::make_picker(setup.policy.picker, {setup.policy.orbit_costs.stream});
    if (spec.overload != admission::OverloadKind::none) {
      plan.overload[id] = std::make_unique<admission::OverloadControl>(spec.overload);
    }
    plan.http_picker[id] = balancing::make_picker(setup.policy.picker, {setup.policy.http_costs.stream});
  }
  return plan;
}

void Core::apply(Plan& plan, TimePoint now) {
  tick(now);
  const bool first = present_ == 0;
  policy_ = std::move(plan.policy);
  queue_.set(policy_.queue);
  limits_.set(policy_.limits);  // the throttle, where it is at work, halves them again within half a second
  retries_.configure(policy_.retries);
  has_floors_ = std::ranges::any_of(policy_.floors, [](double share) { return share > 0; });
  has_shares_ = has_floors_ || policy_.class_adaptive || std::ranges::any_of(policy_.ceilings, [](std::uint32_t n) { return n != kUnbounded; });
  bounded_starts_ = std::ranges::any_of(policy_.starting, [](std::uint32_t bound) { return bound != kUnbounded; });

  for (std::size_t id = 0; id < kMaxBackends; ++id) {
    auto& place = backends_[id];
    if (plan.backend[id] != nullptr) {
      std::swap(place, plan.backend[id]);
      generations_[id] = place->identity.ref.generation;
      set_bit(hot_, place->bit(), false);
      place->late = !first;
      if (place->late) place->slow.begin();
      place->slow_starting = place->late;
    }
    if (place == nullptr) continue;
    // What is known already is kept; what is wanted no longer goes with the plan.
    if ((place->class_slots != nullptr) != (plan.class_slots[id] != nullptr)) {
      std::swap(place->class_slots, plan.class_slots[id]);
      set_class_slots(*place);
    }
    if (plan.spec[id] == nullptr) place->removed = true;
    else configure(*place, *plan.spec[id]);
    update(*place);
  }
  for (std::size_t id = 0; id < kMaxPools; ++id) {
    if (plan.pool[id] != nullptr) std::swap(pools_[id], plan.pool[id]);
    Pool* pool = pools_[id].get();
    if (pool == nullptr) continue;
    pool->members = plan.members[id];
    if (plan.pool_used[id]) {
      pool->speed.configure(policy_.speed);
      pool->classes.configure(policy_.hold);
      pool->shares.set(policy_.tenant_turns);
      pool->batch = plan.batch[id];
      pool->batch_left = 0;
      std::swap(pool->orbit_picker, plan.orbit_picker[id]);
      std::swap(pool->http_picker, plan.http_picker[id]);
      const auto kind_of = [](const auto& o) { return o == nullptr ? admission::OverloadKind::none : o->kind(); };
      if (kind_of(pool->overload) != kind_of(plan.overload[id])) {
        std::swap(pool->overload, plan.overload[id]);
        if (pool->overload != nullptr) pool->overload->set_waiting(!pool->paused && pool->waiting() != 0, now_);
        pool->oldest = TimePoint::min();
      }
      for_each(pool->members, [&](Backend& b) { b.home = static_cast<PoolId>(id); });
    } else {
      refuse_all(*pool);
      std::swap(pools_[id], plan.pool[id]);
    }
  }
  has_controllers_ = std::ranges::any_of(pools_, [](const auto& pool) { return pool != nullptr && pool->overload != nullptr; });
  update_kinds();
  review();
  review_speeds();
  pump(now_);
}

void Core::configure(Backend& b, const BackendSpec& spec) {
  b.spec = spec;
  b.health.configure(policy_.health);
  b.breaker.configure(policy_.breaker);
  b.slow.configure(policy_.slow_start);
  if (spec.kind != WorkerKind::unknown && spec.kind != b.kind) {
    set_kind(b, spec.kind);
  } else if (b.kind != WorkerKind::unknown) {
    if (b.kind == WorkerKind::orbit) b.lag.set_ceiling(ceiling_of(b));
    else set_http_slots(b);
    if (b.class_slots != nullptr) b.class_slots->set_most(ceiling_of(b));
  }
}

std::uint32_t Core::ceiling_of(const Backend& b) {
  const std::uint32_t written = b.kind == WorkerKind::orbit ? b.spec.orbit_ceiling : b.spec.http_slots;
  return b.slots_limit == 0 ? written : std::min(written, b.slots_limit);
}

void Core::set_kind(Backend& b, WorkerKind kind) {
  b.kind = kind;
  if (kind == WorkerKind::orbit) {
    b.limit.reset();
    admission::HeadLagConfig config = policy_.head_lag;
    config.ceiling = ceiling_of(b);
    b.lag = admission::HeadLag(config, now_);
    if (b.late) b.lag.recovered(now_);
  } else {
    b.lag = admission::HeadLag::fixed(ceiling_of(b));
    set_http_slots(b);
  }
  set_class_slots(b);
}

void Core::set_class_slots(Backend& b) {
  if (b.class_slots != nullptr && b.kind == WorkerKind::orbit) b.class_slots->begin(ceiling_of(b), now_);
}

void Core::set_http_slots(Backend& b) {
  if (!policy_.http_adaptive) {
    b.limit.reset();
  } else if (b.limit) {
    b.limit->configure(ceiling_of(b), policy_.http_objective);
  } else {
    admission::FirstEventLimitConfig config;
    config.most = ceiling_of(b);
    config.objective = policy_.http_objective;
    b.limit.emplace(config, now_);
  }
  b.lag.set_ceiling(b.limit ? b.limit->slots() : ceiling_of(b));
}

void Core::update_kinds() {
  for (const auto& pool : pools_) {
    if (pool == nullptr) continue;
    bool orbit = false;
    bool unknown = pool->members == 0;
    for_each(pool->members, [&](const Backend& b) {
      orbit |= b.kind == WorkerKind::orbit;
      unknown |= b.kind == WorkerKind::unknown;
    });
    pool->kind = orbit ? WorkerKind::orbit : unknown ? WorkerKind::unknown : WorkerKind::http;
  }
}

// --- health, breakers, the operator ---------------------------------------------------------------------------

void Core::update(Backend& b) {
  const BackendSet bit = b.bit();
  const bool reachable = !b.removed && b.health.reachable();
  set_bit(present_, bit, !b.removed);
  set_bit(reachable_, bit, reachable);
  set_bit(up_, bit, reachable && !b.health.draining());
  set_bit(unprobed_, bit, !b.removed && !b.health.probed() && !b.health.draining());
  set_bit(shut_, bit, b.breaker.state() == Breaker::State::open);
  set_bit(judging_, bit, b.breaker.state() == Breaker::State::half_open);
  set_bit(admitting_, bit, b.breaker.admits());
}

balancing::PoolStanding Core::standing_of(const Pool& pool) const {
  std::array<balancing::EjectionMember, kMaxBackends> members;
  std::size_t n = 0;
  for_each(pool.members, [&](const Backend& b) {
    members[n++] = {b.health.reachable(), b.health.draining(), b.breaker.state()};
  });
  return balancing::standing({members.data(), n});
}

bool Core::may_open(const Backend& b) const {
  return std::ranges::all_of(pools_, [&](const auto& pool) {
    if (pool == nullptr || (pool->members & b.bit()) == 0) return true;
    const balancing::PoolStanding s = standing_of(*pool);
    return b.breaker.state() == Breaker::State::closed ? s.may_open : s.may_reopen;
  });
}

void Core::review() {
  for (const auto& pool : pools_) {
    if (pool == nullptr) continue;
    pool->panic = standing_of(*pool).panic;
    if (!pool->panic) continue;
    for_each(pool->members & up_ & shut_, [&](Backend& b) {
      b.breaker.half_open_early();
      update(b);
    });
  }
  set_breaker_due();
  refuse_hopeless();
}

void Core::set_breaker_due() {
  breaker_due_ = kNever;
  for_each((shut_ | judging_) & present_,
           [&](const Backend& b) { breaker_due_ = std::min(breaker_due_, b.breaker.next_change()); });
  due_ = std::min(due_, breaker_due_);
}

void Core::advance_breakers() {
  for_each((shut_ | judging_) & present_, [&](Backend& b) {
    if (b.breaker.next_change() > now_) return;
    b.breaker.advance(may_open(b), now_, rng_);
    update(b);
  });
  review();
}

void Core::refuse_all(LaneQueue& queue) {
  while (!queue.empty()) {
    Waiter& w = waiter(*queue.best(now_, [](admission::Waiting&) { return true; }));
    dequeue(w);
    refuse(w, Refused::no_backend, false);
  }
}

void Core::refuse_all(Pool& pool) {
  for (LaneQueue* queue : {&pool.critical, &pool.plain, &pool.streamed, &pool.picky}) refuse_all(*queue);
}

void Core::refuse_hopeless() {
  if (queue_.entries() == 0) return;
  for (const auto& pool : pools_) {
    if (pool != nullptr && (pool->members & (up_ | unprobed_)) == 0) refuse_all(*pool);
  }
  for_each(pinned_, [&](Backend& b) {
    if (!b.removed && ((reachable_ | unprobed_) & b.bit()) != 0) return;
    for (LaneQueue* queue : {&b.pinned_critical, &b.pinned_plain, &b.pinned_streamed}) refuse_all(*queue);
  });
}

void Core::on_probe(Backend& b, balancing::ProbeResult result, WorkerKind found, TimePoint now) {
  tick(now);
  if (b.removed) return;
  if (b.kind == WorkerKind::unknown && (found != WorkerKind::unknown || result == balancing::ProbeResult::ok)) {
    set_kind(b, found != WorkerKind::unknown ? found : WorkerKind::http);
    update_kinds();
  }
  const bool was_reachable = b.health.reachable();
  b.health.on_probe(result, now_);
  if (!was_reachable && b.health.recovered()) {
    b.slow.begin();
    b.slow_starting = true;
    b.lag.recovered(now_);
    b.service.forget();
    set_class_slots(b);
    if (b.limit) {
      b.limit.reset();
      set_http_slots(b);
    }
    b.breaker.half_open_early();
  }
  update(b);
  review();
  pump(now_);
}

void Core::on_probe_timer(Backend& b, TimePoint now) {
  tick(now);
  if (b.removed) return;
  b.health.advance(now_);
  update(b);
  review();
  pump(now_);
}

void Core::on_lag_sent(Backend& b, TimePoint now) {
  tick(now);
  if (policy_.steered && b.lag.steered()) b.lag.on_probe_sent(now_);
}

void Core::on_lag_probe(Backend& b, TimePoint sent, TimePoint now) {
  tick(now);
  if (b.removed) return;
  silence_may_have_ended(b, now);
  if (b.health.on_sign_of_life(now_)) {
    update(b);
    review();
  }
  if (policy_.steered && b.lag.steered()) b.lag.on_probe_sample(now_, sent, b.in_flight);
  pump(now_);
}

void Core::on_lag_unanswered(Backend& b, TimePoint sent, TimePoint now) {
  tick(now);
  if (!b.removed && policy_.steered && b.lag.steered()) {
    b.lag.on_probe_sent(sent);  // for those who did not say so when it left
    b.lag.on_unanswered(now_, sent, b.in_flight);
  }
  pump(now_);
}

void Core::drain_backend(Backend& b, bool drain, TimePoint now) {
  tick(now);
  b.health.set_draining(drain);
  update(b);
  review();
  pump(now_);
}

// What runs goes on; the slots come back one by one.
void Core::limit_backend(Backend& b, std::uint32_t slots, TimePoint now) {
  tick(now);
  b.slots_limit = slots;
  if (b.kind == WorkerKind::orbit) b.lag.set_ceiling(ceiling_of(b));
  if (b.kind == WorkerKind::http) set_http_slots(b);
  if (b.class_slots != nullptr) b.class_slots->set_most(ceiling_of(b));
  pump(now_);
}

void Core::eject_backend(Backend& b, Duration time, TimePoint now) {
  tick(now);
  b.breaker.eject(time != Duration::zero() ? time : policy_.breaker.open_base, now_);
  update(b);
  review();
  pump(now_);
}

bool Core::set_paused(PoolId id, bool paused, TimePoint now) {
  tick(now);
  if (id >= kMaxPools || pools_[id] == nullptr) return false;
  Pool& pool = *pools_[id];
  pool.paused = paused;
  pool.drain.set_waiting(!paused && pool.waiting() != 0, now_);
  for (std::size_t p = 0; p < kPriorityCount; ++p) {
    pool.own[p].set_waiting(!paused && pool.waiting(static_cast<Priority>(p)) != 0, now_);
  }
  if (pool.overload != nullptr) pool.overload->set_waiting(!paused && pool.waiting() != 0, now_);
  pump(now_);
  return true;
}

// --- reading ----------------------------------------------------------------------------------------------------

void Core::refresh_speeds(BackendSet eligible, TimePoint now) const {
  for (std::size_t id = 0; id < kMaxPools; ++id) {
    if (pools_[id] == nullptr) continue;
    std::array<balancing::SpeedModel::Member, kMaxBackends> members;
    std::size_t n = 0;
    for_each(pools_[id]->members, [&](Backend& b) {
      if (b.home == id) members[n++] = {&b.load, (eligible & b.bit()) != 0};
    });
    pools_[id]->speed.refresh({members.data(), n}, now);
  }
}

Backend* Core::find(BackendRef ref) const {
  if (ref.id >= kMaxBackends) return nullptr;
  Backend* b = backends_[ref.id].get();
  return b != nullptr && b->identity.ref == ref ? b : nullptr;
}

Backend* Core::find(std::string_view name) const {
  for (const auto& b : backends_) {
    if (b != nullptr && !b->removed && b->identity.name == name) return b.get();
  }
  return nullptr;
}

std::optional<PoolId> Core::pool_id(std::string_view name) const {
  for (std::size_t id = 0; id < kMaxPools; ++id) {
    if (pools_[id] != nullptr && pools_[id]->name == name) return static_cast<PoolId>(id);
  }
  return std::nullopt;
}

}  // namespace perigee::dispatch
