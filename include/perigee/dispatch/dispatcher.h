// The dispatcher: the one place that knows all slots and all waiting exchanges. Admission, queue and choice
// of backend are one decision, taken under one short lock, exact across event loops.
//
// An exchange asks with a Waiter that lives in its coroutine's frame and gets a Ticket: the right to run on
// one backend. A ticket that ends, and everything else that adds capacity, hands the freed place to the best
// waiter at once ("pumps"), so that a free slot and a waiter who may use it never both exist at rest.
// A waiter's life: idle → waiting → granted → taken, or refused, or cancelled. What is decided for a waiter
// is put on the list of its own loop and told from LoopPort::deliver(): nothing resumes under the lock nor
// inside a release, so every call here may be made from a destructor.
//
// Threads: Dispatcher's functions on any thread; Waiter, Ticket and LoopPort only on their own loop's.
// Time is handed in; it may go back a little between threads. Nothing allocates but configure and snapshot.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "perigee/admission/class_limits.h"
#include "perigee/admission/lanes.h"
#include "perigee/admission/throttle.h"
#include "perigee/balancing/backend_load.h"
#include "perigee/balancing/breaker.h"
#include "perigee/balancing/health_state.h"
#include "perigee/balancing/outcome.h"
#include "perigee/base/intrusive_list.h"
#include "perigee/base/result.h"
#include "perigee/base/time.h"
#include "perigee/dispatch/types.h"

namespace perigee::dispatch {

struct Backend;    // src/dispatch/backend.h: one worker's counters and policies
class Core;        // src/dispatch/core.h: the decision itself, single-threaded
class Dispatcher;
class LoopPort;

// What may be known of a backend without the lock; never changes, lives as long as a ticket refers to it.
struct BackendIdentity {
  BackendRef ref;
  std::string name;
  std::string address;
};

// What one ticket holds of the dispatcher's counters. Private to dispatch; plain data, ended exactly once.
struct Hold {
  enum class Phase : std::uint8_t { none, starting, running, tunnel };
  Backend* backend = nullptr;
  TimePoint granted_at{};
  balancing::Breaker::Pass pass;
  balancing::LoadShare share;
  admission::LimitHold limit;
  Phase phase : 2 = Phase::none;
  bool critical : 1 = false;
  bool judged : 1 = false;        // the breaker and the speed have had their verdict, or are to have none
  bool retry : 1 = false;         // one of the running retries
  bool lag_sample : 1 = false;    // its head is a sample: a streamed chat on an ORBIT worker
  bool had_event : 1 = false;
  std::uint16_t tenant = admission::kNoAccount;  // whose counter its output goes to
  std::uint32_t sent_after_us = 0;  // granted → last request byte written; 0 = not yet
};
static_assert(sizeof(Hold) <= 40);

inline constexpr std::uint32_t kTokensUnknown = 0xffffffff;

// The right to run one exchange on one backend. Move-only; gives its place back on destruction.
class Ticket {
 public:
  Ticket() = default;
  Ticket(Ticket&& other) noexcept : port_(other.port_), hold_(other.hold_) { other.hold_.backend = nullptr; }
  Ticket& operator=(Ticket&& other) noexcept {
    if (this == &other) return *this;
    if (*this) abandon();
    port_ = other.port_;
    hold_ = other.hold_;
    other.hold_.backend = nullptr;
    return *this;
  }
  // As finish(our_refusal), at the newest time the dispatcher was told.
  ~Ticket() {
    if (*this) abandon();
  }

  [[nodiscard]] explicit operator bool() const { return hold_.backend != nullptr; }
  [[nodiscard]] const BackendIdentity& backend() const;
  [[nodiscard]] TimePoint granted_at() const { return hold_.granted_at; }
  // Whether what it generates is charged to a tenant: finish() should tell it well.
  [[nodiscard]] bool charged() const { return hold_.tenant != admission::kNoAccount; }

