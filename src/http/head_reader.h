// Private: finds the end of a head, and has llhttp take it apart into a HeaderTable.
//
// llhttp runs over a head in one piece, from a parser on the stack: its spans then come whole, and no
// connection carries 96 bytes of parser state while a body or a stream goes by. What llhttp cannot judge is
// judged in request_parser.cpp and response_parser.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "perigee/http/message.h"
#include "perigee/http/parser.h"

namespace perigee::http {

struct HeadScan {
  enum class Status : std::uint8_t { more, found, bad_line_end };
  Status status = Status::more;
  std::size_t end = 0;  // found: just behind the empty line; bad_line_end: its LF
};
// Looks for CRLF CRLF, and for line ends that are not just CRLF, within the first `bytes_max` bytes, from `scanned` on, which it moves along.
HeadScan scan_head(std::string_view bytes, std::size_t bytes_max, std::uint32_t& scanned);

// What llhttp saw in a head.
struct ReadHead {
  std::string_view target;  // requests
  std::string_view reason;  // answers
  std::uint64_t content_length = 0;
  std::uint16_t status = 0;
  std::uint8_t method = 0;    // llhttp's number
  const char* end = nullptr;  // just behind the empty line, where llhttp stopped; with `complete`
  bool complete = false;      // the head ended; false: not HTTP, or not all of it
  bool too_many = false;      // more fields than allowed
  const char* wrong = nullptr;  // where llhttp says what is: a literal
};
// `bytes` may go on behind the head. Every line of a complete head ended in CRLF but perhaps the first.
ReadHead read_head(std::string_view bytes, bool request, std::size_t headers_max, HeaderTable& table);

// Digits only, below 2^63. False otherwise.
bool parse_length(std::string_view text, std::uint64_t& value);

// What the Connection fields say. Names of other fields are marked in the table (Header::hop).
struct ConnectionTokens {
  bool close = false;
  bool keep_alive = false;
  bool upgrade = false;
  bool malformed = false;    // an element that is no token
  bool names_known = false;  // names a known field that is not hop-by-hop
};
ConnectionTokens read_connection(HeaderTable& table);

// Framing as the fields tell it, alike for both directions; nullptr or what is wrong.
struct FieldFraming {
  Framing framing = Framing::none;  // none: neither field is there
  std::uint64_t content_length = 0;
};
const char* read_framing(const HeaderTable& table, std::uint8_t version_minor, FieldFraming& framing);

}  // namespace perigee::http
