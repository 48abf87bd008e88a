// The thread-safe shell around the decision: one lock, and one list of decided waiters for each loop.
//
// Every entry does the same: lock, let the core decide, move what was decided to the lists of the waiters' own
// loops, publish what may be read without the lock, unlock, wake the loops whose list was empty. Nobody is
// resumed and nothing is allocated in between.
#include "perigee/dispatch/dispatcher.h"

#include <algorithm>
#include <cassert>
#include <type_traits>

#include "core.h"

namespace perigee::dispatch {

namespace {

constexpr Duration kRefreshInterval = std::chrono::milliseconds(50);
constexpr TimePoint kNewestKnown{};  // the core takes the newest time that it was told

TimePoint::rep ticks(TimePoint t) { return t.time_since_epoch().count(); }

}  // namespace

template <typename Change>
auto Dispatcher::locked(LoopPort* caller, Change&& change) const {
  std::array<LoopPort*, kMaxLoops> to_wake;
  std::size_t wakes = 0;
  std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) {
    lock.lock();
    ++locks_contended_;
  }
  ++locks_;
  const auto hand_over = [&] {
    while (Waiter* w = core_->decided().pop_front<Waiter>()) {
      LoopPort& port = *w->port_;
      if (port.decided_.empty()) to_wake[wakes++] = &port;
      port.decided_.push_back(*w);
    }
    next_wakeup_.store(ticks(core_->next_due()), std::memory_order_relaxed);
    eligible_.store(core_->eligible(), std::memory_order_relaxed);
    lock.unlock();
    for (std::size_t i = 0; i < wakes; ++i) {
      if (to_wake[i] == caller) to_wake[i]->waker_.soon();
      else to_wake[i]->waker_.wake();
    }
  };
  if constexpr (std::is_void_v<decltype(change(*core_))>) {
    change(*core_);
    hand_over();
  } else {
    auto result = change(*core_);
    hand_over();
    return result;
  }
}

// For changes that come from another thread than those of the ports: what falls due by them must wake a loop that
// may be asleep and has set its timer for later, or not at all.
template <typename Change>
auto Dispatcher::from_outside(Change&& change) {
  LoopPort* sleeper = nullptr;
  const auto find_sleeper = [&](Core& core) {
    if (ticks(core.next_due()) >= armed_.load(std::memory_order_relaxed)) return;
    const auto port = std::ranges::find_if(ports_, [](const LoopPort* p) { return p != nullptr; });
    if (port != ports_.end()) sleeper = *port;
  };
  const auto wake = [&] {
    if (sleeper != nullptr) sleeper->waker_.wake();
  };
  if constexpr (std::is_void_v<decltype(change(*core_))>) {
    locked(nullptr, [&](Core& core) {
      change(core);
      find_sleeper(core);
    });
    wake();
  } else {
    const auto result = locked(nullptr, [&](Core& core) {
      auto r = change(core);
      find_sleeper(core);
      return r;
    });
    wake();
    return result;
  }
}

// --- Dispatcher -----------------------------------------------------------------------------------------------

Dispatcher::Dispatcher(std::uint64_t seed) : core_(std::make_unique<Core>(seed)) {}

Dispatcher::~Dispatcher() {
  assert(std::ranges::all_of(ports_, [](const LoopPort* port) { return port == nullptr; }));
}

Result<void> Dispatcher::configure(const Setup& setup, TimePoint now) {
  const std::lock_guard no_refresh(refresh_mutex_);  // outlives the plan, which destroys what was taken out
  const BackendSet vacant = locked(nullptr, [](Core& core) { return core.vacant(); });
  TRY(Core::Plan plan, core_->prepare(setup, vacant, now));
  from_outside([&](Core& core) {
    core.apply(plan, now);
    publish_kinds();
  });
  return {};
}

void Dispatcher::publish_kinds() const {
  for (std::size_t id = 0; id < kMaxPools; ++id) {
    kinds_[id].store(core_->pool_kind(static_cast<PoolId>(id)), std::memory_order_relaxed);
  }
}

