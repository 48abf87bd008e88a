// `${NAME}` and `${NAME:-default}` in values.
#pragma once

#include <expected>
#include <string>
#include <string_view>

#include "perigee/config/loader.h"

namespace perigee::config {

inline constexpr std::size_t kMaxSubstituted = std::size_t{64} << 10;

// The text with every variable replaced, or what is wrong. As in a shell and in ORBIT, a default also stands
// in for an empty value; a variable that is not set and has no default is an error. `$${` gives a plain `${`.
std::expected<std::string, std::string> substitute(std::string_view text, const Environment& environment);

bool has_variable(std::string_view text);

}  // namespace perigee::config
