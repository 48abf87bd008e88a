// Bytes in, events out: the reader of requests and the reader of answers.
//
// A head is read from contiguous bytes: the caller keeps them until `parse_head` finds the empty line
// (bounded by HeadLimits; each call looks only at what is new), then llhttp takes the head apart once and
// the rules of src/http/README.md judge it. A body is cut into pieces that are views into the bytes fed, so
// nothing is copied. Bytes after the end of a message are never touched: they stay with the caller.
//
// A parser is a few words that live in the connection: it holds no buffer and no view. One thread.
// A refusal is final: answer, close, feed nothing more. `reason` is a literal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "perigee/http/message.h"

namespace perigee::http {

struct HeadLimits {
  // As much of an incomplete head as uvicorn itself keeps; 431 beyond.
  std::size_t head_bytes_max = 64 * 1024;
  std::size_t target_bytes_max = 8 * 1024;  // 414 beyond
  std::size_t headers_max = 100;            // at most HeaderTable::kCapacity; 431 beyond
};

struct HeadResult {
  enum class Status : std::uint8_t { need_more, head, refused };
  Status status = Status::need_more;
  // For requests 400, 405, 414, 417, 431 or 505; for answers always 502.
  std::uint16_t http_status = 0;
  const char* reason = "";
  std::size_t consumed = 0;  // with `head`: where the body begins

  [[nodiscard]] bool complete() const { return status == Status::head; }
  [[nodiscard]] bool refused() const { return status == Status::refused; }
};

// What one look at body bytes gave.
struct BodyStep {
  enum class Status : std::uint8_t {
    more,     // everything fed was used, or `out` is full (consumed < fed: call again)
    done,     // the message ended; bytes from `consumed` on belong to the next one
    refused,  // http_status 400 or 413 for requests, 502 for answers
  };
  Status status = Status::more;
  std::uint16_t http_status = 0;
  const char* reason = "";
  std::size_t consumed = 0;
  std::size_t pieces = 0;  // how many of `out` are filled, none of them empty
  std::size_t bytes = 0;   // their sizes together

  [[nodiscard]] bool done() const { return status == Status::done; }
  [[nodiscard]] bool refused() const { return status == Status::refused; }
};

// Takes the framing off a body (RFC 9112, 6 and 7.1). Chunk extensions are dropped (256 bytes each, 16 KiB
// a message at most), trailers too (8 KiB, 64 lines). 32 bytes.
class BodyDecoder {
 public:
  static constexpr std::uint64_t kNoBound = ~0ULL;

  BodyDecoder() = default;
  void start(Framing framing, std::uint64_t content_length);
  // Refuses with 413 a body longer than this, decoded.
  void bound(std::uint64_t bytes_max) { room_ = bytes_max; }

  // `out` needs at least one place.
  BodyStep decode(std::span<const char> in, std::span<std::string_view> out);

  [[nodiscard]] bool done() const { return state_ == State::done; }
  [[nodiscard]] Framing framing() const { return framing_; }
  // Bytes of a Framing::length body, or of the current chunk, still to come.
  [[nodiscard]] std::uint64_t remaining() const { return remaining_; }

 private:
  enum class State : std::uint8_t {
    done,
    data,
    endless,
    size_first,
    size,
    extension,
    size_lf,
    data_cr,
    data_lf,
    trailer_start,
    trailer_name,
    trailer_value,
    trailer_cr,
    last_cr,
    broken,
  };
  // Parses framing bytes from `p` on until data or the end; returns where it stopped, nullptr when broken.
  const char* skip_framing(const char* p, const char* end);
  const char* broken(const char* why);

  std::uint64_t remaining_ = 0;
  std::uint64_t room_ = kNoBound;  // decoded bytes still allowed
  std::uint32_t overhead_ = 0;     // extension or trailer bytes so far
  std::uint16_t line_ = 0;         // digits, extension bytes or trailer lines of the current part
  State state_ = State::done;
  Framing framing_ = Framing::none;
  const char* why_ = "";
};

// Reads what a client sends, one request after the other.
class RequestParser {
 public:
  // `bytes` begins at the first byte of this request and holds everything received since. On `head` both
  // `head` and `table` are filled and the body may be fed from `consumed` on.
  HeadResult parse_head(std::span<const char> bytes, const HeadLimits& limits, RequestHead& head,
                        HeaderTable& table);
  // For a body over `bytes_max` (decoded) the next feed answers 413. Compare content_length beforehand.
  void bound_body(std::uint64_t bytes_max) { body_.bound(bytes_max); }
  BodyStep feed_body(std::span<const char> in, std::span<std::string_view> out);
  [[nodiscard]] const BodyDecoder& body() const { return body_; }

 private:
  std::uint32_t scanned_ = 0;  // bytes of the head already looked at
  BodyDecoder body_;
};

// What the request said that decides how its answer is to be read.
struct Expected {
  Method method = Method::get;
  std::string_view upgrade_protocol;  // as in RequestHead; empty when no upgrade was forwarded
};

// How an answer stood when its connection ended.
enum class ResponseEnd : std::uint8_t {
  complete,  // the whole answer was there
  cut,       // it began and did not end
  nothing,   // not one byte of it
};

// Reads what a worker sends in answer to one request. Interim heads (1xx but 101) are handed out like
// any other; call parse_head again for the next. After 101 no body follows: the rest is the tunnel's.
class ResponseParser {
 public:
  HeadResult parse_head(std::span<const char> bytes, const HeadLimits& limits, const Expected& expected,
                        ResponseHead& head, HeaderTable& table);
  BodyStep feed_body(std::span<const char> in, std::span<std::string_view> out);
  // The worker closed. `unread` = bytes of a head that parse_head has not completed.
  ResponseEnd finish(std::size_t unread = 0);
  [[nodiscard]] const BodyDecoder& body() const { return body_; }
  // For the next answer on a kept connection.
  void reset() { *this = ResponseParser(); }

 private:
  std::uint32_t scanned_ = 0;
  bool final_head_ = false;
  bool any_ = false;
  BodyDecoder body_;
};

}  // namespace perigee::http
