// The decision: who runs where and when. Single-threaded, pure (time is handed in, nothing is resumed).
//
// Every call that may add capacity ends with a pump, which hands free places to the best waiters; so at rest
// no waiter stands beside a place that it may take. What was decided for waiters is in `decided()` when a call
// returns, in order; the shell (dispatcher.cpp) carries it to their loops.
//
// Where a waiter stands: each pool has one LaneQueue for what is plain, one for what is streamed (the bound
// of streams closes only these), one for the critical lane, and one for attempts that leave a backend out
// (`picky`: the only one that is walked; the retry budget bounds it). What is pinned waits at its backend.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "backend.h"
#include "perigee/admission/class_limits.h"
#include "perigee/admission/drain_rate.h"
#include "perigee/admission/throttle.h"
#include "perigee/admission/usual_time.h"
#include "perigee/balancing/ejection.h"
#include "perigee/balancing/holding.h"
#include "perigee/balancing/picker.h"
#include "perigee/balancing/retry_budget.h"
#include "perigee/base/random.h"
#include "perigee/dispatch/dispatcher.h"

namespace perigee::dispatch {

struct Pool {
  Pool(std::string pool_name, admission::QueueBudget& budget, admission::Accounts& tenants)
      : name(std::move(pool_name)),
        shares(tenants),
        plain(budget, &shares),
        streamed(budget, &shares),
        picky(budget),
        critical(budget) {}
  [[nodiscard]] std::uint32_t in_lanes() const { return plain.size() + streamed.size(); }
  [[nodiscard]] std::uint32_t waiting(Priority p) const { return plain.count(p) + streamed.count(p); }
  [[nodiscard]] std::uint32_t waiting() const { return plain.size() + streamed.size() + picky.size() + critical.size(); }

  const std::string name;
  BackendSet members = 0;
  WorkerKind kind = WorkerKind::unknown;
  bool paused = false;
  bool panic = false;
  bool batch = false;
  std::uint32_t batch_left = 0;   // of the batch that is being granted; 0 = one is gathering
  TimePoint gathering_since{};    // the oldest of it
  admission::PoolShares shares;  // of tenants, in `plain` and `streamed`
  admission::LaneQueue plain;
  admission::LaneQueue streamed;
  admission::LaneQueue picky;
  admission::LaneQueue critical;
  admission::DrainRate drain;
  std::array<admission::OwnRate, kPriorityCount> own;  // of a priority, beside those that overtake it
  std::array<admission::UsualTime, kClassCount> first_event;  // kept where there are deadlines
  balancing::SpeedModel speed;
  balancing::SpeedClasses classes;
  TimePoint last_wait{};  // when somebody last waited here
  std::unique_ptr<balancing::Picker> orbit_picker;
  std::unique_ptr<balancing::Picker> http_picker;
  std::unique_ptr<admission::OverloadControl> overload;  // where the operator wants one
  TimePoint oldest = TimePoint::min();  // nobody whom it may end has waited for longer
};

class Core {
 public:
  explicit Core(std::uint64_t seed) : rng_(seed) {}
  ~Core();
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  // --- reload, in three steps: only `apply` needs the lock. A plan owns what a reload creates, and afterwards
  // what it took away.
  struct Plan {
    Policy policy;
    std::array<const BackendSpec*, kMaxBackends> spec{};  // by id; of the Setup, which must live until apply
    std::array<std::unique_ptr<Backend>, kMaxBackends> backend;
    std::array<std::unique_ptr<ClassSlots>, kMaxBackends> class_slots;
    std::array<std::unique_ptr<Pool>, kMaxPools> pool;
    std::array<bool, kMaxPools> pool_used{};
    std::array<bool, kMaxPools> batch{};
    std::array<BackendSet, kMaxPools> members{};
    std::array<std::unique_ptr<balancing::Picker>, kMaxPools> orbit_picker;
    std::array<std::unique_ptr<balancing::Picker>, kMaxPools> http_picker;
    std::array<std::unique_ptr<admission::OverloadControl>, kMaxPools> overload;
  };
  [[nodiscard]] BackendSet vacant() const;  // ids that a new backend may have
  [[nodiscard]] Result<Plan> prepare(const Setup& setup, BackendSet vacant, TimePoint now);
  void apply(Plan& plan, TimePoint now);

