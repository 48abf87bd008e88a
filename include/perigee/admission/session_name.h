// A name for a session that its client did not name: the same wherever, and whenever, the same things are known of it.
//
// Made in two steps, because what a head says is gone when the body has come. SHA-256 cut to half, so that who sees a name
// learns neither key nor words, and nobody can make a conversation that gets another one's name. A microsecond, and ten
// more for each 4 KiB. Pure; any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace perigee::admission {

inline constexpr std::size_t kSessionNameBytes = 35;
using SessionSeed = std::array<char, 32>;
using SessionName = std::array<char, kSessionNameBytes>;

// Of all parts in their order; where one ends and the next begins counts.
[[nodiscard]] SessionSeed session_seed(std::span<const std::string_view> parts);
// `pg-` and 32 hex digits.
[[nodiscard]] SessionName session_name(const SessionSeed& seed, std::span<const std::string_view> parts);

}  // namespace perigee::admission