  // The last byte of the request was written.
  void sent(TimePoint now);
  // The head of the answer came: the head-lag sample of a streamed chat.
  void head(TimePoint now);
  // Every read from the worker, of whatever, before head() and first_event(): two relaxed atomics, and the lock
  // only where a stall ends.
  void bytes(TimePoint now);
  // The answer turned out to be a stream though the request did not say so. Before first_event.
  void became_stream(TimePoint now);
  // The first body event that carries model output; the first body byte of what is not a stream. `verdict`:
  // what the answer's status says (balancing/outcome.h). May be left out where the answer is whole in the
  // same turn: finish() then stands for both.
  void first_event(TimePoint now, balancing::Outcome verdict = balancing::Outcome::success);
  // 101, or the head of an endless GET: gives the slot back and counts in `tunnels` from here on. False
  // where the backend has its bound of tunnels: the ticket is unchanged, end the exchange.
  [[nodiscard]] bool became_tunnel(TimePoint now);
  // The end; the ticket is empty afterwards. `retry_after`: what the worker itself asked for, 0 = nothing.
  // `tokens`: what was generated, as far as that can be told (its usage, or the events of a stream); for its tenant's turns;
  // kTokensUnknown: the worker went on, and nobody heard what it said: what was expected stays charged.
  void finish(balancing::Outcome outcome, TimePoint now, Duration retry_after = Duration::zero(),
              std::uint32_t tokens = 0);

 private:
  friend class Waiter;
  Ticket(LoopPort& port, const Hold& hold) : port_(&port), hold_(hold) {}
  void abandon();
  LoopPort* port_ = nullptr;
  Hold hold_;
};
static_assert(sizeof(Ticket) <= 48);

// One exchange that asks. Lives in its coroutine's frame; must be idle, taken or refused when it dies (its
// destructor cancels what is not). Usable again after that, for the next attempt.
class Waiter : public admission::Waiting {
 public:
  enum class State : std::uint8_t { idle, waiting, granted, refused };
  // `wake` is called on the waiter's own loop, from LoopPort::deliver only, once for each acquire that
  // answered `waiting`, unless it was cancelled first. state() is then granted or refused.
  using Wake = void (*)(Waiter&);

  explicit Waiter(Wake wake) : wake_(wake) {}
  ~Waiter();

  // As its own loop may see it: `waiting` until it was delivered.
  [[nodiscard]] State state() const { return seen_; }
  // In state granted, once; idle afterwards.
  [[nodiscard]] Ticket take();
  // In state refused, and after a cancel by queue_timeout.
  [[nodiscard]] const Refusal& refusal() const { return refusal_; }
  // Its place in the order of all that ask, for Ask::arrival of a later attempt.
  [[nodiscard]] std::uint64_t arrival_number() const { return arrival; }

 private:
  friend class Core;
  friend class Dispatcher;
  friend class LoopPort;

  // Where it stands: under the lock until it is decided, its own loop's from then on.
  enum class Place : std::uint8_t { nowhere, queued, decided };
  LoopPort* port_ = nullptr;
  Wake wake_;
  admission::LaneQueue* queue_ = nullptr;
  BackendSet excluded_ = 0;
  std::uint64_t affinity_ = 0;
  Hold hold_;
  BackendRef pinned_;
  BackendRef home_;
  Refusal refusal_;
  PoolId pool_ = 0;
  Place place_ = Place::nowhere;
  State seen_ = State::idle;
  bool critical_ : 1 = false;
  bool retry_ : 1 = false;
  bool granted_ : 1 = false;  // how it was decided
  bool prefers_ : 1 = false;  // it has a home or an affinity
};
static_assert(sizeof(Waiter) <= 200);

// How a loop is told that its port has something to deliver.
class Waker {
 public:
  virtual ~Waker() = default;
  // Called on another thread: uv_async_send. Must lead to deliver() and then take_wakeup() on the port's loop.
  virtual void wake() noexcept = 0;
  // Called on the port's own loop, inside some call of it into the dispatcher: put deliver() on the ready
  // queue. Never deliver at once from here.
  virtual void soon() noexcept = 0;
};

// One for each event loop. Destroyed after all loops have stopped and all its tickets and waiters are gone.
class LoopPort {
 public:
  LoopPort(Dispatcher& dispatcher, Waker& waker);
  ~LoopPort();
  LoopPort(const LoopPort&) = delete;
  LoopPort& operator=(const LoopPort&) = delete;

