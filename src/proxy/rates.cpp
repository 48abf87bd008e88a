// Guard: over its rate? Which rates hold for a request, the answer to that question, and, when the request is over, what
// it really cost.
//
// Matched in the turn in which the head was parsed; asked before anything is waited for; settled by account(). A rate that
// sidecars share is asked of Redis, for some milliseconds at most; while it is away this sidecar takes its part.
#include "rates.h"

#include <algorithm>
#include <iterator>

#include "inner.h"
#include "perigee/state/shared_rates.h"
#include "stages.h"
#include "token_count.h"

namespace perigee::proxy {

using admission::RateMatch;
using coro::Task;

namespace {

std::span<RateMatch> own_of(RateHold& hold) { return std::span(hold.matches).first(hold.own); }
std::span<RateMatch> shared_of(RateHold& hold) { return std::span(hold.matches).subspan(hold.own); }

std::string name_of(const RateMatch& match, const admission::TenantTable& tenants, const admission::Claims& claims,
                    const admission::Tenant& tenant, std::string_view secret) {
  std::string who;
  switch (match.policy->written.by) {
    case config::RateBy::tenant: who = tenants.shared_name(claims, tenant, secret); break;
    case config::RateBy::address: who = admission::TenantTable::shared_address_name(claims.address, secret); break;
    case config::RateBy::all: who = "all"; break;
  }
  return "perigee:{" + who + "}:" + match.policy->written.name;
}

// In Redis: the buckets of each shared match, requests first.
std::vector<state::SharedBucket> buckets_of(RateHold& hold) {
  std::vector<state::SharedBucket> buckets;
  for (std::size_t i = hold.own; i < hold.matches.size(); ++i) {
    const RateMatch& match = hold.matches[i];
    const std::string& name = hold.names[i - hold.own];
    if (match.policy->requests) buckets.push_back({name + ":r", *match.policy->requests, 1});
    if (match.policy->tokens) buckets.push_back({name + ":t", *match.policy->tokens, match.tokens});
  }
  return buckets;
}

// What Redis said, put where the answer's fields and this process' own buckets are made of.
admission::RateVerdict heard(RateHold& hold, const state::SharedAnswer& answer, TimePoint now) {
  admission::RateVerdict verdict;
  bool for_tokens = false;
  std::size_t next = 0;
  const auto take = [&](RateMatch& match, admission::RateAnswer& into, bool tokens) {
    into = answer.buckets[next++];
    if (into.allowed || (!verdict.allowed && into.retry_after <= verdict.retry_after)) return;
    verdict = {false, into.retry_after, match.policy};
    for_tokens = tokens;
  };
  for (RateMatch& match : shared_of(hold)) {
    if (match.policy->requests) take(match, match.of_requests, false);
    if (match.policy->tokens) take(match, match.of_tokens, true);
    match.charged = answer.allowed;
  }
  hold.rates->mirror(shared_of(hold), now);
  hold.rates->count(shared_of(hold), verdict.refused_by, for_tokens);
  return verdict;
}

Task<admission::RateVerdict> ask_shared(Exchange& x) {
  RateHold& hold = *x.rates;
  state::SharedRates* const shared = x.proxy.parts.shared_rates;
  if (shared != nullptr && shared->client().ready()) {
    auto asking = shared->take(buckets_of(hold));
    const auto answer = co_await std::move(asking);
    if (answer) {
      hold.by_redis = true;
      co_return heard(hold, *answer, x.proxy.now());
    }
    // Who left while Redis was asked tells nothing of Redis; within_rates() sees to it.
    if (x.client.source.cancelled()) co_return admission::RateVerdict{};
  }
  if (shared != nullptr) shared->client().counters().fallbacks.fetch_add(1, std::memory_order_relaxed);
  const std::uint32_t parts = std::max(x.plan->config->redis.sidecars, 1U);
  for (RateMatch& match : shared_of(hold)) match.parts = parts;
  co_return hold.rates->take(shared_of(hold), x.proxy.now());
}

// Whole seconds, up to a tenth later than the bucket says, so that those who were refused together do not come together.
std::uint16_t retry_after(Exchange& x, Duration wait) {
  const double jittered = to_seconds(wait) * x.proxy.rng.uniform(1.0, 1.1);
  return static_cast<std::uint16_t>(std::clamp(jittered + 0.999, 1.0, 65535.0));
}

}  // namespace

void match_rates(Exchange& x, std::string_view path, const admission::Claims& claims) {
  // A preflight is the browser's, not its user's, and costs a worker nothing to speak of.
  if (!x.plan->rate_policies || x.verdict.no_ticket) return;
  std::vector<RateMatch> matches;
  const admission::TenantTable& tenants = *x.plan->tenants;
  admission::Rates::match(*x.plan->rate_policies, x.verdict.request_class, path, x.tenant, tenants.address_id(claims.address), matches);
  // What must always get through (health, a stop) is held only to a rate that names its class.
  if (x.verdict.outside_slots) std::erase_if(matches, [](const RateMatch& m) { return !m.policy->written.request_class; });
  if (matches.empty()) return;
  auto hold = std::make_unique<RateHold>();
  const config::Redis& redis = x.plan->config->redis;
  const auto is_own = [&](const RateMatch& m) {
    const bool has_rate = m.policy->requests || m.policy->tokens;
    return !redis.enabled() || !m.policy->written.shared || !has_rate;
  };
  std::ranges::copy_if(matches, std::back_inserter(hold->matches), is_own);
  hold->own = hold->matches.size();
  for (const RateMatch& match : matches) {
    if (is_own(match)) continue;
    hold->matches.push_back(match);
    hold->names.push_back(name_of(match, tenants, claims, x.tenant, x.plan->redis_secret));
  }
  hold->rates = x.plan->rates;
  hold->policies = x.plan->rate_policies;
  const bool chat = x.verdict.request_class == RequestClass::chat || x.dialect != http::SseDialect::generic;
  hold->counts_tokens = chat && std::ranges::any_of(matches, [](const RateMatch& m) { return m.policy->tokens.has_value(); });
  x.rates = std::move(hold);
}

namespace {

Result<void> refused(Exchange& x, const admission::RateVerdict& verdict) {
  x.refusal.retry_after_s = retry_after(x, verdict.retry_after);
  return fail(ErrorKind::denied, "Too many requests for this rate limit. Please retry later.", Side::client, 429);
}

}  // namespace

Task<Result<void>> within_rates(Exchange& x) {
  RateHold& hold = *x.rates;
  // Places first: who is refused for want of one is not charged.
  auto verdict = admission::Rates::enter(hold.rates, hold.matches, hold.places);
  if (!verdict.allowed) {
    hold.rates->look(hold.matches, x.proxy.now());
    co_return refused(x, verdict);
  }
  if (hold.counts_tokens) {
    const std::uint64_t come = x.out.size() - x.out_head_bytes;
    const std::uint64_t body = x.head.framing == http::Framing::length ? x.head.content_length : come;
    hold.input = body / kBytesPerToken;
    hold.rates->estimate(hold.matches, hold.input);
  }
  const bool shares = hold.own < hold.matches.size();
  verdict = hold.rates->take(own_of(hold), x.proxy.now(), !shares);
  if (verdict.allowed && shares) {
    verdict = co_await ask_shared(x);
    if (x.client.source.cancelled()) {
      hold.rates->refund(own_of(hold), x.proxy.now());
      hold.places.give_back();
      co_return std::unexpected(x.client.source.reason());
    }
    if (verdict.allowed) hold.rates->count(own_of(hold), nullptr, false);
    else hold.rates->refund(own_of(hold), x.proxy.now());
  }
  hold.charged = verdict.allowed;
  if (verdict.allowed) co_return Result<void>{};
  hold.places.give_back();
  co_return refused(x, verdict);
}

std::string rate_lines(const Exchange& x, bool worker_tells) {
  if (!x.rates) return {};
  std::string lines = admission::rate_fields(x.rates->matches);
  if (x.error_shape == http::ErrorShape::openai && !worker_tells) lines += admission::openai_rate_fields(x.rates->matches);
  return lines;
}

void settle_rates(Exchange& x) {
  RateHold& hold = *x.rates;
  if (!hold.charged || !hold.counts_tokens) return;
  // Whose worker goes on without a client has cost what it was expected to: nobody will hear what it was.
  if (x.detached) return;
  const TokensUsed used = tokens_used(x, hold.input);
  hold.rates->settle(hold.matches, used.total, used.output, x.proxy.now());
  state::SharedRates* const shared = x.proxy.parts.shared_rates;
  if (!hold.by_redis || shared == nullptr) return;
  for (std::size_t i = hold.own; i < hold.matches.size(); ++i) {
    const RateMatch& match = hold.matches[i];
    if (!match.policy->tokens) continue;
    shared->settle({hold.names[i - hold.own] + ":t", *match.policy->tokens, match.tokens},
                   static_cast<std::int64_t>(std::min<std::uint64_t>(used.total, 1'000'000'000)) - static_cast<std::int64_t>(match.tokens));
  }
}

}  // namespace perigee::proxy
