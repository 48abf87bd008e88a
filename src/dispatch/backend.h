// One worker as the dispatcher knows it: what it is, what runs there, and the policies that judge it.
//
// Plain members: Core is the only one who changes them, under the dispatcher's lock. Two atomics are for the
// loops, which watch for stalls without it. The object stays where it is for as long as a ticket refers to it.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include "perigee/admission/first_event_limit.h"
#include "perigee/admission/head_lag.h"
#include "perigee/admission/lanes.h"
#include "perigee/balancing/backend_load.h"
#include "perigee/balancing/breaker.h"
#include "perigee/balancing/health_state.h"
#include "perigee/balancing/holding.h"
#include "perigee/balancing/slow_start.h"
#include "perigee/balancing/rendezvous.h"
#include "perigee/dispatch/dispatcher.h"
#include "start_window.h"

namespace perigee::dispatch {

// Slots of classes whose work is alike, found from its times: for ORBIT workers, beside those that head lag steers.
struct ClassSlots {
  // Chats are steered by head lag; of the others no class is taken whose times say nothing of the worker.
  static constexpr bool steers(RequestClass c) {
    return c == RequestClass::embeddings || c == RequestClass::search || c == RequestClass::files;
  }
  void begin(std::uint32_t most, TimePoint now) {
    admission::FirstEventLimitConfig config;
    config.most = most;
    for (std::size_t c = 0; c < kClassCount; ++c) {
      if (steers(static_cast<RequestClass>(c))) of[c].emplace(config, now);
    }
  }
  void set_most(std::uint32_t most) {
    for (auto& limit : of) {
      if (limit) limit->configure(most, Duration::zero());
    }
  }
  std::array<std::optional<admission::FirstEventLimit>, kClassCount> of;
};

struct Backend {
  Backend(BackendIdentity who, const BackendSpec& wanted, const Policy& policy, admission::QueueBudget& budget,
          TimePoint now)
      : identity(std::move(who)), spec(wanted), health(now, policy.health), breaker(policy.breaker),
        lag(admission::HeadLag::fixed(0)), slow(policy.slow_start), pinned_plain(budget), pinned_streamed(budget),
        pinned_critical(budget) {}

  [[nodiscard]] BackendSet bit() const { return BackendSet{1} << identity.ref.id; }
  // No ticket and no waiter knows it: the object may go.
  [[nodiscard]] bool idle() const { return in_flight == 0 && critical == 0 && tunnels == 0 && pinned_waiting() == 0; }
  // nullptr: this class has none of its own here.
  [[nodiscard]] admission::FirstEventLimit* limit_of(RequestClass c) const {
    if (class_slots == nullptr) return nullptr;
    auto& own = class_slots->of[static_cast<std::size_t>(c)];
    return own ? &*own : nullptr;
  }
  [[nodiscard]] std::uint32_t pinned_waiting() const {
    return pinned_plain.size() + pinned_streamed.size() + pinned_critical.size();
  }

  const BackendIdentity identity;
  const std::uint64_t affinity_id = balancing::rendezvous_id(identity.name);
  BackendSpec spec;
  WorkerKind kind = WorkerKind::unknown;
  PoolId home = 0;          // the last pool it is in: the one whose mean its speed is compared with
  bool removed = false;
  std::uint32_t slots_limit = 0;  // by the operator, at run time; 0 = none
  bool slow_starting = false;
  bool late = false;        // was added while others served

  balancing::HealthState health;
  balancing::Breaker breaker;
  admission::HeadLag lag;
  std::optional<admission::FirstEventLimit> limit;  // not ORBIT, and its slots are to be found: moves those of `lag`
  std::unique_ptr<ClassSlots> class_slots;          // where the operator wants them
  balancing::SlowStart slow;
  balancing::BackendLoad load;
  balancing::ServiceSpeed service;  // how slow it is where exchanges wait
  std::array<StartWindow, kStartPoolCount> starts;

  std::uint32_t in_flight = 0;  // tickets, without the critical lane's
  std::uint32_t starting = 0;   // of these, before their first event
  std::uint32_t streams = 0;    // of these, streams after it
  std::uint32_t critical = 0;
  std::uint32_t tunnels = 0;
  std::array<std::uint32_t, kClassCount> by_class{};
  std::uint64_t grants = 0;
  std::uint64_t failures = 0;

  admission::LaneQueue pinned_plain;
  admission::LaneQueue pinned_streamed;
  admission::LaneQueue pinned_critical;

  std::atomic<TimePoint::rep> last_byte{0};     // newest read from it, on any loop
  std::atomic<std::uint32_t> chats_running{0};  // streamed chats in flight
};

}  // namespace perigee::dispatch
