// What a POST to the admin port asks for, or why it is refused. Pure.
#pragma once

#include <cstddef>
#include <expected>
#include <string>
#include <string_view>

#include "perigee/admin/control.h"

namespace perigee::admin {

inline constexpr std::size_t kChangeBytesMax = 4096;

struct Wrong {
  int status = 400;
  std::string detail;
};

// Whether this path is one of those that change something.
[[nodiscard]] bool is_change(std::string_view path);
// `path` without query, as received; `body` whole.
[[nodiscard]] std::expected<Change, Wrong> read_change(std::string_view path, std::string_view content_type, std::string_view body);

}  // namespace perigee::admin
