#include "perigee/admission/session_name.h"

#include <openssl/sha.h>

#include <algorithm>
#include <string>

namespace perigee::admission {

namespace {

void add(std::string& all, std::string_view part) {
  for (std::uint64_t size = part.size(), i = 0; i < 8; ++i, size >>= 8U) all.push_back(static_cast<char>(size & 0xFFU));
  all.append(part);
}

SessionSeed digest_of(std::string_view bytes) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest.data());
  SessionSeed out;
  std::ranges::transform(digest, out.begin(), [](unsigned char c) { return static_cast<char>(c); });
  return out;
}

}  // namespace

SessionSeed session_seed(std::span<const std::string_view> parts) {
  std::string all;
  for (const std::string_view part : parts) add(all, part);
  return digest_of(all);
}

SessionName session_name(const SessionSeed& seed, std::span<const std::string_view> parts) {
  std::string all(seed.data(), seed.size());
  for (const std::string_view part : parts) add(all, part);
  const SessionSeed digest = digest_of(all);
  SessionName name{'p', 'g', '-'};
  for (std::size_t i = 0; i < 16; ++i) {
    const auto byte = static_cast<unsigned char>(digest[i]);
    name[3 + 2 * i] = "0123456789abcdef"[byte >> 4U];
    name[4 + 2 * i] = "0123456789abcdef"[byte & 15U];
  }
  return name;
}

}  // namespace perigee::admission
