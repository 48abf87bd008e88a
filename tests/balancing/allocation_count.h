// Counts what goes through operator new in this program, so that a test can say "none".
#pragma once

#include <cstdint>

namespace perigee::test {
std::uint64_t allocations();
// More seeds and longer runs are for optimised, uninstrumented builds.
constexpr bool kThorough =
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
    false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    false;
#else
    true;
#endif
#else
    true;
#endif
}  // namespace perigee::test
