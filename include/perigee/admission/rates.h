// Rates: how much each tenant, each address, or all together may ask for.
//
// A request is held against every policy that matches it: first all buckets are looked at, then, if none refuses, all are
// charged, so that nothing is charged for what another bucket refuses. Requests cost one; chats also cost tokens, by an
// estimate at the door (bytes / 4 and the tenant's usual answer) that settle() makes good when the truth is known.
//
// One object for the process, any thread: its lock is held for some hundred nanoseconds and taken only by requests that
// some policy matches. What a policy has counted belongs to its name and lives as long as the name is in the
// configuration; the numbers of a rate may change under it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "perigee/admission/gcra.h"
#include "perigee/admission/tenant.h"
#include "perigee/config/tenants.h"
#include "perigee/telemetry/rate_counts.h"

namespace perigee::admission {

// What one name has counted. Guarded by the lock of Rates.
struct RateState {
  GcraTable requests;
  GcraTable tokens;
  std::unordered_map<std::uint64_t, std::uint32_t> running;  // by key; those that have none are not in it
  Duration each_request{};  // T of what the tables hold
  Duration each_token{};
  telemetry::RateCounts::Policy counts;
};

// One entry of `rate_limits`, ready to be asked.
struct RatePolicy {
  config::RateLimit written;
  std::vector<std::uint16_t> tenants;  // as Tenant::named; empty = everybody
  std::optional<RateSpec> requests;
  std::optional<RateSpec> tokens;
  std::string policy_field;  // its part of RateLimit-Policy
  std::shared_ptr<RateState> state;

  [[nodiscard]] bool matches(RequestClass c, std::string_view path, const Tenant& tenant) const;
};

// Immutable; what a request matched stays good while it holds them.
struct RatePolicies {
  std::vector<RatePolicy> all;
};
using RatePoliciesPtr = std::shared_ptr<const RatePolicies>;

// One policy that holds for a request, and how the request stands with it.
struct RateMatch {
  const RatePolicy* policy = nullptr;
  std::uint64_t key = 0;            // whose bucket: a tenant's id, an address's, or 1
  std::uint64_t tokens = 0;         // asked for, or charged
  std::uint32_t parts = 1;          // this sidecar takes one part of so many
  bool charged = false;
  RateAnswer of_requests;
  RateAnswer of_tokens;
  std::uint32_t places_left = 0;    // of `concurrent`, after this request if it was allowed
};

struct RateVerdict {
  bool allowed = true;
  Duration retry_after{};
  const RatePolicy* refused_by = nullptr;
};

// What an operator sees of one key of one policy.
struct RateUsage {
  std::uint64_t key = 0;
  std::uint64_t requests_used = 0;  // of the burst, now
  std::uint64_t tokens_used = 0;    // may be more than the burst: a debt
  std::uint32_t running = 0;
};

class Rates;

// The places of one request among those that may run at once. Move-only; gives them back on destruction, whatever became of
// the request. Any thread.
class RunningPlaces {
 public:
  RunningPlaces() = default;
  RunningPlaces(RunningPlaces&& other) noexcept = default;
  RunningPlaces& operator=(RunningPlaces&& other) noexcept {
    give_back();
    rates_ = std::move(other.rates_);
    places_ = std::move(other.places_);
    return *this;
  }
  ~RunningPlaces() { give_back(); }
  void give_back();

 private:
  friend class Rates;
  struct Place {
    std::shared_ptr<RateState> state;
    std::uint64_t key = 0;
  };
  std::shared_ptr<Rates> rates_;
  std::vector<Place> places_;
};

class Rates {
 public:
  // Keys of one policy whose running requests are counted; past that a newcomer is not held to it.
  static constexpr std::size_t kMostRunning = GcraTable::kSlotsMax;

  // The policies of a configuration; names that stay keep what they counted (so many requests, so many tokens, whatever
  // the rate is now), others lose it. Control thread.
  RatePoliciesPtr configure(const std::vector<config::RateLimit>& limits,
                            const std::vector<std::pair<std::string, config::Tenant>>& tenants, TimePoint now);

  // What matches, at most one of each name. `matches` is empty where nothing does.
  static void match(const RatePolicies& policies, RequestClass c, std::string_view path, const Tenant& tenant,
                    std::uint64_t address_id, std::vector<RateMatch>& matches);

  // Puts the expected tokens into the matches: `input` and each key's usual answer. Only chats.
  void estimate(std::span<RateMatch> matches, std::uint64_t input);
  // Looks at all of `matches`, then charges all or none. Not `last`: what is allowed is not counted as such yet, for
  // somebody else is still to be asked; count() or refund() follows.
  RateVerdict take(std::span<RateMatch> matches, TimePoint now, bool last = true);
  // How `matches` stand, for the fields of a refusal that comes before take().
  void look(std::span<RateMatch> matches, TimePoint now);
  // Takes a place of each match that has `concurrent`, or none. `into` is empty, and gives them back.
  static RateVerdict enter(const std::shared_ptr<Rates>& rates, std::span<RateMatch> matches, RunningPlaces& into);
  // Somebody else decided (Redis): this is how the buckets stand, for the time when he is away.
  void mirror(std::span<RateMatch> matches, TimePoint now);
  void count(std::span<const RateMatch> matches, const RatePolicy* refused_by, bool for_tokens);
  // Gives back what was charged.
  void refund(std::span<RateMatch> matches, TimePoint now);
  // The truth about the tokens of a request that was charged: `actual` in all, `output` of the answer (learnt for
  // estimates).
  void settle(std::span<const RateMatch> matches, std::uint64_t actual, std::uint64_t output, TimePoint now);

  // --- control thread.
  [[nodiscard]] telemetry::RateCounts counts();
  // The keys of a policy that have used most, at most `most`. Looks at the table in pieces, each under the lock.
  [[nodiscard]] std::vector<RateUsage> usage(const RatePolicy& policy, std::size_t most, TimePoint now);

 private:
  friend class RunningPlaces;
  std::mutex mutex_;
  // By name and, behind it, which one of that name. The control thread writes, under the lock.
  std::map<std::string, std::shared_ptr<RateState>, std::less<>> states_;
};

// `RateLimit-Policy` and `RateLimit` lines for an answer (draft-ietf-httpapi-ratelimit-headers), with their CRLF.
[[nodiscard]] std::string rate_fields(std::span<const RateMatch> matches);
// The same as OpenAI's clients read it, of the tightest match: `x-ratelimit-limit-requests`, `-remaining-`, `-reset-`, and
// `-tokens`. The limit is what may come at once, the reset the time until all of it is there again.
[[nodiscard]] std::string openai_rate_fields(std::span<const RateMatch> matches);

}  // namespace perigee::admission
