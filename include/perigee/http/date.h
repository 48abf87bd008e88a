// The Date field: "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110, 5.6.7), without locale or libc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace perigee::http {

inline constexpr std::size_t kHttpDateBytes = 29;

// `wall_ms` since 1970, not before it and before the year 10000. About 100 instructions; format it once a
// second all the same.
void format_http_date(std::int64_t wall_ms, std::span<char, kHttpDateBytes> out);

}  // namespace perigee::http
