// Private: from the text of a field name to its number, inlined into the reader of heads.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "bytes.h"
#include "perigee/http/header_name.h"

namespace perigee::http {

// A perfect hash over the first four and last four characters and the length. `kRotate` and `kFactor` were
// found by trial; when the list of names changes and the assertion below fails, try others.
inline constexpr unsigned kHashBits = 9;
inline constexpr unsigned kRotate = 15;
inline constexpr std::uint32_t kFactor = 0xec4d671bu;

constexpr std::uint32_t load4(const char* p) {
  return static_cast<std::uint32_t>(static_cast<unsigned char>(p[0])) |
         static_cast<std::uint32_t>(static_cast<unsigned char>(p[1])) << 8 |
         static_cast<std::uint32_t>(static_cast<unsigned char>(p[2])) << 16 |
         static_cast<std::uint32_t>(static_cast<unsigned char>(p[3])) << 24;
}

// For names of four characters and more. Token characters differ in bit 5 only where they are letters of
// different case (and `_` from 0x7f, `^` from `~`, which no known name contains).
constexpr std::uint32_t hash_of(std::string_view name) {
  const std::uint32_t head = load4(name.data()) | 0x20202020u;
  const std::uint32_t tail = load4(name.data() + name.size() - 4) | 0x20202020u;
  const std::uint32_t key =
      (head ^ std::rotl(tail, static_cast<int>(kRotate))) + static_cast<std::uint32_t>(name.size());
  return (key * kFactor) >> (32 - kHashBits);
}

struct NameTable {
  std::array<std::uint8_t, 1u << kHashBits> slot{};
  bool perfect = true;
};
constexpr NameTable make_name_table() {
  NameTable table;
  for (std::size_t id = 2; id < kHeaderNameCount; ++id) {
    if (kHeaderNames[id].size() < 4) continue;
    std::uint8_t& slot = table.slot[hash_of(kHeaderNames[id])];
    if (slot != 0) table.perfect = false;
    slot = static_cast<std::uint8_t>(id);
  }
  return table;
}
inline constexpr NameTable kNames = make_name_table();
static_assert(kNames.perfect, "two header names share a slot: choose another kRotate and kFactor");

inline std::uint64_t load8(const char* p) {
  std::uint64_t word = 0;
  std::memcpy(&word, p, 8);
  return word | 0x2020202020202020u;
}

// Same length, at least four; `known` in lower case.
inline bool same_name(std::string_view name, std::string_view known) {
  const std::size_t n = name.size();
  const char* a = name.data();
  const char* b = known.data();
  if (n < 8) {
    return ((load4(a) | 0x20202020u) ^ load4(b)) == 0 &&
           ((load4(a + n - 4) | 0x20202020u) ^ load4(b + n - 4)) == 0;
  }
  for (std::size_t i = 0; i + 8 < n; i += 8) {
    if (load8(a + i) != load8(b + i)) return false;
  }
  return load8(a + n - 8) == load8(b + n - 8);
}

inline HeaderName exact_name(std::string_view name) {
  if (name.size() < 4) {
    if (equals_ignoring_case(name, "te")) return HeaderName::te;
    if (equals_ignoring_case(name, "via")) return HeaderName::via;
    return HeaderName::other;
  }
  const std::size_t id = kNames.slot[hash_of(name)];
  const std::string_view known = kHeaderNames[id];
  return known.size() == name.size() && same_name(name, known) ? static_cast<HeaderName>(id)
                                                               : HeaderName::other;
}

// For a name that is not known: other, or an alias of a guarded one. Rare, in message.cpp.
HeaderName alias_or_other(std::string_view name);

inline HeaderName lookup_name(std::string_view name) {
  const HeaderName id = exact_name(name);
  return id != HeaderName::other ? id : alias_or_other(name);
}

}  // namespace perigee::http