  // On the own loop: tells every waiter for whom something was decided. May be entered again from `wake`.
  void deliver();
  [[nodiscard]] Dispatcher& dispatcher() const { return dispatcher_; }

 private:
  friend class Core;
  friend class Dispatcher;
  Dispatcher& dispatcher_;
  Waker& waker_;
  std::size_t index_;
  IntrusiveList<admission::LaneTag> decided_;     // under the lock
  IntrusiveList<admission::LaneTag> delivering_;  // the own loop's
};

class Dispatcher {
 public:
  // `seed`: ties between equal backends, jitter.
  explicit Dispatcher(std::uint64_t seed);
  ~Dispatcher();  // no port, ticket or waiter may be left
  Dispatcher(const Dispatcher&) = delete;
  Dispatcher& operator=(const Dispatcher&) = delete;

  // The first call, and every reload: applied whole or, where it is invalid, not at all. Pools keep their id
  // by name. Backends that keep name and address keep their counters, breakers, learnt speeds and health;
  // those that are gone get no new tickets and vanish with their last one; new ones come in slowly, except in
  // the first call. Lowering a bound revokes nothing that runs. One thread at a time.
  Result<void> configure(const Setup& setup, TimePoint now);
  [[nodiscard]] BackendRef backend(std::string_view name) const;
  [[nodiscard]] std::optional<PoolId> pool(std::string_view name) const;

  // --- the data plane, on the loop of `port`. `waiter` is idle.
  Verdict acquire(Waiter& waiter, const Ask& ask, LoopPort& port, TimePoint now);
  // In every state; afterwards the waiter is idle, no wake will come, and what it had been granted was given
  // back. A waiter that is idle stays so. Its own timer for Ask::queue_wait calls this with queue_timeout.
  void cancel(Waiter& waiter, Cancelled why, TimePoint now);
  // Where a waiter stands, from counters: nobody is walked past. On the loop of its port.
  [[nodiscard]] QueuePlace place_of(const Waiter& waiter, TimePoint now) const;
  // Asks the retry budget for one more attempt, before acquire with Ask::retry. A granted try is given back by
  // whatever ends that attempt (its ticket, a refusal, a cancel); or by drop_retry where no acquire followed.
  [[nodiscard]] bool try_retry(RequestClass c, TimePoint now);
  // The same for an attempt of which nothing was sent: always granted, because no worker does anything twice.
  void free_retry();
  void drop_retry();

  // --- time. After any turn in which a loop called in here it asks take_wakeup (two relaxed loads where there
  // is nothing to do) and, unless kNever, sets its one dispatcher timer to that; the timer calls pump, and
  // take_wakeup is asked again. A timer that is set and no longer needed does no harm.
  [[nodiscard]] TimePoint take_wakeup();
  void pump(TimePoint now);

  // --- read without the lock.
  // orbit where the pool has an ORBIT backend, http where all are known and none is, else unknown.
  [[nodiscard]] WorkerKind pool_kind(PoolId pool) const {
    return kinds_[pool].load(std::memory_order_relaxed);
  }
  // Whether any backend may get new tickets: what /readyz asks, with `draining`.
  [[nodiscard]] bool any_eligible() const { return eligible_.load(std::memory_order_relaxed) != 0; }
  [[nodiscard]] bool draining() const { return draining_.load(std::memory_order_relaxed); }
  // Whether anything runs on this backend or waits anywhere: the lag probe's question.
  [[nodiscard]] bool busy(BackendRef backend) const;

