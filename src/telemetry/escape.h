// Text that came from outside, made safe to stand in a JSON string or on a line of a log.
//
// Control characters (C0, DEL and C1: terminals obey them) become \u00XX, quotes and backslashes are
// escaped, every byte that is not part of well-formed UTF-8 becomes U+FFFD. Runs of plain text go eight
// bytes at a time: this is on the path of every request.
#pragma once

#include <cstddef>
#include <string_view>

namespace perigee::telemetry {

// The most bytes that one byte of input can become.
inline constexpr std::size_t kEscapeGrowth = 6;

// Writes the escaped text, without quotes, to `out`, which has room for kEscapeGrowth * text.size()
// bytes; returns the end.
char* escape_json(std::string_view text, char* out);

// `text` cut to at most `max` bytes, not within a character.
std::string_view cut_text(std::string_view text, std::size_t max);

// Length of the well-formed UTF-8 sequence at the start of `text` (not empty); 0 = not well-formed.
std::size_t utf8_length(std::string_view text);

}  // namespace perigee::telemetry
