// Counts what goes through operator new in this program, so that a test can say "none".
#pragma once

#include <cstdint>

#include "perigee/base/sanitizer.h"

namespace perigee::test {
std::uint64_t allocations();
// More seeds and longer runs are for optimised, uninstrumented builds.
constexpr bool kThorough = kFastBuild;
}  // namespace perigee::test