  // --- operator and health, on any thread, usually the control loop's, which needs no timer for it: what falls
  // due by these wakes a loop. A reference that has gone stale is ignored.
  void set_draining(bool draining);                                // new asks are refused; waiting ones go on
  bool set_paused(PoolId pool, bool paused, TimePoint now);        // asks wait, but for critical and pinned ones
  bool drain_backend(BackendRef backend, bool drain, TimePoint now);  // no new tickets but for pinned asks
  // At run time, kept by reloads that keep the backend: a ceiling of slots below the written one; 0 takes it back.
  bool limit_backend(BackendRef backend, std::uint32_t slots, TimePoint now);
  // Its breaker opens for `time` (zero: as after a first trip), then lets trials through. In a pool most of whose
  // backends are out that is at once.
  bool eject_backend(BackendRef backend, Duration time, TimePoint now);
  // Closed to new tickets no longer: neither drained nor ejected, no limit.
  bool enable_backend(BackendRef backend, TimePoint now);
  // What the throttle wants, and the workers that are hot; both hold until the next call.
  void set_throttle(const admission::ThrottleOrders& orders, std::span<const BackendRef> hot, TimePoint now);
  // See admission::StandingQueue::share; 0 unless the last orders were above their soft mark.
  [[nodiscard]] double standing_queue(TimePoint now) const;
  // The probe of state. `found`: what the answer shows the worker to be; kept from the first time on, unless
  // the kind is written. An answer that shows nothing makes it an http worker.
  void on_probe(BackendRef backend, balancing::ProbeResult result, WorkerKind found, TimePoint now);
  // With every timer of the prober: notices silence.
  void on_probe_timer(BackendRef backend, TimePoint now);
  // The probe of lag, GET /health: it was written whole. May be left out; a stall is then known a little later.
  void on_lag_sent(BackendRef backend, TimePoint now);
  // It was answered; `sent` as in on_lag_sent.
  void on_lag_probe(BackendRef backend, TimePoint sent, TimePoint now);
  // It is due again and the last one, sent at `sent`, has no answer yet.
  void on_lag_unanswered(BackendRef backend, TimePoint sent, TimePoint now);

  // Counters as they are now. Allocates before it takes the lock; never walks the waiters.
  [[nodiscard]] Status snapshot() const;
  // For tests: "" or which invariant does not hold. Walks everything, every waiter included.
  [[nodiscard]] const char* check_at_rest() const;
  // The controller's last seconds, newest first.
  [[nodiscard]] std::vector<admission::HeadLagTrace> lag_trace(BackendRef backend) const;

 private:
  friend class LoopPort;
  friend class Ticket;
  friend class Waiter;

  // Runs `change` on the core under the lock, hands what was decided to the ports, unlocks and wakes them.
  // `caller`: the port of the loop we are on, nullptr elsewhere.
  template <typename Change>
  auto locked(LoopPort* caller, Change&& change) const;
  template <typename Change>
  auto from_outside(Change&& change);
  void refresh_speeds(TimePoint now);
  void publish_kinds() const;

  mutable std::mutex mutex_;
  mutable std::uint64_t locks_ = 0;            // under the lock
  mutable std::uint64_t locks_contended_ = 0;  // under the lock
  mutable std::atomic<TimePoint::rep> next_wakeup_{TimePoint::max().time_since_epoch().count()};
  std::atomic<TimePoint::rep> armed_{TimePoint::max().time_since_epoch().count()};
  mutable std::atomic<BackendSet> eligible_{0};
  std::atomic<bool> draining_{false};
  mutable std::array<std::atomic<WorkerKind>, kMaxPools> kinds_{};
  std::mutex refresh_mutex_;  // held while speeds are refreshed, and while backends are destroyed
  std::atomic<TimePoint::rep> next_refresh_{0};
  std::array<LoopPort*, kMaxLoops> ports_{};  // under the lock
  std::unique_ptr<Core> core_;
};

}  // namespace perigee::dispatch
