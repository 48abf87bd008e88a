// W3C Trace Context (Recommendation of 2021-11-23): `traceparent` and `tracestate`.
//
// Perigee takes no spans of its own, so a valid context passes as it came, from anybody: what it says is for the
// workers' tracer to believe. A traceparent that is malformed, or sent twice, is dropped together with its
// tracestate, because readers differ in what they make of it; a tracestate that is too long or malformed is dropped
// alone. No allocation, any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "perigee/http/message.h"

namespace perigee::http {

inline constexpr std::size_t kTraceparentBytes = 55;  // 00-<32 hex>-<16 hex>-<2 hex>
using TraceId = std::array<std::uint8_t, 16>;         // all zero: none

struct TraceContext {
  bool valid = false;        // the traceparent is there, and good
  bool drop_parent = false;  // it is there, and must not pass
  bool drop_state = false;
  TraceId id{};              // with `valid`
};
[[nodiscard]] TraceContext read_trace_context(const HeaderTable& table);

// A traceparent of version 00, or of a later one as far as 00 reads it. False leaves `id` as it was.
[[nodiscard]] bool read_traceparent(std::string_view value, TraceId& id);
// Section 3.3: at most 32 members of `key=value`, 512 bytes in all.
[[nodiscard]] bool valid_tracestate(std::string_view value);

// `00-<id>-<parent>-01` (or -00). `id` and `parent` must not be zero.
std::array<char, kTraceparentBytes> write_traceparent(const TraceId& id, std::uint64_t parent, bool sampled);

}  // namespace perigee::http
