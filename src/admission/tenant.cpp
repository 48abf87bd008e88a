// See tenant.h. What is hashed begins with its kind, so that no key can be chosen to collide with a name or an address.
#include "perigee/admission/tenant.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace perigee::admission {
namespace {

enum : std::uint64_t { kKey = 1, kName = 2, kAddress = 3, kUser = 4 };

struct Sip {
  std::uint64_t v0, v1, v2, v3;
  void round() {
    v0 += v1;
    v1 = std::rotl(v1, 13) ^ v0;
    v0 = std::rotl(v0, 32);
    v2 += v3;
    v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3;
    v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1;
    v1 = std::rotl(v1, 17) ^ v2;
    v2 = std::rotl(v2, 32);
  }
  void take(std::uint64_t word) {
    v3 ^= word;
    round();
    v0 ^= word;
  }
};

std::uint64_t word_at(const char* p, std::size_t n) {
  std::uint64_t word = 0;
  std::memcpy(&word, p, n);
  return word;
}

bool is_ipv4(const std::array<std::uint8_t, 16>& address) {
  static constexpr std::array<std::uint8_t, 12> kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
  return std::equal(kMapped.begin(), kMapped.end(), address.begin());
}

// A network that one customer of a provider has: who may choose within it is one client.
std::string_view client_part(const std::array<std::uint8_t, 16>& address) {
  const char* const bytes = reinterpret_cast<const char*>(address.data());
  return is_ipv4(address) ? std::string_view(bytes + 12, 4) : std::string_view(bytes, 8);
}

std::array<std::uint8_t, 32> sha256_of(std::string_view text) {
  std::array<std::uint8_t, 32> out{};
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), out.data());
  return out;
}

std::uint8_t nibble(char c) {
  return static_cast<std::uint8_t>(c <= '9' ? c - '0' : c - 'a' + 10);
}

std::array<std::uint8_t, 32> from_hex(std::string_view hex) {
  std::array<std::uint8_t, 32> out{};
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<std::uint8_t>(nibble(hex[2 * i]) << 4U | nibble(hex[2 * i + 1]));
  }
  return out;
}

void append_hex(std::string& out, std::uint8_t byte) {
  out += "0123456789abcdef"[byte >> 4U];
  out += "0123456789abcdef"[byte & 15U];
}

std::string half_of_hmac(std::string_view secret, std::string_view text) {
  std::array<std::uint8_t, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  // A label of our own: the same secret may serve elsewhere.
  const std::string key = "perigee tenants v1 " + std::string(secret);
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), reinterpret_cast<const unsigned char*>(text.data()), text.size(),
       digest.data(), &size);
  std::string out;
  for (std::size_t i = 0; i < 16; ++i) append_hex(out, digest[i]);
  return out;
}

}  // namespace

std::string_view api_key_of(std::string_view x_api_key, std::string_view authorization) {
  if (!x_api_key.empty()) return x_api_key;
  constexpr std::string_view kBearer = "bearer ";
  if (authorization.size() <= kBearer.size()) return {};
  for (std::size_t i = 0; i < kBearer.size(); ++i) {
    const char c = authorization[i];
    if ((c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c) != kBearer[i]) return {};
  }
  authorization.remove_prefix(kBearer.size());
  while (authorization.starts_with(' ')) authorization.remove_prefix(1);
  return authorization;
}

