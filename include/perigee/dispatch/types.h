// What goes into the dispatcher and what it says back: plain values.
//
// A pool is a set of backends that can serve the same requests; a backend may be in several pools. Its
// id is an index that stays with it for as long as anything may refer to it; `generation` tells two
// backends apart that had the same id one after the other.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "perigee/admission/class_limits.h"
#include "perigee/admission/head_lag.h"
#include "perigee/admission/lanes.h"
#include "perigee/admission/overload.h"
#include "perigee/balancing/backend_load.h"
#include "perigee/balancing/breaker.h"
#include "perigee/balancing/health_state.h"
#include "perigee/balancing/holding.h"
#include "perigee/balancing/retry_budget.h"
#include "perigee/balancing/slow_start.h"
#include "perigee/base/time.h"
#include "perigee/base/vocabulary.h"

namespace perigee::dispatch {

inline constexpr std::size_t kMaxBackends = 64;
inline constexpr std::size_t kMaxPools = 16;
inline constexpr std::size_t kMaxLoops = 32;
inline constexpr std::size_t kMaxNameBytes = 128;     // of a backend or pool
inline constexpr std::size_t kMaxAddressBytes = 256;
inline constexpr std::uint32_t kUnbounded = 0xFFFFFFFF;

using BackendId = std::uint16_t;
using PoolId = std::uint16_t;
inline constexpr BackendId kNoBackend = 0xFFFF;
using BackendSet = std::uint64_t;  // bit = BackendId
static_assert(kMaxBackends <= 64);

struct BackendRef {
  BackendId id = kNoBackend;
  std::uint16_t generation = 0;
  [[nodiscard]] bool exists() const { return id != kNoBackend; }
  bool operator==(const BackendRef&) const = default;
};

// The exchanges that use one thread pool of an ORBIT worker share one bound of *starting* ones.
enum class StartPool : std::uint8_t { inference, embedding, io, db, cpu };
inline constexpr std::size_t kStartPoolCount = 5;
// kStartPoolCount = the class uses none.
constexpr std::size_t start_pool_of(RequestClass c) {
  switch (c) {
    case RequestClass::chat: return static_cast<std::size_t>(StartPool::inference);
    case RequestClass::embeddings: return static_cast<std::size_t>(StartPool::embedding);
    case RequestClass::files: return static_cast<std::size_t>(StartPool::io);
    case RequestClass::search: return static_cast<std::size_t>(StartPool::cpu);
    case RequestClass::admin:
    case RequestClass::a2a:
    case RequestClass::mcp: return static_cast<std::size_t>(StartPool::db);
    case RequestClass::health:
    case RequestClass::voice:
    case RequestClass::other: break;
  }
  return kStartPoolCount;
}

// --- what the operator wrote -----------------------------------------------------------------------------

struct BackendSpec {
  std::string name;                       // unique; what a reload matches by
  std::string address;                    // as text, for the proxy; a new address under an old name is a new backend
  double weight = 1.0;                    // > 0
  WorkerKind kind = WorkerKind::unknown;  // unknown = what its first probe finds
  std::uint32_t orbit_ceiling = 100;      // most slots as an ORBIT worker: min(hard limit, provider connections)
  std::uint32_t http_slots = 1024;        // slots as any other worker, or most slots where these are adaptive
};

struct PoolSpec {
  std::string name = "default";         // unique; a reload keeps its PoolId
  std::vector<std::uint32_t> backends;  // indices into Setup::backends
  admission::OverloadKind overload = admission::OverloadKind::none;
  bool batch = false;                   // grants are made in batches: Policy::batch_size, batch_timeout
};

// Bounds of the whole sidecar and rules for all backends.
struct Policy {
  admission::ClassLimitValues limits = admission::ClassLimitValues::defaults(WorkerKind::orbit);
  admission::QueueBounds queue;
  admission::HeadLagConfig head_lag;  // `ceiling` is each backend's own
  bool steered = true;                // false: ORBIT workers keep the pace and slots they start with
  bool class_adaptive = false;        // classes of work that is alike have slots of their own on ORBIT workers
  bool http_adaptive = false;         // slots of other workers follow their times to the first event
  Duration http_objective{0};         // of that time, until it was measured; 0 = unknown
  std::string picker = "least_loaded";  // a name of balancing::picker_names()
  balancing::CostModel orbit_costs = balancing::orbit_costs();    // in pools with an ORBIT backend
  balancing::CostModel http_costs = balancing::waiting_costs();   // in others
  balancing::SpeedOptions speed;
  balancing::HoldOptions hold;
  double affinity_bound = 1.5;        // how much busier than its share a preferred backend may be; >= 1
  balancing::SlowStartOptions slow_start;
  balancing::BreakerOptions breaker;
  balancing::HealthOptions health;
  balancing::RetryBudgetOptions retries = balancing::default_retry_budget();
  std::array<std::uint32_t, kStartPoolCount> starting = {kUnbounded, kUnbounded, kUnbounded, kUnbounded, kUnbounded};
  std::array<double, kClassCount> floors{};  // of each backend's slots, 0 … 1: admission::floor_of
  std::array<std::uint32_t, kClassCount> ceilings = admission::ClassLimitValues::unlimited();  // of a backend
  std::uint32_t batch_size = 10;      // in batch pools: so many wait, or the oldest …
  Duration batch_timeout = std::chrono::milliseconds(100);  // … has waited for so long
  bool deadlines = false;             // asks may have one: times to first event are kept for them
  bool tenant_turns = true;           // waiting tenants take fair turns; false: arrival order whoever asks
  std::uint32_t critical_slots = 4;   // a backend's own for the critical lane, outside `slots`
  std::uint32_t tunnels = 1000;       // a backend
};

struct Setup {
  std::vector<BackendSpec> backends;  // at most kMaxBackends
  std::vector<PoolSpec> pools;        // at least one, at most kMaxPools
  Policy policy;
};

// --- what a request asks for -------------------------------------------------------------------------------

struct Ask {
  PoolId pool = 0;
  RequestClass request_class = RequestClass::other;
  Priority priority = Priority::normal;
  bool critical_lane = false;  // health, metrics, stop …: outside `slots`, `pace` and the class limits
  bool streamed = false;       // known before dispatch
  bool retry = false;          // a later attempt: let in while draining, and whatever the queue's bounds say
  BackendRef pinned;           // this backend and no other: waits on its own lane, whatever its breaker says
  BackendSet excluded = 0;     // where earlier attempts failed; left out while there is another one
  std::uint64_t arrival = 0;   // 0, or Waiter::arrival_number() of the first attempt: its place in the queue
  std::uint64_t body_bytes = 0;  // held in memory while it waits; also the size of the work
  Duration queue_wait = std::chrono::seconds(10);  // longest wait of this attempt
  std::uint8_t cohort = 0;  // hash of who asks and the hour; only a pool with a `pi` controller looks at it
  TimePoint deadline = kNever;   // after it the answer is of no use: the client's, where believed, or the class's
  std::uint64_t tenant = 0;      // whose request it is (a keyed hash); all without one are one tenant
  double tenant_weight = 1.0;    // its share beside other tenants; > 0
  // The backend that it would rather have; or where none is named a hash of what it would rather share one with (a
  // session, a prompt's beginning; 0 = nothing). Preferences among those that can take it now: nobody waits for them.
  BackendRef home;
  std::uint64_t affinity = 0;
  bool in_line = false;  // it waited for something else before it could ask: let in though draining has begun meanwhile
};

enum class Verdict : std::uint8_t {
  granted,  // take() the ticket
  waiting,  // Waiter's wake function will be called, once, from LoopPort::deliver
  refused,  // see Waiter::refusal()
};

// The dispatcher's part of the closed set of reasons a client sees.
enum class Refused : std::uint8_t {
  queue_full,     // bounds of entries or bytes
  queue_timeout,  // would wait, or has waited, longer than it may
  no_backend,     // none is up
  draining,
  throttled,      // the machine is short of CPU or memory, and others matter more; or a controller of the pool said no
};
inline constexpr std::size_t kRefusedCount = 5;
inline constexpr std::array<std::string_view, kRefusedCount> kRefusedNames = {"queue_full", "queue_timeout", "no_backend",
                                                                              "draining", "throttled"};
constexpr std::string_view to_string(Refused r) { return kRefusedNames[static_cast<std::size_t>(r)]; }

struct Refusal {
  Refused reason = Refused::no_backend;
  bool at_door = false;              // refused on arrival, not after a wait
  std::uint16_t retry_after_s = 1;   // 1 … 90, jittered
};

// Where somebody stands who waits. With tenants' turns it is what it comes to if all of them stay; who comes later with
// a better priority, or has waited too long to be let by, may still change it.
struct QueuePlace {
  bool waits = false;
  std::uint32_t position = 0;             // 1 = next
  std::optional<Duration> wait = {};      // where the pool's drain rate is known
};

enum class Cancelled : std::uint8_t {
  client_gone,
  queue_timeout,  // the waiter's own timer fired; Waiter::refusal() then says the same
  shutdown,
};

// --- what happened, copied for the admin API and metrics -----------------------------------------------------

struct BackendStatus {
  BackendRef ref;
  std::string name;
  std::string address;
  WorkerKind kind = WorkerKind::unknown;
  double weight = 1;
  bool probed = false;        // its first probe was answered
  bool up = false;            // health lets it have new tickets
  bool draining = false;      // by the operator
  bool removed = false;       // gone from the configuration, its last exchanges are running out
  bool hot = false;           // its process is short of CPU or memory
  std::uint32_t slots_limit = 0;  // by the operator, at run time; 0 = none
  std::string_view health;    // static storage
  std::string_view breaker;   // static storage
  std::uint32_t trials = 0;   // half-open trials under way
  std::uint32_t in_flight = 0;  // tickets, critical's own left out
  std::uint32_t starting = 0;   // of these, before their first event
  std::uint32_t streams = 0;    // of these, streams after it
  std::uint32_t critical = 0;
  std::uint32_t tunnels = 0;
  std::array<std::uint32_t, kClassCount> by_class{};  // in_flight by class
  std::array<std::uint32_t, kClassCount> class_slots{};  // of classes that have their own; 0 = none
  std::uint32_t slots = 0;
  std::uint32_t slots_ceiling = 0;
  double base_seconds = 0;    // where slots follow the first event: what it takes with little to do; 0 = unknown
  double pace = 0;            // starts a second; 0 = not paced
  double lag_seconds = 0;     // newest sample
  std::uint64_t stalls = 0;
  std::uint64_t slot_cuts = 0;
  std::uint64_t pace_cuts = 0;
  std::uint64_t grants = 0;
  std::uint64_t failures = 0;  // outcomes that its breaker counted as such
  std::uint64_t breaker_opened = 0;
  double slowness = 1;         // learnt time to first event beside its pool; 1 = usual
  std::uint32_t speed = 1;     // 2, 4 …: so many times slower than the fastest, while exchanges wait; may be held
  double ramp = 1;             // slow start: its share of its weight
};

struct PoolStatus {
  PoolId id = 0;
  std::string name;
  WorkerKind kind = WorkerKind::unknown;
  std::uint32_t eligible = 0;
  std::uint32_t unprobed = 0;
  std::uint32_t waiting = 0;
  std::uint32_t tenants_waiting = 0;  // at the priority where most wait
  std::array<double, kPriorityCount> wait_seconds{};  // a newcomer's, of a tenant of its own; -1 = unknown
  bool batch = false;
  double drain_per_second = -1;  // -1 = unknown
  bool panic = false;            // most are out: breakers let trials through
  bool paused = false;
  admission::OverloadKind overload = admission::OverloadKind::none;
  bool overloaded = false;       // by its controller's measure
  double refused_share = 0;      // of a `pi` controller
};

struct Status {
  std::vector<BackendStatus> backends;
  std::vector<PoolStatus> pools;
  bool draining = false;
  std::array<std::array<std::uint32_t, kPriorityCount>, kClassCount> waiting{};  // all queues
  std::uint32_t waiting_critical = 0;                                            // the critical lane
  std::uint64_t waiting_bytes = 0;
  std::uint32_t streams = 0;
  std::array<std::uint32_t, kClassCount> before_first_event{};
  std::uint64_t grants = 0;
  std::uint64_t waits = 0;  // asks that had to wait
  std::array<std::uint64_t, kRefusedCount> refused_at_door{};
  std::array<std::uint64_t, kRefusedCount> refused_waiting{};
  std::uint64_t cancelled = 0;  // clients that left while they waited
  std::uint64_t retries = 0;
  std::uint64_t retries_denied = 0;  // by the budget
  std::uint64_t locks = 0;
  std::uint64_t locks_contended = 0;
};

}  // namespace perigee::dispatch