BackendRef Dispatcher::backend(std::string_view name) const {
  return locked(nullptr, [&](Core& core) {
    const Backend* b = core.find(name);
    return b != nullptr ? b->identity.ref : BackendRef();
  });
}

std::optional<PoolId> Dispatcher::pool(std::string_view name) const {
  return locked(nullptr, [&](Core& core) { return core.pool_id(name); });
}

Verdict Dispatcher::acquire(Waiter& waiter, const Ask& ask, LoopPort& port, TimePoint now) {
  assert(waiter.seen_ == Waiter::State::idle || waiter.seen_ == Waiter::State::refused);
  waiter.port_ = &port;
  if (ticks(now) >= next_refresh_.load(std::memory_order_relaxed)) refresh_speeds(now);
  const Verdict verdict = locked(&port, [&](Core& core) { return core.enter(waiter, ask, now); });
  switch (verdict) {
    case Verdict::granted:
      waiter.seen_ = Waiter::State::granted;
      break;
    case Verdict::waiting:
      waiter.seen_ = Waiter::State::waiting;
      break;
    case Verdict::refused:
      waiter.seen_ = Waiter::State::refused;
      break;
  }
  return verdict;
}

void Dispatcher::cancel(Waiter& waiter, Cancelled why, TimePoint now) {
  if (waiter.seen_ == Waiter::State::waiting || waiter.seen_ == Waiter::State::granted) {
    locked(waiter.port_, [&](Core& core) { core.leave(waiter, why, now); });
  }
  waiter.seen_ = Waiter::State::idle;
}

QueuePlace Dispatcher::place_of(const Waiter& waiter, TimePoint now) const {
  if (waiter.seen_ != Waiter::State::waiting) return {};
  return locked(waiter.port_, [&](Core& core) { return core.place_of(waiter, now); });
}

bool Dispatcher::try_retry(RequestClass c, TimePoint now) {
  return locked(nullptr, [&](Core& core) { return core.try_retry(c, now); });
}

void Dispatcher::free_retry() {
  locked(nullptr, [](Core& core) { core.free_retry(); });
}

void Dispatcher::drop_retry() {
  locked(nullptr, [](Core& core) { core.drop_retry(); });
}

TimePoint Dispatcher::take_wakeup() {
  const auto due = next_wakeup_.load(std::memory_order_relaxed);
  auto armed = armed_.load(std::memory_order_relaxed);
  // Whoever lowers it sets the timer. Two loops may both do so, for different times; that does no harm.
  while (due < armed) {
    if (armed_.compare_exchange_weak(armed, due, std::memory_order_relaxed)) return TimePoint(Duration(due));
  }
  return kNever;
}

void Dispatcher::pump(TimePoint now) {
  locked(nullptr, [&](Core& core) {
    armed_.store(ticks(kNever), std::memory_order_relaxed);
    core.pump(now);
  });
}

bool Dispatcher::busy(BackendRef ref) const {
  return locked(nullptr, [&](Core& core) {
    const Backend* b = core.find(ref);
    return b != nullptr && core.busy(*b);
  });
}

void Dispatcher::set_draining(bool draining) {
  draining_.store(draining, std::memory_order_relaxed);
  locked(nullptr, [&](Core& core) { core.set_draining(draining); });
}

bool Dispatcher::set_paused(PoolId pool, bool paused, TimePoint now) {
  return from_outside([&](Core& core) { return core.set_paused(pool, paused, now); });
}

bool Dispatcher::drain_backend(BackendRef ref, bool drain, TimePoint now) {
  return from_outside([&](Core& core) {
    Backend* b = core.find(ref);
    if (b == nullptr || b->removed) return false;
    core.drain_backend(*b, drain, now);
    return true;
  });
}

bool Dispatcher::limit_backend(BackendRef ref, std::uint32_t slots, TimePoint now) {
  return from_outside([&](Core& core) {
    Backend* b = core.find(ref);
    if (b == nullptr || b->removed) return false;
    core.limit_backend(*b, slots, now);
    return true;
  });
}

bool Dispatcher::eject_backend(BackendRef ref, Duration time, TimePoint now) {
  return from_outside([&](Core& core) {
    Backend* b = core.find(ref);
    if (b == nullptr || b->removed) return false;
    core.eject_backend(*b, time, now);
    return true;
  });
}

