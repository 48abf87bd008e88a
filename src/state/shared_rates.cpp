// See shared_rates.h.
#include "perigee/state/shared_rates.h"

#include <algorithm>
#include <utility>

namespace perigee::state {

using coro::Task;

namespace {

// ARGV: mode, then cost and tolerance of each key, in microseconds. Answer: allowed, then of each key the time until it
// is whole again (after this request, if it was allowed). Numbers in Lua are doubles: microseconds since 1970 fit.
constexpr const char* kScript = R"(
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local out = {1}
local tats, nexts = {}, {}
for i = 1, #KEYS do
  local tat = tonumber(redis.call('GET', KEYS[i]) or '0') or 0
  if tat < now then tat = now end
  local cost, tolerance = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local next = tat + cost
  if ARGV[1] == 'settle' then
    if next > now + 10 * tolerance then next = now + 10 * tolerance end
    if next < now then next = now end
  elseif cost > 0 and next - tolerance > now then
    out[1] = 0
  end
  tats[i], nexts[i] = tat, next
end
for i = 1, #KEYS do
  local to = tats[i]
  if out[1] == 1 then
    to = nexts[i]
    if to > now then
      redis.call('SET', KEYS[i], string.format('%.0f', to), 'PX', math.ceil((to - now) / 1000) + 1)
    else
      redis.call('DEL', KEYS[i])
    end
  end
  out[i + 1] = to - now
end
return out
)";

std::int64_t microseconds(Duration d) { return d.count() / 1000; }
std::int64_t microseconds_up(Duration d) { return (d.count() + 999) / 1000; }

// Up as the costs are, or the whole burst would cost more than there ever is.
std::int64_t tolerance_of(const SharedBucket& bucket) { return microseconds_up(bucket.spec.tolerance()); }

std::int64_t cost_of(const SharedBucket& bucket) {
  return microseconds_up(bucket.spec.each * static_cast<std::int64_t>(std::min(bucket.n, bucket.spec.burst)));
}

std::vector<std::string> command(const RedisClient& client, bool whole, const char* mode, const std::vector<SharedBucket>& buckets,
                                 const std::vector<std::int64_t>& costs) {
  std::vector<std::string> args{whole ? "EVAL" : "EVALSHA", whole ? client.script(0) : client.script_sha(0), std::to_string(buckets.size())};
  for (const SharedBucket& bucket : buckets) args.push_back(bucket.key);
  args.emplace_back(mode);
  for (std::size_t i = 0; i < buckets.size(); ++i) {
    args.push_back(std::to_string(costs[i]));
    args.push_back(std::to_string(tolerance_of(buckets[i])));
  }
  return args;
}

// As gcra() would have said it.
admission::RateAnswer answer_of(const SharedBucket& bucket, std::int64_t reset_us, std::int64_t cost_us, bool all_allowed) {
  const admission::RateSpec& spec = bucket.spec;
  admission::RateAnswer answer;
  answer.reset = std::chrono::microseconds(std::max<std::int64_t>(reset_us, 0));
  const Duration tolerance = std::chrono::microseconds(tolerance_of(bucket));
  const Duration free = tolerance - answer.reset;
  answer.remaining = free > Duration::zero() ? std::min(static_cast<std::uint64_t>(free / spec.each), spec.burst) : 0;
  if (answer.remaining < spec.burst) answer.grows = spec.each * static_cast<std::int64_t>(answer.remaining + 1) - free;
  const Duration missing = answer.reset + std::chrono::microseconds(cost_us) - tolerance;
  answer.allowed = all_allowed || cost_us == 0 || missing <= Duration::zero();
  if (!answer.allowed) answer.retry_after = missing;
  return answer;
}

}  // namespace

SharedRates::SharedRates(coro::Executor& executor, net::Connector& connector, RedisCounters& counters, std::uint64_t seed)
    : client_(executor, connector, counters, seed, {kScript}) {}

Task<Result<SharedAnswer>> SharedRates::take(std::vector<SharedBucket> buckets) {
  std::vector<std::int64_t> costs;
  for (const SharedBucket& bucket : buckets) costs.push_back(cost_of(bucket));
  const TimePoint began = client_.now();
  auto asking = client_.call(command(client_, false, "take", buckets, costs), client_.timeout());
  auto reply = co_await std::move(asking);
  CO_TRY_VOID(reply);
  if (reply->error && reply->text.starts_with("NOSCRIPT")) {  // somebody flushed them: say it in full, once
    const Duration left = client_.timeout() - (client_.now() - began);
    auto again = client_.call(command(client_, true, "take", buckets, costs), std::max(left, Duration(1)));
    reply = co_await std::move(again);
    CO_TRY_VOID(reply);
  }
  if (reply->error || reply->numbers.size() != buckets.size() + 1) co_return fail(ErrorKind::protocol, "no answer of the script");
  SharedAnswer answer;
  answer.allowed = reply->numbers[0] == 1;
  for (std::size_t i = 0; i < buckets.size(); ++i) {
    answer.buckets.push_back(answer_of(buckets[i], reply->numbers[i + 1], costs[i], answer.allowed));
  }
  co_return answer;
}

void SharedRates::settle(const SharedBucket& bucket, std::int64_t more) {
  if (more == 0 || !client_.ready()) return;
  const std::int64_t most = 10 * static_cast<std::int64_t>(bucket.spec.burst);
  const std::int64_t bounded = std::clamp(more, -most, most);
  const std::int64_t cost = bounded > 0 ? microseconds_up(bucket.spec.each * bounded) : -microseconds(bucket.spec.each * -bounded);
  const std::vector<SharedBucket> one{bucket};
  client_.tell(command(client_, false, "settle", one, {cost}));
}

}  // namespace perigee::state
