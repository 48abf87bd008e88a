// Small files of /proc and /sys, whole and bounded; and the words and numbers in them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace perigee::health {

inline constexpr std::size_t kFileMax = 256UL * 1024;

// At most kFileMax bytes; nothing if it cannot be read.
std::optional<std::string> read_file(const std::string& path);

std::string_view trim(std::string_view text);
// The next word up to a blank or line end, taken off the front; empty at the end.
std::string_view take_word(std::string_view& text);
// The next line without its end, taken off the front.
std::string_view take_line(std::string_view& text);
// All of `text` (trimmed) as a number.
std::optional<std::uint64_t> to_number(std::string_view text);
std::optional<std::uint64_t> number_in(const std::string& path);
// The number after `key` at the start of a line: "nr_periods 12", "MemTotal:   123 kB".
std::optional<std::uint64_t> number_after(std::string_view file, std::string_view key);

}  // namespace perigee::health
