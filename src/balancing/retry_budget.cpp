// Ten buckets of a second per class, as counts: exact, and a quiet minute costs ten stores.
#include "perigee/balancing/retry_budget.h"

#include <algorithm>

namespace perigee::balancing {

RetryBudgetOptions default_retry_budget() {
  RetryBudgetOptions options;
  options.share.fill(0.10);
  options.share[static_cast<std::size_t>(RequestClass::chat)] = 0.05;
  return options;
}

RetryBudget::RetryBudget(const RetryBudgetOptions& options) : options_(options) {}

RetryBudget::Window& RetryBudget::at(RequestClass c, TimePoint now) {
  Window& w = windows_[static_cast<std::size_t>(c)];
  const std::int64_t second = std::chrono::floor<std::chrono::seconds>(now.time_since_epoch()).count();
  if (second - w.second >= static_cast<std::int64_t>(kSeconds)) {
    w = {};
    w.second = second;
  }
  while (w.second < second) {
    ++w.second;
    const auto bucket = static_cast<std::size_t>(w.second) % kSeconds;
    w.request_sum -= w.requests[bucket];
    w.retry_sum -= w.retries[bucket];
    w.requests[bucket] = 0;
    w.retries[bucket] = 0;
  }
  return w;
}

double RetryBudget::left(const Window& w, RequestClass c) const {
  return options_.share[static_cast<std::size_t>(c)] * static_cast<double>(w.request_sum) +
         options_.per_second * static_cast<double>(kSeconds) - static_cast<double>(w.retry_sum);
}

void RetryBudget::on_request(RequestClass c, TimePoint now) {
  Window& w = at(c, now);
  ++w.requests[static_cast<std::size_t>(w.second) % kSeconds];
  ++w.request_sum;
}

bool RetryBudget::try_retry(RequestClass c, std::size_t active, TimePoint now) {
  const double most = std::max(static_cast<double>(options_.in_flight_min),
                               options_.in_flight_share * static_cast<double>(active));
  if (static_cast<double>(in_flight_) + 1.0 > most) return false;
  Window& w = at(c, now);
  if (left(w, c) < 1.0) return false;
  ++w.retries[static_cast<std::size_t>(w.second) % kSeconds];
  ++w.retry_sum;
  ++in_flight_;
  return true;
}

void RetryBudget::retry_ended() {
  if (in_flight_ > 0) --in_flight_;
}

double RetryBudget::balance(RequestClass c, TimePoint now) { return left(at(c, now), c); }

}  // namespace perigee::balancing
