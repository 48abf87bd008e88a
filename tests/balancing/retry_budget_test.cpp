#include "perigee/balancing/retry_budget.h"

#include <doctest/doctest.h>

#include "perigee/base/random.h"

using namespace perigee;
using namespace perigee::balancing;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr auto kChat = RequestClass::chat;
constexpr auto kSearch = RequestClass::search;
constexpr std::size_t kMany = 1'000'000;

int retries_granted(RetryBudget& budget, RequestClass c, TimePoint now) {
  int n = 0;
  while (budget.try_retry(c, kMany, now)) {
    budget.retry_ended();
    ++n;
  }
  return n;
}

}  // namespace

TEST_CASE("a thousand requests that all fail: a tenth of them is retried, and the reserve") {
  const TimePoint now(seconds(100));
  RetryBudget budget;
  for (int i = 0; i < 1000; ++i) budget.on_request(kSearch, now);
  CHECK(budget.balance(kSearch, now) == doctest::Approx(110));
  CHECK(retries_granted(budget, kSearch, now) == 110);
  for (int i = 0; i < 1000; ++i) budget.on_request(kChat, now);
  CHECK(retries_granted(budget, kChat, now) == 60);  // 5 %, its own reserve
}

TEST_CASE("an idle pool may still retry: one a second") {
  RetryBudget budget;
  TimePoint now(seconds(100));
  int granted = 0;
  for (int s = 0; s < 100; ++s, now += seconds(1)) granted += retries_granted(budget, kChat, now);
  CHECK(granted == 100);
}

TEST_CASE("deposits and withdrawals are forgotten after ten seconds") {
  RetryBudget budget;
  const TimePoint start(seconds(100));
  for (int i = 0; i < 1000; ++i) budget.on_request(kSearch, start);
  CHECK(budget.balance(kSearch, start + milliseconds(9999)) == doctest::Approx(110));
  CHECK(budget.balance(kSearch, start + seconds(10)) == doctest::Approx(10));
  CHECK(retries_granted(budget, kSearch, start + seconds(10)) == 10);
  CHECK(budget.balance(kSearch, start + seconds(19)) == doctest::Approx(0));
  CHECK(budget.balance(kSearch, start + seconds(20)) == doctest::Approx(10));
  CHECK(budget.balance(kSearch, start + seconds(100000)) == doctest::Approx(10));
}

TEST_CASE("retries at once: a fifth of what is active, three at least") {
  const TimePoint now(seconds(100));
  RetryBudget budget;
  for (int i = 0; i < 3; ++i) CHECK(budget.try_retry(kSearch, 0, now));
  CHECK_FALSE(budget.try_retry(kSearch, 0, now));
  CHECK_FALSE(budget.try_retry(kChat, 19, now));
  CHECK(budget.try_retry(kChat, 20, now));
  CHECK_FALSE(budget.try_retry(kChat, 20, now));
  budget.retry_ended();
  CHECK(budget.try_retry(kChat, 20, now));
  CHECK(budget.retries_in_flight() == 4);
  for (int i = 0; i < 10; ++i) budget.retry_ended();
  CHECK(budget.retries_in_flight() == 0);
}

TEST_CASE("a refusal costs nothing") {
  const TimePoint now(seconds(100));
  RetryBudget budget;
  for (int i = 0; i < 3; ++i) CHECK(budget.try_retry(kSearch, 0, now));
  for (int i = 0; i < 100; ++i) CHECK_FALSE(budget.try_retry(kSearch, 0, now));
  CHECK(budget.balance(kSearch, now) == doctest::Approx(7));
}

TEST_CASE("what was never sent is tried again whatever the budget says") {
  const TimePoint now(seconds(100));
  RetryBudget budget;
  for (int i = 0; i < 100; ++i) budget.free_retry();
  CHECK(budget.retries_in_flight() == 100);
  for (int i = 0; i < 100; ++i) budget.retry_ended();
  CHECK(budget.balance(kSearch, now) == doctest::Approx(10));
}

TEST_CASE("within any ten seconds the share holds") {
  Rng rng(42);
  RetryBudget budget;
  TimePoint now(seconds(5));
  int requests = 0;
  int retries = 0;
  for (int i = 0; i < 100000; ++i) {
    now += from_seconds(rng.exponential(0.01));
    budget.on_request(kSearch, now);
    ++requests;
    if (budget.try_retry(kSearch, kMany, now)) {
      budget.retry_ended();
      ++retries;
    }
  }
  const double run = to_seconds(now - TimePoint(seconds(5)));
  CHECK(retries <= 0.10 * requests + run + 10);
  CHECK(retries >= 0.9 * (0.10 * requests + run));
}
