// What is known of a backend's load: exact counts, and a learned speed.
//
// BackendLoad counts tickets per class before their first event, and streams after it. SpeedModel learns,
// from the times to first event, how fast each backend is beside its pool: 1 = as the pool's mean. The
// product of both is the expected time to first event, which the least_loaded picker minimises: a stream
// that merely drips tokens is not work, a request that waits for its first event is.
//
// Threads: everything here is guarded by the dispatcher's lock, except SpeedModel::refresh(), which runs
// outside of it every 50 ms: it touches only the atomics of a BackendLoad and does the exp() of decisions.
// Nothing allocates. The caller keeps a BackendLoad alive while a refresh() may see it.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "perigee/base/time.h"
#include "perigee/base/vocabulary.h"

namespace perigee::balancing {

// Bound of every per-pool table in this room; a Candidate's `backend` is below it.
inline constexpr std::size_t kMaxBackends = 256;

// What one exchange costs its backend before its first event, in units of a plain request.
struct CostModel {
  std::array<double, kClassCount> weight{};          // of class c; > 0
  std::array<double, kClassCount> bytes_per_unit{};  // body bytes that cost one unit more; 0 = bytes are free
  double after_head = 1.0;                           // share left once a streamed answer's head came; 0 … 1
  double stream = 0.0;                               // β: of a stream after its first event; ≥ 0
  // Cost of a request of class c with that many body bytes, at most kMaxCost.
  [[nodiscard]] double of(RequestClass c, std::uint64_t body_bytes) const;
};
inline constexpr double kMaxCost = 64.0;

// Defaults, settled by the simulations in tests/balancing/.
CostModel orbit_costs();
CostModel waiting_costs();  // workers that only wait for somebody else's answer

// The part of a backend's load that belongs to one ticket. Lives in the ticket; empty before begin() and
// after end(). While it is not empty it must not be copied elsewhere and ended twice.
struct LoadShare {
  enum class Phase : std::uint8_t { none, pending, headed, streaming };
  RequestClass request_class = RequestClass::other;
  Phase phase = Phase::none;
  std::uint32_t cost = 0;  // in 1/1024 units: integers add and subtract exactly
};

class BackendLoad {
 public:
  BackendLoad() = default;
  BackendLoad(const BackendLoad&) = delete;
  BackendLoad& operator=(const BackendLoad&) = delete;

  // At the decision to dispatch, not at the connect.
  [[nodiscard]] LoadShare begin(RequestClass c, double cost);
  // Its head came, before its first event (a streamed answer): `left` of its cost remains, 0 … 1. Only the
  // first call counts.
  void head(LoadShare& share, double left);
  // Its first event came: from here it counts as a stream. A second call does nothing.
  void first_event(LoadShare& share);
  // However it ended. A second call does nothing. A tunnel keeps its share as a stream while it lives.
  void end(LoadShare& share);

  [[nodiscard]] std::uint32_t pending(RequestClass c) const { return pending_[static_cast<std::size_t>(c)]; }
  [[nodiscard]] std::uint32_t pending() const { return pending_total_; }
  [[nodiscard]] std::uint32_t streams() const { return streams_; }
  [[nodiscard]] std::uint32_t in_flight() const { return pending_total_ + streams_; }
  // Σ cost of the pending + β · streams.
  [[nodiscard]] double work(double beta) const {
    return static_cast<double>(pending_cost_) * (1.0 / kCostScale) + beta * static_cast<double>(streams_);
  }
  // Expected time to first event beside the pool's mean, as of the last refresh(); > 0. Any thread.
  [[nodiscard]] double slowness() const { return slowness_.load(std::memory_order_relaxed); }
  // Time of the last sample or penalty; TimePoint::min() before the first. Any thread.
  [[nodiscard]] TimePoint last_sample() const {
    return TimePoint(Duration(stamp_.load(std::memory_order_relaxed)));
  }

  static constexpr double kCostScale = 1024.0;

 private:
  friend class SpeedModel;
  static constexpr std::int64_t kUnsampled = Duration::min().count();

  std::array<std::uint32_t, kClassCount> pending_{};
  std::uint32_t pending_total_ = 0;
  std::uint32_t streams_ = 0;
  std::int64_t pending_cost_ = 0;
  std::atomic<double> learned_{1.0};             // EWMA as of stamp_
  std::atomic<std::int64_t> stamp_{kUnsampled};  // ns
  std::atomic<double> slowness_{1.0};            // learned_, decayed towards the median
};

struct SpeedOptions {
  Duration decay = std::chrono::seconds(10);  // τ: after 3 τ of silence an estimate is all but forgotten
  Duration penalty = std::chrono::seconds(5);       // what a failure counts as
  Duration penalty_max = std::chrono::seconds(300);  // bound of a worker's own Retry-After
};

// One per pool. Time-to-first-event samples are divided by the mean of their class over the pool, so that
// a backend that happens to serve chats does not look slow beside one that serves searches.
class SpeedModel {
 public:
  explicit SpeedModel(SpeedOptions options = {}) : options_(options) {}

  // Under the lock. `first_event`: dispatch → first event, one attempt.
  void sample(BackendLoad& load, RequestClass c, Duration first_event, TimePoint now);
  // Under the lock. An outcome whose verdict is SpeedEffect::penalty; `retry_after` 0 when none was sent.
  void failure(BackendLoad& load, RequestClass c, Duration retry_after, TimePoint now);

  // One backend of the pool, as refresh() looks at it.
  struct Member {
    BackendLoad* load;
    bool eligible;  // the median is taken over these
  };
  // Outside the lock, every 50 ms, one thread at a time; at most kMaxBackends members. Decays every
  // estimate towards the pool's median, so that a backend that was slow once and has got no traffic since
  // is tried again, and not with a burst; one without samples has the median itself.
  void refresh(std::span<const Member> members, TimePoint now) const;
  // Under the lock: the pool's mean time to first event of a class, over about its last hundred.
  [[nodiscard]] Duration mean(RequestClass c) const;  // 0 = no sample yet
  // Under the lock, and not while a refresh() runs.
  void configure(SpeedOptions options) { options_ = options; }

 private:
  struct Mean {
    double seconds = 0.0;
    std::uint32_t samples = 0;
  };
  void learn(BackendLoad& load, double value, TimePoint now) const;

  SpeedOptions options_;
  std::array<Mean, kClassCount> means_{};
};

}  // namespace perigee::balancing