  // --- waiters
  Verdict enter(Waiter& w, const Ask& ask, TimePoint now);
  // It is queued, or was decided and not taken.
  void leave(Waiter& w, Cancelled why, TimePoint now);
  [[nodiscard]] QueuePlace place_of(const Waiter& w, TimePoint now);
  [[nodiscard]] bool try_retry(RequestClass c, TimePoint now);
  void free_retry();
  void drop_retry() { retries_.retry_ended(); }

  // --- tickets
  void head(Hold& hold, TimePoint now);
  void silence_may_have_ended(Backend& b, TimePoint now);
  void became_stream(Hold& hold) { limits_.became_stream(hold.limit); }
  void first_event(Hold& hold, balancing::Outcome verdict, TimePoint now);
  [[nodiscard]] bool became_tunnel(Hold& hold, TimePoint now);
  void finish(Hold& hold, balancing::Outcome outcome, TimePoint now, Duration retry_after, std::uint32_t tokens);

  // --- health and operator
  void on_probe(Backend& b, balancing::ProbeResult result, WorkerKind found, TimePoint now);
  void on_probe_timer(Backend& b, TimePoint now);
  void on_lag_sent(Backend& b, TimePoint now);
  void on_lag_probe(Backend& b, TimePoint sent, TimePoint now);
  void on_lag_unanswered(Backend& b, TimePoint sent, TimePoint now);
  void drain_backend(Backend& b, bool drain, TimePoint now);
  void set_draining(bool draining) { draining_ = draining; }
  bool set_paused(PoolId pool, bool paused, TimePoint now);
  void limit_backend(Backend& b, std::uint32_t slots, TimePoint now);  // 0 = none
  void eject_backend(Backend& b, Duration time, TimePoint now);
  void set_throttle(const admission::ThrottleOrders& orders, BackendSet hot, TimePoint now);
  [[nodiscard]] double standing_queue(TimePoint now) const { return throttle_.above_soft ? standing_.share(now) : 0; }

  // --- time
  void pump(TimePoint now);
  [[nodiscard]] TimePoint next_due() const { return due_; }
  // The newest time anybody has told. Time never goes back in here.
  [[nodiscard]] TimePoint now() const { return now_; }
  // Every 50 ms; touches only atomics, needs no lock but that no reload runs at the same time.
  void refresh_speeds(BackendSet eligible, TimePoint now) const;

  // --- what was decided
  IntrusiveList<admission::LaneTag>& decided() { return decided_; }

  // --- reading
  [[nodiscard]] Backend* find(BackendRef ref) const;
  [[nodiscard]] Backend* find(std::string_view name) const;
  [[nodiscard]] std::optional<PoolId> pool_id(std::string_view name) const;
  [[nodiscard]] WorkerKind pool_kind(PoolId id) const { return pools_[id] ? pools_[id]->kind : WorkerKind::unknown; }
  [[nodiscard]] BackendSet eligible() const { return up_ & ~shut_; }
  [[nodiscard]] bool busy(const Backend& b) const { return b.in_flight != 0 || b.critical != 0 || queue_.entries() != 0; }
  [[nodiscard]] std::uint64_t waiting() const { return queue_.entries(); }
  void copy_status(Status& out) const;
  // For tests: "" or what is wrong. Walks everything, every waiter included.
  [[nodiscard]] const char* check_at_rest();

 private:
  using LaneQueue = admission::LaneQueue;
  // What is free now, as far as slots, pace and slow start go.
  struct Free {
    BackendSet normal = 0;
    BackendSet critical = 0;
  };

  void tick(TimePoint now) { now_ = std::max(now_, now); }
  Waiter& waiter(admission::Waiting& w) const { return static_cast<Waiter&>(w); }

