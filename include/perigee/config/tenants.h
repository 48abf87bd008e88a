// Who is who among those who ask, and how much each may ask for: plain structs, as all of config.h.
//
// A tenant is an API key (or several, where one is being replaced), with X-User-ID of a trusted peer beside it; whoever
// shows no key is known by the address. `tenants:` gives some of them a name, a weight and a priority; nobody has to be
// named to have a rate or a turn of their own. Keys are secrets: they appear in no message, JSON, log or metric.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "perigee/base/time.h"
#include "perigee/base/vocabulary.h"

namespace perigee::config {

struct Tenant {
  std::vector<std::string> keys;        // secrets, as clients show them
  std::vector<std::string> key_sha256;  // the same as SHA-256, 64 lower-case hex digits: no key in the file
  double weight = 1.0;                  // 0.01 … 100: share of the work beside other tenants
  std::optional<Priority> priority;     // of its requests, before the route's own and behind X-Priority
  bool operator==(const Tenant&) const = default;
};
inline constexpr std::size_t kMaxTenants = 10'000;

// Whom a rate belongs to: each tenant, each client address, or everybody together.
enum class RateBy : std::uint8_t { tenant, address, all };
inline constexpr std::array<std::string_view, 3> kRateByNames = {"tenant", "address", "all"};

// At most `requests` and `tokens` in `per`, after a burst, and `concurrent` at once. Of those with one name the first that matches holds.
struct RateLimit {
  std::string name;  // in metrics, the RateLimit fields and the admin API; unique but for alternatives
  RateBy by = RateBy::tenant;
  std::optional<RequestClass> request_class;  // nothing = any
  std::string path;                           // exact, or a prefix if path_prefix; empty = any
  bool path_prefix = false;
  std::vector<std::string> tenants;  // names; empty = everybody
  std::optional<std::uint32_t> requests;
  std::optional<std::uint32_t> tokens;
  std::optional<std::uint32_t> concurrent;  // requests that run or wait at once, on this sidecar
  Duration per = std::chrono::minutes(1);
  std::optional<std::uint32_t> burst;         // requests at once; nothing = `requests`
  std::optional<std::uint32_t> burst_tokens;  // tokens at once; nothing = `tokens`
  bool shared = true;                         // among sidecars, where there is a Redis
  bool operator==(const RateLimit&) const = default;
};
inline constexpr std::size_t kMaxRateLimits = 32;

// What several sidecars share.
struct Redis {
  std::string url;  // redis://[USER:PASSWORD@]HOST:PORT[/DB]; secret in part; empty = no Redis
  Duration timeout = std::chrono::milliseconds(5);  // what one request may wait for it
  std::uint32_t sidecars = 1;                       // while it is away each takes this part of a rate
  std::string secret;                               // of tenants' names in it; empty = the password
  bool operator==(const Redis&) const = default;
  [[nodiscard]] bool enabled() const { return !url.empty(); }
};

}  // namespace perigee::config
