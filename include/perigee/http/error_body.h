// What a client sees when Perigee itself answers: one well-formed error, in the shape of the API called.
//
// Reason is the closed set of words for it: the value of `x-perigee-reason`, the `code` in the body, the
// label in metrics and logs.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "perigee/base/byte_buffer.h"
#include "perigee/http/sse.h"

namespace perigee::http {

enum class Reason : std::uint8_t {
  bad_request,
  request_timeout,
  too_large,
  forbidden,
  rate_limited,
  upstream_failed,
  queue_full,
  queue_timeout,
  throttled,
  no_backend,
  circuit_open,
  draining,
  upstream_timeout,
};
inline constexpr std::size_t kReasonCount = 13;

std::string_view to_string(Reason reason);
std::uint16_t default_status(Reason reason);  // 400 408 413 403 429 502 503 503 503 503 503 503 504
std::string_view default_message(Reason reason);
// The reason for a status that a parser refused with (400, 403, 405, 413, 414, 417, 431, 505, 502).
Reason reason_for_status(std::uint16_t status);
// "Bad Request" …; empty for a status we never send.
std::string_view status_text(std::uint16_t status);

enum class ErrorShape : std::uint8_t {
  fastapi,  // {"detail": "…"}
  openai,   // {"error": {"message", "type", "code", "param"}}
};
// By the decoded path.
ErrorShape error_shape(std::string_view path);

struct ErrorContext {
  Reason reason = Reason::bad_request;
  std::uint16_t status = 0;  // 0 = the reason's own
  std::string_view message;  // empty = the reason's own; literals or text, escaped here
  ErrorShape shape = ErrorShape::fastapi;
  std::string_view request_id;      // empty = leave out (never, once a head was read)
  std::uint32_t retry_after_s = 0;  // 0 = leave out
  std::string_view date;            // HTTP date; empty = leave out
  std::string_view extra;           // further whole lines with CRLF: CORS, RateLimit …
  bool close = false;
  bool keep_alive_1_0 = false;  // say Connection: keep-alive to an HTTP/1.0 client
  bool head = false;            // the request was HEAD: no body
};

// Head and body of the answer.
void write_error(ByteBuffer& out, const ErrorContext& context);

// The event that tells a client why its stream breaks off, in the words of its dialect; a stream of none gets
// an event of type `error`. At an event boundary only.
void write_sse_error(ByteBuffer& out, SseDialect dialect, Reason reason, std::string_view message = {});

// `text` between quotes as JSON: quotes, backslashes and controls escaped; at most `bytes_max` of it.
void append_json_string(ByteBuffer& out, std::string_view text, std::size_t bytes_max = 1024);

}  // namespace perigee::http