  // What may be used, and of that what can be now.
  [[nodiscard]] BackendSet usable(const Waiter& w) const;
  [[nodiscard]] bool hopeless(const Waiter& w) const;
  // core_throttle.cpp: where low priority may go, what stops a newcomer, how long those waited who got through.
  [[nodiscard]] BackendSet spare_for_low(BackendSet set) const;
  [[nodiscard]] bool throttled(const Waiter& w) const;
  void note_standing(const Waiter& w);
  // core_overload.cpp: a pool's own controller; each only where it has one.
  [[nodiscard]] static bool left_alone(const Waiter& w);
  [[nodiscard]] static bool may_expire(const Waiter& w);  // newest first may end it
  [[nodiscard]] bool refused_by_pool(const Waiter& w, Pool& pool, std::uint8_t cohort);
  [[nodiscard]] bool dropped_by_pool(const Waiter& w, Pool& pool);
  void let_in_by_pool(const Waiter& w, Pool& pool);
  void entered_queue(const Waiter& w, Pool& pool);
  void expire_oldest(Pool& pool);
  template <typename Accept>
  [[nodiscard]] admission::Waiting* newest_of(const LaneQueue& queue, Accept&& accept) const;
  [[nodiscard]] bool may_start_now(const Backend& b) const;
  [[nodiscard]] Free free_among(BackendSet set) const;
  [[nodiscard]] BackendSet free_slots(BackendSet set) const;
  [[nodiscard]] BackendSet free_critical(BackendSet set) const;
  [[nodiscard]] BackendSet startable(const Waiter& w, BackendSet usable, const Free& free);
  // Of `set`, what is left idle for this waiter's sake or for another's.
  [[nodiscard]] BackendSet held_back(const Waiter& w, BackendSet use, BackendSet set) const;
  [[nodiscard]] bool contended(const Pool& pool) const;
  void review_speeds();
  void note_wait(Pool& pool);
  Verdict pump_for(Waiter& w);
  [[nodiscard]] BackendSet fastest(const Pool& pool, BackendSet set) const;
  [[nodiscard]] BackendSet within_shares(RequestClass c, BackendSet set, BackendSet free) const;
  [[nodiscard]] bool batch_is_open(Pool& pool);
  void take_from_batch(Pool& pool);
  [[nodiscard]] bool within_limits(const Waiter& w) const {
    return w.critical_ || limits_.may_start(w.request_class, w.streamed);
  }
  [[nodiscard]] LaneQueue& queue_for(const Waiter& w) const;

  // The parts of a pump.
  struct Best {
    Waiter* waiter = nullptr;
    BackendSet startable = 0;
  };
  [[nodiscard]] Best best_waiter(const Free& free, BackendSet& wanted);
  void note_wanted(BackendSet wanted);

  // The life of a hold.
  void charge(Waiter& w);  // its tenant, for what is about to be granted
  void grant(Waiter& w, BackendSet candidates);
  [[nodiscard]] Backend* at_home(const Waiter& w, BackendSet candidates);
  [[nodiscard]] Backend& by_affinity(const Waiter& w, BackendSet candidates);
  // Where it prefers to be; null: the picker is asked.
  [[nodiscard]] Backend* preferred(const Waiter& w, BackendSet candidates);
  [[nodiscard]] Backend& choose(const Waiter& w, BackendSet candidates);
  void judge(Hold& hold, balancing::Outcome outcome, Duration retry_after);
  void judge_late(Hold& hold, balancing::Outcome outcome);
  [[nodiscard]] balancing::FailureWindow::Counts others_of(const Backend& b, balancing::BreakerEffect effect) const;
  void leave_start(Hold& hold);  // no longer starting
  void give_up_slot(Hold& hold);
  void undo(Hold& hold);         // granted, never used
  void settle(Hold& hold, std::uint32_t tokens, bool learn);