std::uint64_t keyed_hash(const TenantSecret& secret, std::string_view bytes, std::uint64_t domain) {
  Sip s{secret.k0 ^ 0x736f6d6570736575ULL, secret.k1 ^ 0x646f72616e646f6dULL, secret.k0 ^ 0x6c7967656e657261ULL,
        secret.k1 ^ 0x7465646279746573ULL};
  if (domain != 0) s.take(domain);
  const std::size_t length = bytes.size() + (domain != 0 ? 8 : 0);
  const char* p = bytes.data();
  std::size_t left = bytes.size();
  for (; left >= 8; left -= 8, p += 8) s.take(word_at(p, 8));
  s.take(static_cast<std::uint64_t>(length) << 56U | (left == 0 ? 0 : word_at(p, left)));
  s.v2 ^= 0xFF;
  s.round();
  s.round();
  s.round();
  return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

TenantTable::TenantTable(const TenantSecret& secret, const std::vector<std::pair<std::string, config::Tenant>>& tenants)
    : secret_(secret) {
  for (const auto& [name, tenant] : tenants) {
    named_.push_back({name, keyed_hash(secret_, name, kName) | 1U, tenant.weight, tenant.priority});
    const auto place = static_cast<std::uint16_t>(named_.size());
    for (const std::string& key : tenant.keys) by_key_.emplace_back(keyed_hash(secret_, key, kKey), place);
    for (const std::string& digest : tenant.key_sha256) by_digest_.emplace_back(from_hex(digest), place);
  }
  std::ranges::sort(by_key_);
  std::ranges::sort(by_digest_);
}

std::uint16_t TenantTable::find_name(std::uint64_t key_id, std::string_view key) const {
  const auto found = std::ranges::lower_bound(by_key_, key_id, {}, &decltype(by_key_)::value_type::first);
  if (found != by_key_.end() && found->first == key_id) return found->second;
  if (by_digest_.empty()) return 0;
  const Digest digest = sha256_of(key);
  const auto same = std::ranges::lower_bound(by_digest_, digest, {}, &decltype(by_digest_)::value_type::first);
  return same != by_digest_.end() && same->first == digest ? same->second : std::uint16_t{0};
}

Tenant TenantTable::identify(const Claims& claims) const {
  Tenant tenant;
  if (claims.api_key.empty()) {
    tenant.id = address_id(claims.address);
  } else {
    const std::uint64_t key_id = keyed_hash(secret_, claims.api_key, kKey);
    tenant.named = find_name(key_id, claims.api_key);
    tenant.id = tenant.named == 0 ? key_id | 1U : named_[tenant.named - 1U].id;
  }
  if (!claims.user.empty()) tenant.id = keyed_hash({secret_.k0 ^ tenant.id, secret_.k1}, claims.user, kUser) | 1U;
  return tenant;
}

std::uint64_t TenantTable::address_id(const std::array<std::uint8_t, 16>& address) const {
  return keyed_hash(secret_, client_part(address), kAddress) | 1U;
}

std::string TenantTable::shared_name(const Claims& claims, const Tenant& tenant, std::string_view secret) const {
  if (claims.api_key.empty() && claims.user.empty()) return shared_address_name(claims.address, secret);
  std::string text;
  if (tenant.named != 0) {
    text = "n" + named_[tenant.named - 1U].name;
  } else if (!claims.api_key.empty()) {
    text = "k" + std::string(claims.api_key);
  } else {
    text = "a" + std::string(client_part(claims.address));
  }
  // The length between them, so that no key can end like another key's person.
  if (!claims.user.empty()) text = "u" + std::to_string(text.size()) + ":" + text + std::string(claims.user);
  return half_of_hmac(secret, text);
}

std::string TenantTable::shared_address_name(const std::array<std::uint8_t, 16>& address, std::string_view secret) {
  return half_of_hmac(secret, "a" + std::string(client_part(address)));
}

std::string TenantTable::shown(const Tenant& tenant) const {
  if (tenant.named != 0 && named_[tenant.named - 1U].id == tenant.id) return named_[tenant.named - 1U].name;
  std::string out = tenant.named != 0 ? named_[tenant.named - 1U].name + "/" : std::string();
  for (int shift = 56; shift >= 0; shift -= 8) append_hex(out, static_cast<std::uint8_t>(tenant.id >> static_cast<unsigned>(shift)));
  return out;
}

std::string TenantTable::shown(std::uint64_t id) const {
  for (const Named& named : named_) {
    if (named.id == id) return named.name;
  }
  return shown(Tenant{id, 0});
}

}  // namespace perigee::admission
