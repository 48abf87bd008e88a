// Whose request it is: one number for each API key, person behind a trusted peer, or address.
//
// A key, the person it speaks for and an address go into a hash under a secret of this process, and only the number goes
// on: nothing behind this door ever holds a key. Numbers are good for tables and for operators' eyes in one process;
// what sidecars share goes by shared_name(), which is the same wherever the same secret is written. A tenant that
// `tenants:` names has one number for all its keys, so that replacing a key loses nothing.
//
// Immutable once built; any thread may ask. identify() allocates nothing and takes about a tenth of a microsecond,
// three times that where any tenant is written as a SHA-256.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "perigee/config/tenants.h"

namespace perigee::admission {

// Of this process, from the system's own randomness.
struct TenantSecret {
  std::uint64_t k0 = 0;
  std::uint64_t k1 = 0;
};

// What a request shows of who sent it; views into its head.
struct Claims {
  std::string_view api_key;  // empty = none
  std::string_view user;     // X-User-ID of a trusted peer; empty = none
  std::array<std::uint8_t, 16> address{};  // the client's, IPv4 mapped
};

struct Tenant {
  std::uint64_t id = 0;     // never 0 for a tenant that was identified
  std::uint16_t named = 0;  // 1 + its place in Config::tenants; 0 = it has no name
  [[nodiscard]] bool known() const { return id != 0; }
};

// The key as ORBIT reads it: X-API-Key, else what `Bearer` carries in Authorization.
[[nodiscard]] std::string_view api_key_of(std::string_view x_api_key, std::string_view authorization);

// Keyed hash of bytes (SipHash-1-3, Aumasson and Bernstein 2012, as hash tables of language runtimes use it): without the
// secret nobody can make two that are equal, or tell from the number what went in.
[[nodiscard]] std::uint64_t keyed_hash(const TenantSecret& secret, std::string_view bytes, std::uint64_t domain = 0);

class TenantTable {
 public:
  TenantTable(const TenantSecret& secret, const std::vector<std::pair<std::string, config::Tenant>>& tenants);

  [[nodiscard]] Tenant identify(const Claims& claims) const;
  // By the address alone: IPv4 whole, IPv6 its /64.
  [[nodiscard]] std::uint64_t address_id(const std::array<std::uint8_t, 16>& address) const;

  // 32 hex digits for what several sidecars keep together: HMAC-SHA-256 under `secret`, cut to half. About 2 µs.
  [[nodiscard]] std::string shared_name(const Claims& claims, const Tenant& tenant, std::string_view secret) const;
  [[nodiscard]] static std::string shared_address_name(const std::array<std::uint8_t, 16>& address, std::string_view secret);

  // For operators: its name, or 16 hex digits.
  [[nodiscard]] std::string shown(const Tenant& tenant) const;
  // The same of a bare id.
  [[nodiscard]] std::string shown(std::uint64_t id) const;

  [[nodiscard]] double weight(const Tenant& tenant) const { return tenant.named == 0 ? 1.0 : named_[tenant.named - 1U].weight; }
  [[nodiscard]] std::optional<Priority> priority(const Tenant& tenant) const {
    return tenant.named == 0 ? std::nullopt : named_[tenant.named - 1U].priority;
  }

 private:
  struct Named {
    std::string name;
    std::uint64_t id = 0;
    double weight = 1.0;
    std::optional<Priority> priority;
  };
  using Digest = std::array<std::uint8_t, 32>;
  [[nodiscard]] std::uint16_t find_name(std::uint64_t key_id, std::string_view key) const;

  TenantSecret secret_;
  std::vector<Named> named_;
  std::vector<std::pair<std::uint64_t, std::uint16_t>> by_key_;   // sorted by the keyed hash
  std::vector<std::pair<Digest, std::uint16_t>> by_digest_;       // sorted
};

}  // namespace perigee::admission
