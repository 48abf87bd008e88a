// How many retries a pool may see: a share of its recent requests, and a share of what runs now.
//
// Retries are the way in which a small outage becomes a big one: three layers that each try three times
// send 27 requests for one. Two bounds hold together: retries of a class within 10 s ≤ 10 % of its
// requests in these 10 s + 1/s (5 % for chat), as in finagle's and tower's budgets; and retries in flight
// ≤ max(20 % of the exchanges in flight, 3), as in Envoy. Hedges, when they come, draw on the same budget.
//
// Pure, and guarded by the dispatcher's lock like the rest of a pool's state: it is asked only after a
// failure, and told of each request where the lock is held anyway. No allocation.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "perigee/base/time.h"
#include "perigee/base/vocabulary.h"

namespace perigee::balancing {

struct RetryBudgetOptions {
  std::array<double, kClassCount> share{};  // of recent requests, 0 … 1
  double per_second = 1.0;                  // on top, per class; ≥ 0
  double in_flight_share = 0.2;
  std::uint32_t in_flight_min = 3;
};
RetryBudgetOptions default_retry_budget();  // share .10, chat .05

class RetryBudget {
 public:
  explicit RetryBudget(const RetryBudgetOptions& options = default_retry_budget());

  // A first attempt was dispatched. (Retries are no deposits: else they would pay for each other.)
  void on_request(RequestClass c, TimePoint now);
  // May a retry of this class start, with so many exchanges in flight or waiting in the pool? True = it is
  // spent and counts as running until retry_ended().
  [[nodiscard]] bool try_retry(RequestClass c, std::size_t active, TimePoint now);
  // A retry of something of which nothing was sent: no worker does it twice, so it costs nothing; it only
  // counts as running until retry_ended().
  void free_retry() { ++in_flight_; }
  void retry_ended();

  [[nodiscard]] std::uint32_t retries_in_flight() const { return in_flight_; }
  // Retries of this class that would be granted now by rate alone; for status pages.
  [[nodiscard]] double balance(RequestClass c, TimePoint now);
  void configure(const RetryBudgetOptions& options) { options_ = options; }

 private:
  static constexpr std::size_t kSeconds = 10;
  struct Window {
    std::array<std::uint32_t, kSeconds> requests{};
    std::array<std::uint32_t, kSeconds> retries{};
    std::uint64_t request_sum = 0;
    std::uint64_t retry_sum = 0;
    std::int64_t second = 0;  // absolute, of the newest bucket
  };
  Window& at(RequestClass c, TimePoint now);
  [[nodiscard]] double left(const Window& w, RequestClass c) const;

  RetryBudgetOptions options_;
  std::array<Window, kClassCount> windows_{};
  std::uint32_t in_flight_ = 0;
};

}  // namespace perigee::balancing