bool Dispatcher::enable_backend(BackendRef ref, TimePoint now) {
  return from_outside([&](Core& core) {
    Backend* b = core.find(ref);
    if (b == nullptr || b->removed) return false;
    b->breaker.half_open_early();
    core.limit_backend(*b, 0, now);
    core.drain_backend(*b, false, now);
    return true;
  });
}

void Dispatcher::set_throttle(const admission::ThrottleOrders& orders, std::span<const BackendRef> hot, TimePoint now) {
  from_outside([&](Core& core) {
    BackendSet set = 0;
    for (const BackendRef ref : hot) {
      if (const Backend* b = core.find(ref); b != nullptr) set |= b->bit();
    }
    core.set_throttle(orders, set, now);
  });
}

double Dispatcher::standing_queue(TimePoint now) const {
  return locked(nullptr, [&](Core& core) { return core.standing_queue(now); });
}

void Dispatcher::on_probe(BackendRef ref, balancing::ProbeResult result, WorkerKind found, TimePoint now) {
  from_outside([&](Core& core) {
    Backend* b = core.find(ref);
    if (b == nullptr) return;
    const WorkerKind before = b->kind;
    core.on_probe(*b, result, found, now);
    if (b->kind != before) publish_kinds();
  });
}

void Dispatcher::on_probe_timer(BackendRef ref, TimePoint now) {
  from_outside([&](Core& core) {
    if (Backend* b = core.find(ref); b != nullptr) core.on_probe_timer(*b, now);
  });
}

void Dispatcher::on_lag_sent(BackendRef ref, TimePoint now) {
  from_outside([&](Core& core) {
    if (Backend* b = core.find(ref); b != nullptr) core.on_lag_sent(*b, now);
  });
}

void Dispatcher::on_lag_probe(BackendRef ref, TimePoint sent, TimePoint now) {
  from_outside([&](Core& core) {
    if (Backend* b = core.find(ref); b != nullptr) core.on_lag_probe(*b, sent, now);
  });
}

void Dispatcher::on_lag_unanswered(BackendRef ref, TimePoint sent, TimePoint now) {
  from_outside([&](Core& core) {
    if (Backend* b = core.find(ref); b != nullptr) core.on_lag_unanswered(*b, sent, now);
  });
}

Status Dispatcher::snapshot() const {
  Status status;
  status.backends.resize(kMaxBackends);
  for (BackendStatus& b : status.backends) {
    b.name.reserve(kMaxNameBytes);
    b.address.reserve(kMaxAddressBytes);
  }
  status.pools.resize(kMaxPools);
  for (PoolStatus& p : status.pools) p.name.reserve(kMaxNameBytes);
  locked(nullptr, [&](Core& core) {
    core.copy_status(status);
    status.locks = locks_;
    status.locks_contended = locks_contended_;
  });
  return status;
}

const char* Dispatcher::check_at_rest() const {
  return locked(nullptr, [](Core& core) { return core.check_at_rest(); });
}

std::vector<admission::HeadLagTrace> Dispatcher::lag_trace(BackendRef ref) const {
  std::vector<admission::HeadLagTrace> trace(admission::HeadLag::kTraceSeconds);
  const std::size_t n = locked(nullptr, [&](Core& core) {
    const Backend* b = core.find(ref);
    std::size_t i = 0;
    while (b != nullptr && i < trace.size() && b->lag.trace(i, trace[i])) ++i;
    return i;
  });
  trace.resize(n);
  return trace;
}

// The one part of the choice that needs exp(): outside the lock, by whichever loop comes first.
void Dispatcher::refresh_speeds(TimePoint now) {
  const std::unique_lock alone(refresh_mutex_, std::try_to_lock);
  if (!alone.owns_lock()) return;
  next_refresh_.store(ticks(now + kRefreshInterval), std::memory_order_relaxed);
  core_->refresh_speeds(eligible_.load(std::memory_order_relaxed), now);
}

// --- LoopPort ---------------------------------------------------------------------------------------------------

