// Whether this build runs under a sanitizer: what recycles memory by itself, or counts on speed, asks.
#pragma once

#if defined(__SANITIZE_ADDRESS__)
#define PERIGEE_ADDRESS_SANITIZER 1
#elif defined(__SANITIZE_THREAD__)
#define PERIGEE_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PERIGEE_ADDRESS_SANITIZER 1
#elif __has_feature(thread_sanitizer)
#define PERIGEE_THREAD_SANITIZER 1
#endif
#endif

namespace perigee {

#ifdef PERIGEE_ADDRESS_SANITIZER
inline constexpr bool kAddressSanitizer = true;
#else
inline constexpr bool kAddressSanitizer = false;
#endif
#ifdef PERIGEE_THREAD_SANITIZER
inline constexpr bool kThreadSanitizer = true;
#else
inline constexpr bool kThreadSanitizer = false;
#endif
inline constexpr bool kSanitized = kAddressSanitizer || kThreadSanitizer;

// Optimised and not instrumented: long simulations and many seeds are for these.
#ifdef __OPTIMIZE__
inline constexpr bool kFastBuild = !kSanitized;
#else
inline constexpr bool kFastBuild = false;
#endif

}  // namespace perigee
