// See rates.h.
#include "perigee/admission/rates.h"

#include <algorithm>
#include <functional>
#include <tuple>
#include <utility>

namespace perigee::admission {
namespace {

constexpr std::uint64_t kEverybody = 1;       // ids of tenants are hashes; the odds that one is 1 are those of any other
constexpr std::uint64_t kFirstAnswer = 200;   // tokens, of a tenant whose answers are not known
constexpr double kMeanStep = 0.2;
constexpr std::size_t kPiece = 4096;          // slots looked at under one lock

RateSpec spec_of(const RateSpec& whole, const RateMatch& match) {
  return match.parts == 1 ? whole : whole.part(match.parts);
}

TimePoint tat_of(GcraTable& table, std::uint64_t key) {
  const GcraTable::Slot* slot = table.find(key);
  return slot == nullptr ? TimePoint{} : slot->tat;
}

std::uint64_t used(const RateSpec& spec, TimePoint tat, TimePoint now) {
  return tat <= now ? 0 : static_cast<std::uint64_t>((tat - now + spec.each - Duration(1)) / spec.each);
}

std::int64_t whole_seconds(Duration d) {
  return (d.count() + 999'999'999) / 1'000'000'000;
}

std::string quoted(const std::string& name, const char* unit) {
  return '"' + name + unit + '"';
}

std::string policy_field(const RatePolicy& policy) {
  std::string out;
  const auto add = [&](const std::optional<RateSpec>& spec, const char* unit) {
    if (!spec) return;
    out += (out.empty() ? "" : ", ") + quoted(policy.written.name, unit) + ";q=" + std::to_string(spec->quota) +
           ";w=" + std::to_string(whole_seconds(spec->window));
  };
  add(policy.requests, "");
  add(policy.tokens, "-tokens");
  if (const auto& most = policy.written.concurrent) {
    out += (out.empty() ? "" : ", ") + quoted(policy.written.name, "-concurrent") + ";q=" + std::to_string(*most) +
           ";qu=\"concurrent-requests\"";
  }
  return out;
}

void change_rate(RateState& state, const RatePolicy& policy, TimePoint now) {
  const auto change = [&](const std::optional<RateSpec>& spec, GcraTable& table, Duration& each) {
    if (!spec) return;
    table.rescale(each, spec->each, now);
    each = spec->each;
  };
  change(policy.requests, state.requests, state.each_request);
  change(policy.tokens, state.tokens, state.each_token);
}

}  // namespace

bool RatePolicy::matches(RequestClass c, std::string_view path, const Tenant& tenant) const {
  if (written.request_class && *written.request_class != c) return false;
  if (!written.path.empty() && !(written.path_prefix ? path.starts_with(written.path) : path == written.path)) return false;
  return tenants.empty() || (tenant.named != 0 && std::ranges::find(tenants, tenant.named) != tenants.end());
}

RatePoliciesPtr Rates::configure(const std::vector<config::RateLimit>& limits,
                                 const std::vector<std::pair<std::string, config::Tenant>>& tenants, TimePoint now) {
  const std::lock_guard lock(mutex_);
  auto policies = std::make_shared<RatePolicies>();
  decltype(states_) kept;
  for (const config::RateLimit& limit : limits) {
    RatePolicy policy;
    policy.written = limit;
    for (const std::string& name : limit.tenants) {
      const auto found = std::ranges::find(tenants, name, &std::pair<std::string, config::Tenant>::first);
      if (found != tenants.end()) policy.tenants.push_back(static_cast<std::uint16_t>(found - tenants.begin() + 1));
    }
    if (limit.requests) policy.requests = RateSpec::of(*limit.requests, limit.per, limit.burst.value_or(*limit.requests));
    if (limit.tokens) policy.tokens = RateSpec::of(*limit.tokens, limit.per, limit.burst_tokens.value_or(*limit.tokens));
    policy.policy_field = policy_field(policy);
    const auto same = std::ranges::count(policies->all, limit.name, [](const RatePolicy& p) { return p.written.name; });
    const std::string known_as = limit.name + "#" + std::to_string(same);
    const auto before = states_.find(known_as);
    policy.state = before != states_.end() ? before->second : std::make_shared<RateState>();
    policy.state->counts.name = limit.name;
    change_rate(*policy.state, policy, now);
    kept[known_as] = policy.state;
    policies->all.push_back(std::move(policy));
  }
  states_ = std::move(kept);
  return policies;
}

void Rates::match(const RatePolicies& policies, RequestClass c, std::string_view path, const Tenant& tenant,
                  std::uint64_t address_id, std::vector<RateMatch>& matches) {
  for (const RatePolicy& policy : policies.all) {
    if (!policy.matches(c, path, tenant)) continue;
    const bool settled = std::ranges::any_of(matches, [&](const RateMatch& m) { return m.policy->written.name == policy.written.name; });
    if (settled) continue;
    RateMatch match;
    match.policy = &policy;
    switch (policy.written.by) {
      case config::RateBy::tenant: match.key = tenant.id; break;
      case config::RateBy::address: match.key = address_id; break;
      case config::RateBy::all: match.key = kEverybody; break;
    }
    matches.push_back(match);
  }
}

void Rates::estimate(std::span<RateMatch> matches, std::uint64_t input) {
  const std::lock_guard lock(mutex_);
  for (RateMatch& match : matches) {
    if (!match.policy->tokens) continue;
    const GcraTable::Slot* slot = match.policy->state->tokens.find(match.key);
    const std::uint64_t output = slot == nullptr || slot->mean <= 0 ? kFirstAnswer : static_cast<std::uint64_t>(slot->mean);
    // Never more than the burst: such a request passes when all of it is there, and leaves a debt.
    match.tokens = std::min(input + output, spec_of(*match.policy->tokens, match).burst);
  }
}

RateVerdict Rates::take(std::span<RateMatch> matches, TimePoint now, bool last) {
  RateVerdict verdict;
  bool for_tokens = false;
  const auto look = [&](const RateMatch& match, const std::optional<RateSpec>& spec, GcraTable& table, std::uint64_t n, bool tokens) {
    RateAnswer answer;
    if (!spec) return answer;
    answer = gcra(spec_of(*spec, match), tat_of(table, match.key), now, n);
    if (answer.allowed || n == 0 || (!verdict.allowed && answer.retry_after <= verdict.retry_after)) return answer;
    verdict = {false, answer.retry_after, match.policy};
    for_tokens = tokens;
    return answer;
  };
  const auto charge = [&](const RateMatch& match, const std::optional<RateSpec>& spec, GcraTable& table, std::uint64_t n) {
    if (!spec || n == 0) return;  // a place in the table may be another one's debt
    GcraTable::Slot& slot = table.slot(match.key, now);
    slot.tat = new_tat(spec_of(*spec, match), slot.tat, now, n);
  };
  const std::lock_guard lock(mutex_);
  for (RateMatch& match : matches) {
    // Tokens are of chats alone: others ask for none, and may pass where there are none.
    if (match.policy->tokens) {
      match.tokens = std::min(match.tokens, spec_of(*match.policy->tokens, match).burst);
    }
    match.of_requests = look(match, match.policy->requests, match.policy->state->requests, 1, false);
    match.of_tokens = look(match, match.policy->tokens, match.policy->state->tokens, match.tokens, true);
  }
  if (!verdict.allowed) {
    auto& counts = verdict.refused_by->state->counts;
    ++(for_tokens ? counts.refused_tokens : counts.refused_requests);
    return verdict;
  }
  for (RateMatch& match : matches) {
    charge(match, match.policy->requests, match.policy->state->requests, 1);
    charge(match, match.policy->tokens, match.policy->state->tokens, match.tokens);
    match.charged = true;
    if (last) ++match.policy->state->counts.allowed;
  }
  return verdict;
}

void Rates::look(std::span<RateMatch> matches, TimePoint now) {
  const std::lock_guard lock(mutex_);
  const auto look_at = [&](const RateMatch& match, const std::optional<RateSpec>& spec, GcraTable& table) {
    return spec ? gcra(spec_of(*spec, match), tat_of(table, match.key), now, 0) : RateAnswer{};
  };
  for (RateMatch& match : matches) {
    match.of_requests = look_at(match, match.policy->requests, match.policy->state->requests);
    match.of_tokens = look_at(match, match.policy->tokens, match.policy->state->tokens);
  }
}

RateVerdict Rates::enter(const std::shared_ptr<Rates>& rates, std::span<RateMatch> matches, RunningPlaces& into) {
  constexpr Duration kTryAgain = std::chrono::seconds(1);  // when one of them ends nobody knows
  RateVerdict verdict;
  const std::lock_guard lock(rates->mutex_);
  for (RateMatch& match : matches) {
    const auto& most = match.policy->written.concurrent;
    if (!most) continue;
    const auto& running = match.policy->state->running;
    const auto found = running.find(match.key);
    const std::uint32_t n = found == running.end() ? 0 : found->second;
    match.places_left = *most - std::min(n, *most);
    if (n >= *most && verdict.allowed) verdict = {false, kTryAgain, match.policy};
  }
  if (!verdict.allowed) {
    ++verdict.refused_by->state->counts.refused_concurrent;
    return verdict;
  }
  for (RateMatch& match : matches) {
    if (!match.policy->written.concurrent) continue;
    auto& state = match.policy->state;
    if (state->running.size() >= kMostRunning && !state->running.contains(match.key)) continue;
    ++state->running[match.key];
    --match.places_left;
    into.places_.push_back({state, match.key});
  }
  into.rates_ = rates;
  return verdict;
}

void RunningPlaces::give_back() {
  if (places_.empty()) return;
  const std::lock_guard lock(rates_->mutex_);
  for (const Place& place : places_) {
    const auto found = place.state->running.find(place.key);
    if (--found->second == 0) place.state->running.erase(found);
  }
  places_.clear();
}

void Rates::mirror(std::span<RateMatch> matches, TimePoint now) {
  const std::lock_guard lock(mutex_);
  for (RateMatch& match : matches) {
    if (match.policy->requests) match.policy->state->requests.slot(match.key, now).tat = now + match.of_requests.reset;
    if (!match.policy->tokens) continue;
    GcraTable& tokens = match.policy->state->tokens;
    GcraTable::Slot* const slot = match.tokens == 0 ? tokens.find(match.key) : &tokens.slot(match.key, now);
    if (slot != nullptr) slot->tat = now + match.of_tokens.reset;
  }
}

void Rates::count(std::span<const RateMatch> matches, const RatePolicy* refused_by, bool for_tokens) {
  const std::lock_guard lock(mutex_);
  if (refused_by != nullptr) {
    ++(for_tokens ? refused_by->state->counts.refused_tokens : refused_by->state->counts.refused_requests);
    return;
  }
  for (const RateMatch& match : matches) ++match.policy->state->counts.allowed;
}

void Rates::refund(std::span<RateMatch> matches, TimePoint now) {
  const std::lock_guard lock(mutex_);
  for (RateMatch& match : matches) {
    if (!std::exchange(match.charged, false)) continue;
    const auto back = [&](const std::optional<RateSpec>& spec, GcraTable& table, std::uint64_t n) {
      GcraTable::Slot* const slot = spec ? table.find(match.key) : nullptr;
      if (slot != nullptr) slot->tat = settled_tat(spec_of(*spec, match), slot->tat, now, -static_cast<std::int64_t>(n));
    };
    back(match.policy->requests, match.policy->state->requests, 1);
    back(match.policy->tokens, match.policy->state->tokens, match.tokens);
  }
}

void Rates::settle(std::span<const RateMatch> matches, std::uint64_t actual, std::uint64_t output, TimePoint now) {
  constexpr std::uint64_t kMost = 1'000'000'000;  // a worker may say anything
  actual = std::min(actual, kMost);
  output = std::min(output, kMost);
  const std::lock_guard lock(mutex_);
  for (const RateMatch& match : matches) {
    if (!match.charged || !match.policy->tokens) continue;
    GcraTable::Slot& slot = match.policy->state->tokens.slot(match.key, now);
    const std::int64_t more = static_cast<std::int64_t>(actual) - static_cast<std::int64_t>(match.tokens);
    slot.tat = settled_tat(spec_of(*match.policy->tokens, match), slot.tat, now, more);
    match.policy->state->counts.tokens += actual;
    if (output == 0) continue;
    const auto told = static_cast<double>(output);
    slot.mean = static_cast<float>(slot.mean <= 0 ? told : slot.mean + (told - slot.mean) * kMeanStep);
  }
}

telemetry::RateCounts Rates::counts() {
  telemetry::RateCounts out;
  const std::lock_guard lock(mutex_);
  for (const auto& [known_as, state] : states_) {  // those of one name lie side by side
    const telemetry::RateCounts::Policy& one = state->counts;
    if (out.policies.empty() || out.policies.back().name != one.name) out.policies.push_back({.name = one.name});
    telemetry::RateCounts::Policy& sum = out.policies.back();
    sum.allowed += one.allowed;
    sum.refused_requests += one.refused_requests;
    sum.refused_tokens += one.refused_tokens;
    sum.refused_concurrent += one.refused_concurrent;
    sum.running += state->running.size();
    sum.tokens += one.tokens;
    sum.evicted += state->requests.evicted() + state->tokens.evicted();
  }
  return out;
}

std::vector<RateUsage> Rates::usage(const RatePolicy& policy, std::size_t most, TimePoint now) {
  std::map<std::uint64_t, RateUsage> found;
  const auto gather = [&](const std::optional<RateSpec>& spec, GcraTable& table, std::uint64_t RateUsage::*figure) {
    if (!spec) return;
    std::vector<std::pair<std::uint64_t, std::uint64_t>> best;
    for (std::size_t from = 0;; from += kPiece) {
      const std::lock_guard lock(mutex_);
      if (from >= table.slots()) break;
      for (std::size_t i = from; i < std::min(from + kPiece, table.slots()); ++i) {
        const GcraTable::Slot& slot = table.at(i);
        if (slot.key != 0 && slot.tat > now) best.emplace_back(used(*spec, slot.tat, now), slot.key);
      }
      std::ranges::sort(best, std::greater{});
      if (best.size() > most) best.resize(most);
    }
    for (const auto& [n, key] : best) {
      found[key].key = key;
      found[key].*figure = n;
    }
  };
  gather(policy.requests, policy.state->requests, &RateUsage::requests_used);
  gather(policy.tokens, policy.state->tokens, &RateUsage::tokens_used);
  {
    std::vector<std::pair<std::uint32_t, std::uint64_t>> best;
    const std::lock_guard lock(mutex_);
    for (const auto& [key, n] : policy.state->running) best.emplace_back(n, key);
    const std::size_t kept = std::min(most, best.size());
    std::ranges::partial_sort(best, best.begin() + static_cast<std::ptrdiff_t>(kept), std::greater{});
    best.resize(kept);
    for (const auto& [n, key] : best) {
      found[key].key = key;
      found[key].running = n;
    }
  }
  std::vector<RateUsage> out;
  for (const auto& [key, usage] : found) out.push_back(usage);
  std::ranges::sort(out, [](const RateUsage& a, const RateUsage& b) {
    return std::tuple(a.requests_used, a.tokens_used, a.running) > std::tuple(b.requests_used, b.tokens_used, b.running);
  });
  if (out.size() > most) out.resize(most);
  return out;
}

std::string rate_fields(std::span<const RateMatch> matches) {
  std::string policies = "RateLimit-Policy: ";
  std::string standing = "RateLimit: ";
  bool first = true;
  const auto add = [&](const RatePolicy& policy, const char* unit, const RateAnswer& answer) {
    standing += (first ? "" : ", ") + quoted(policy.written.name, unit) + ";r=" + std::to_string(answer.remaining);
    if (answer.grows > Duration::zero()) standing += ";t=" + std::to_string(whole_seconds(answer.grows));
    first = false;
  };
  for (const RateMatch& match : matches) {
    policies += (&match == matches.data() ? "" : ", ") + match.policy->policy_field;
    if (match.policy->requests) add(*match.policy, "", match.of_requests);
    if (match.policy->tokens) add(*match.policy, "-tokens", match.of_tokens);
    if (match.policy->written.concurrent) {
      RateAnswer places;
      places.remaining = match.places_left;
      add(*match.policy, "-concurrent", places);
    }
  }
  return policies + "\r\n" + standing + "\r\n";
}

namespace {

// As Go writes durations, which is what OpenAI sends: `17ms`, `1s`, `6m0s`, `1h0m5s`.
std::string go_duration(Duration d) {
  const std::int64_t ms = (d.count() + 999'999) / 1'000'000;
  if (ms <= 0) return "0s";
  if (ms < 1000) return std::to_string(ms) + "ms";
  const std::int64_t s = (ms + 999) / 1000;
  std::string out;
  if (s >= 3600) out += std::to_string(s / 3600) + "h";
  if (s >= 60) out += std::to_string(s / 60 % 60) + "m";
  return out + std::to_string(s % 60) + "s";
}

}  // namespace

std::string openai_rate_fields(std::span<const RateMatch> matches) {
  std::string out;
  const auto add = [&](std::optional<RateSpec> RatePolicy::*spec, RateAnswer RateMatch::*answer, const std::string& unit) {
    const RateMatch* tightest = nullptr;
    for (const RateMatch& match : matches) {
      if (!(match.policy->*spec)) continue;
      if (tightest == nullptr || (match.*answer).remaining < (tightest->*answer).remaining) tightest = &match;
    }
    if (tightest == nullptr) return;
    out += "x-ratelimit-limit-" + unit + ": " + std::to_string(spec_of(*(tightest->policy->*spec), *tightest).burst) + "\r\n";
    out += "x-ratelimit-remaining-" + unit + ": " + std::to_string((tightest->*answer).remaining) + "\r\n";
    out += "x-ratelimit-reset-" + unit + ": " + go_duration((tightest->*answer).reset) + "\r\n";
  };
  add(&RatePolicy::requests, &RateMatch::of_requests, "requests");
  add(&RatePolicy::tokens, &RateMatch::of_tokens, "tokens");
  return out;
}

}  // namespace perigee::admission