  void dequeue(Waiter& w);
  void decide(Waiter& w, bool granted);
  Verdict refuse(Waiter& w, Refused reason, bool at_door);
  [[nodiscard]] Duration usual_first_event(const Waiter& w, bool others_wait) const;
  [[nodiscard]] bool has_room(const Pool& pool, const Waiter& w) const;
  struct Ahead {
    std::uint64_t better = 0;  // all of better priority
    std::uint64_t equal = 0;   // of its own, as many as have their turns until it has its
  };
  [[nodiscard]] Ahead entries_ahead(const Pool& pool, const Waiter& w) const;
  [[nodiscard]] std::optional<Duration> estimate(const Waiter& w) const;
  [[nodiscard]] std::optional<Duration> estimate_in(const Pool& pool, const Waiter& w) const;
  [[nodiscard]] std::optional<double> drain_rate(const Pool& pool) const;
  void granted_from(Pool& pool, const Waiter& w);  // for both rates
  void refuse_all(LaneQueue& queue);
  void refuse_all(Pool& pool);
  void refuse_hopeless();

  // Backends and pools.
  void configure(Backend& b, const BackendSpec& spec);
  void set_kind(Backend& b, WorkerKind kind);
  [[nodiscard]] static std::uint32_t ceiling_of(const Backend& b);
  void set_http_slots(Backend& b);
  void set_class_slots(Backend& b);
  void update(Backend& b);  // its bits in the sets below
  void review();            // after any change of health, breaker or drain: panic, then who lost all hope
  void advance_breakers();
  void set_breaker_due();
  [[nodiscard]] bool may_open(const Backend& b) const;
  [[nodiscard]] balancing::PoolStanding standing_of(const Pool& pool) const;
  void update_kinds();

  template <typename F>
  void for_each(BackendSet set, F&& f) const {
    for (; set != 0; set &= set - 1) f(*backends_[static_cast<std::size_t>(std::countr_zero(set))]);
  }

  Rng rng_;
  TimePoint now_{};
  TimePoint due_ = kNever;
  TimePoint breaker_due_ = kNever;
  TimePoint speeds_due_ = kNever;  // next review of who is slow; kNever where nobody has waited for long
  TimePoint last_wait_{};          // when somebody last waited anywhere
  Policy policy_;
  bool draining_ = false;
  bool bounded_starts_ = false;
  bool has_floors_ = false;
  bool has_shares_ = false;  // floors or ceilings
  bool has_controllers_ = false;  // some pool has one

  BackendSet present_ = 0;    // in the configuration
  BackendSet up_ = 0;         // health and operator let it have new tickets
  BackendSet reachable_ = 0;  // health does: what pinned asks need
  BackendSet unprobed_ = 0;
  BackendSet shut_ = 0;       // breaker open
  BackendSet judging_ = 0;    // breaker half-open
  BackendSet admitting_ = 0;  // breaker lets one more in
  BackendSet pinned_ = 0;     // somebody waits there
  BackendSet hot_ = 0;        // short of CPU or memory: only where nothing else is free, and never for low priority
  BackendSet slow_ = 0;       // slower than the fastest of its pool, by the last review

  admission::QueueBudget queue_;
  admission::Accounts tenants_;
  admission::ClassLimits limits_{admission::ClassLimitValues{}};
  balancing::RetryBudget retries_;
  std::array<std::unique_ptr<Backend>, kMaxBackends> backends_;
  std::array<std::unique_ptr<Pool>, kMaxPools> pools_;
  std::array<std::uint16_t, kMaxBackends> generations_{};
  std::uint32_t next_pool_ = 0;
  admission::ThrottleOrders throttle_;
  admission::StandingQueue standing_;
  IntrusiveList<admission::LaneTag> decided_;
  std::array<balancing::Candidate, kMaxBackends> candidates_;  // scratch of choose(): too long to clear each time
  std::array<balancing::Rendezvous, kMaxBackends> preferences_;

  std::uint32_t since_aged_ = 1000;  // grants to waiters since the last that had aged
  std::uint64_t in_flight_ = 0;  // all tickets, tunnels left out
  std::uint64_t grants_ = 0;
  std::uint64_t waits_ = 0;
  std::uint64_t cancelled_ = 0;
  std::uint64_t retried_ = 0;
  std::uint64_t retries_denied_ = 0;
  std::array<std::uint64_t, kRefusedCount> refused_at_door_{};
  std::array<std::uint64_t, kRefusedCount> refused_waiting_{};
};

}  // namespace perigee::dispatch
