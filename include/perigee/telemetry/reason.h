// Why a request ended as it did: one closed set for the access log, the metrics and the response header
// `x-perigee-reason`.
//
// `served` means that a worker's own answer went out whole, whatever its status. The others name the
// step that said no. A stream that broke after its first byte is `upstream_failed` (or `client_gone`,
// `cut`), and its StreamVerdict says the rest.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace perigee::telemetry {

enum class Reason : std::uint8_t {
  served,
  bad_request,       // malformed, ambiguous, or a method, expectation or version that we refuse
  request_timeout,   // head or body came too slowly
  too_large,         // body, target or header fields over their bound
  forbidden,         // an operator's route, and the peer is not trusted
  rate_limited,
  queue_full,
  queue_timeout,
  throttled,
  no_backend,
  circuit_open,
  draining,
  upstream_failed,   // the worker refused, reset or answered nonsense
  upstream_timeout,
  client_gone,       // the client left before its answer was whole
  cut,               // ended by us: the bound of a shutdown ran out
  internal_error,
};
inline constexpr std::size_t kReasonCount = 17;
inline constexpr std::array<std::string_view, kReasonCount> kReasonNames = {
    "served",     "bad_request",  "request_timeout", "too_large",       "forbidden",        "rate_limited",     "queue_full",
    "queue_timeout", "throttled", "no_backend",      "circuit_open",    "draining",         "upstream_failed",
    "upstream_timeout", "client_gone", "cut",        "internal_error"};

constexpr std::string_view to_string(Reason r) { return kReasonNames[static_cast<std::size_t>(r)]; }

// How a streamed answer ended; `none` for everything that is not a stream.
enum class StreamVerdict : std::uint8_t {
  none,
  completed,     // its terminal event was seen
  failed,        // it broke: reset, silence, a cut of ours
  stopped,       // ended by a stop for its request id
  unterminated,  // ended in good order but without its terminal event: ORBIT's way of saying "failed"
};
inline constexpr std::size_t kVerdictCount = 5;
inline constexpr std::array<std::string_view, kVerdictCount> kVerdictNames = {"none", "completed", "failed", "stopped",
                                                                              "unterminated"};

constexpr std::string_view to_string(StreamVerdict v) { return kVerdictNames[static_cast<std::size_t>(v)]; }

}  // namespace perigee::telemetry
