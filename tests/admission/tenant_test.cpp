#include "perigee/admission/tenant.h"

#include <set>

#include <doctest/doctest.h>

using namespace perigee;
using namespace perigee::admission;

namespace {

constexpr TenantSecret kSecret{0x0706050403020100ULL, 0x0F0E0D0C0B0A0908ULL};
constexpr std::array<std::uint8_t, 16> kAddress{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 10, 0, 0, 1};

Claims of_key(std::string_view key, std::string_view user = {}) {
  Claims claims;
  claims.api_key = key;
  claims.user = user;
  claims.address = kAddress;
  return claims;
}
Claims of_address(std::array<std::uint8_t, 16> address) {
  Claims claims;
  claims.address = address;
  return claims;
}

config::Tenant with_keys(std::vector<std::string> keys, std::vector<std::string> digests = {}) {
  config::Tenant tenant;
  tenant.keys = std::move(keys);
  tenant.key_sha256 = std::move(digests);
  return tenant;
}

const std::vector<std::pair<std::string, config::Tenant>> kNobody;

}  // namespace

TEST_CASE("a key is read as ORBIT reads it") {
  CHECK(api_key_of("a-key", "Bearer other") == "a-key");
  CHECK(api_key_of("", "Bearer a-key") == "a-key");
  CHECK(api_key_of("", "bEARER   a-key") == "a-key");
  CHECK(api_key_of("", "Basic dTpw").empty());
  CHECK(api_key_of("", "Bearer").empty());
  CHECK(api_key_of("", "").empty());
}

TEST_CASE("the hash is what its authors say, and depends on all of secret and text") {
  // Of nothing and of 00 01 … 0e under the key 00 … 0f, by a second implementation that also gives the vector of the
  // paper for SipHash-2-4 (a129ca6149be45e5).
  CHECK(keyed_hash(kSecret, "") == 0xabac0158050fc4dcULL);
  CHECK(keyed_hash(kSecret, std::string_view("\0\1\2\3\4\5\6\7\10\11\12\13\14\15\16", 15)) == 0xd320d86d2a519956ULL);
  std::string text;
  std::set<std::uint64_t> seen;
  for (int length = 0; length < 64; ++length) {
    seen.insert(keyed_hash(kSecret, text));
    seen.insert(keyed_hash({kSecret.k0, kSecret.k1 + 1}, text));
    seen.insert(keyed_hash({kSecret.k0 + 1, kSecret.k1}, text));
    seen.insert(keyed_hash(kSecret, text, 1));
    text.push_back(static_cast<char>(length));
  }
  CHECK(seen.size() == 256);
}

TEST_CASE("one key is one tenant, whoever brings it; without a key it is the address") {
  const TenantTable table(kSecret, kNobody);
  const Tenant a = table.identify(of_key("orbit_one"));
  CHECK(a.known());
  CHECK(a.named == 0);
  CHECK(table.identify(of_key("orbit_one")).id == a.id);
  CHECK(table.identify(of_key("orbit_two")).id != a.id);
  Claims elsewhere = of_key("orbit_one");
  elsewhere.address[15] = 9;
  CHECK(table.identify(elsewhere).id == a.id);

  const Tenant nobody = table.identify(of_address(kAddress));
  CHECK(nobody.id == table.address_id(kAddress));
  auto neighbour = kAddress;
  neighbour[15] = 2;
  CHECK(table.identify(of_address(neighbour)).id != nobody.id);
  // A key that looks like an address is none.
  CHECK(table.identify(of_key(std::string_view("\x0a\x00\x00\x01", 4))).id != nobody.id);
  CHECK(table.shown(a).size() == 16);
  CHECK(table.weight(a) == 1.0);
  CHECK_FALSE(table.priority(a));
}

TEST_CASE("IPv6 clients are known by their /64") {
  const TenantTable table(kSecret, kNobody);
  std::array<std::uint8_t, 16> one{0x20, 1, 0xd, 0xb8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1};
  auto same = one;
  same[15] = 200;
  same[8] = 7;
  auto other = one;
  other[7] = 2;
  CHECK(table.address_id(one) == table.address_id(same));
  CHECK(table.address_id(one) != table.address_id(other));
}

TEST_CASE("a person of a trusted peer is a tenant beside the key") {
  const TenantTable table(kSecret, {{"acme", with_keys({"orbit_acme-1"})}});
  const Tenant key = table.identify(of_key("orbit_acme-1"));
  const Tenant ann = table.identify(of_key("orbit_acme-1", "ann"));
  const Tenant bob = table.identify(of_key("orbit_acme-1", "bob"));
  CHECK(key.id != ann.id);
  CHECK(ann.id != bob.id);
  CHECK(ann.named == key.named);
  CHECK(table.identify(of_key("orbit_acme-2", "ann")).id != ann.id);
  CHECK(table.shown(key) == "acme");
  CHECK(table.shown(ann).starts_with("acme/"));
}

TEST_CASE("a name has one number for all its keys, written or as SHA-256") {
  config::Tenant acme = with_keys({"orbit_acme-old", "orbit_acme-new"},
                                  {"d3ae4a9f8d1b6c1a5b9bd4ab06d8f3f8bd6ca2e4dd5b3fe0f4c4b5a0b6f2a111"});
  acme.weight = 3;
  acme.priority = Priority::high;
  // SHA-256 of `abc`, the standard's first example.
  const TenantTable table(kSecret, {{"other", with_keys({"orbit_other-1"})},
                                    {"acme", acme},
                                    {"hashed", with_keys({}, {"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"})}});
  const Tenant before = table.identify(of_key("orbit_acme-old"));
  const Tenant after = table.identify(of_key("orbit_acme-new"));
  CHECK(before.named == 2);
  CHECK(before.id == after.id);
  CHECK(table.weight(after) == 3);
  CHECK(table.priority(after) == Priority::high);
  CHECK(table.identify(of_key("abc")).named == 3);
  CHECK(table.identify(of_key("abd")).named == 0);
  CHECK(table.identify(of_key("orbit_other-1")).named == 1);
  CHECK_FALSE(table.priority(table.identify(of_key("orbit_other-1"))));
}

TEST_CASE("what sidecars share has the same name in each, and not the key's") {
  const TenantTable here(kSecret, kNobody);
  const TenantTable there({1, 2}, kNobody);
  const Claims claims = of_key("orbit_one");
  const std::string name = here.shared_name(claims, here.identify(claims), "s3cret");
  CHECK(name.size() == 32);
  CHECK(name.find_first_not_of("0123456789abcdef") == std::string::npos);
  CHECK(there.shared_name(claims, there.identify(claims), "s3cret") == name);
  CHECK(there.shared_name(claims, there.identify(claims), "another") != name);
  CHECK(here.identify(claims).id != there.identify(claims).id);
  const Claims person = of_key("orbit_one", "ann");
  CHECK(here.shared_name(person, here.identify(person), "s3cret") != name);
  const Claims nobody = of_address(kAddress);
  CHECK(here.shared_name(nobody, here.identify(nobody), "s3cret") == TenantTable::shared_address_name(kAddress, "s3cret"));
}