LoopPort::LoopPort(Dispatcher& dispatcher, Waker& waker) : dispatcher_(dispatcher), waker_(waker) {
  const std::lock_guard lock(dispatcher.mutex_);
  auto free = std::ranges::find(dispatcher.ports_, nullptr);
  assert(free != dispatcher.ports_.end() && "more loops than kMaxLoops");
  *free = this;
  index_ = static_cast<std::size_t>(free - dispatcher.ports_.begin());
}

LoopPort::~LoopPort() {
  const std::lock_guard lock(dispatcher_.mutex_);
  assert(decided_.empty() && delivering_.empty());
  dispatcher_.ports_[index_] = nullptr;
  // The timer may have been ours: whoever asks next sets his.
  dispatcher_.armed_.store(ticks(kNever), std::memory_order_relaxed);
}

void LoopPort::deliver() {
  {
    const std::lock_guard lock(dispatcher_.mutex_);
    delivering_.splice_back(decided_);
  }
  // One at a time: a wake may cancel any other one, and may come back in here.
  while (Waiter* w = delivering_.pop_front<Waiter>()) {
    w->seen_ = w->granted_ ? Waiter::State::granted : Waiter::State::refused;
    if (!w->granted_) w->place_ = Waiter::Place::nowhere;
    w->wake_(*w);
  }
}

// --- Waiter -----------------------------------------------------------------------------------------------------

Waiter::~Waiter() {
  if (seen_ == State::waiting || seen_ == State::granted) {
    port_->dispatcher().cancel(*this, Cancelled::client_gone, kNewestKnown);
  }
}

Ticket Waiter::take() {
  assert(seen_ == State::granted);
  seen_ = State::idle;
  place_ = Place::nowhere;
  return Ticket(*port_, std::exchange(hold_, Hold()));
}

// --- Ticket -----------------------------------------------------------------------------------------------------

void Ticket::abandon() { finish(balancing::Outcome::our_refusal, kNewestKnown); }

const BackendIdentity& Ticket::backend() const { return hold_.backend->identity; }

void Ticket::sent(TimePoint now) {
  const auto us = (now - hold_.granted_at) / std::chrono::microseconds(1);
  hold_.sent_after_us = static_cast<std::uint32_t>(std::clamp<std::int64_t>(us, 1, 0xFFFFFFFF));
}

void Ticket::head(TimePoint now) {
  if (!hold_.lag_sample || hold_.sent_after_us == 0) return;
  port_->dispatcher().locked(port_, [&](Core& core) { core.head(hold_, now); });
}

void Ticket::bytes(TimePoint now) {
  Backend& b = *hold_.backend;
  const TimePoint last{Duration(b.last_byte.load(std::memory_order_relaxed))};
  if (now <= last) return;
  const bool stall = now - last >= admission::HeadLag::kStallSilence &&
                     b.chats_running.load(std::memory_order_relaxed) >= admission::HeadLag::kStallRunning;
  if (stall) {
    port_->dispatcher().locked(port_, [&](Core& core) { core.silence_may_have_ended(b, now); });
  } else {
    b.last_byte.store(ticks(now), std::memory_order_relaxed);
  }
}

void Ticket::became_stream(TimePoint now) {
  if (hold_.limit.streamed) return;
  port_->dispatcher().locked(port_, [&](Core& core) {
    core.became_stream(hold_);
    core.pump(now);
  });
}

void Ticket::first_event(TimePoint now, balancing::Outcome verdict) {
  if (hold_.had_event) return;
  port_->dispatcher().locked(port_, [&](Core& core) { core.first_event(hold_, verdict, now); });
}

bool Ticket::became_tunnel(TimePoint now) {
  return port_->dispatcher().locked(port_, [&](Core& core) { return core.became_tunnel(hold_, now); });
}

void Ticket::finish(balancing::Outcome outcome, TimePoint now, Duration retry_after, std::uint32_t tokens) {
  if (!*this) return;
  port_->dispatcher().locked(port_, [&](Core& core) { core.finish(hold_, outcome, now, retry_after, tokens); });
}

}  // namespace perigee::dispatch
