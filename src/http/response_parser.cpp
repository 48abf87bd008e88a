// Judges the heads of answers. A worker that breaks the protocol is not asked to explain itself: its
// connection is closed and the client gets 502, because bytes that two readers could divide differently may
// end up with the wrong client.
#include <algorithm>

#include "bytes.h"
#include "head_reader.h"
#include "perigee/http/parser.h"
#include "perigee/http/upgrade.h"

namespace perigee::http {
namespace {

HeadResult malformed(const char* reason) {
  HeadResult result;
  result.status = HeadResult::Status::refused;
  result.http_status = 502;
  result.reason = reason;
  return result;
}

// Exactly "HTTP/1.x SP DDD", then CRLF or SP and a reason phrase. `line` may be incomplete; false as soon as
// it cannot become one.
bool plausible_status_line(std::string_view line) {
  if (line.size() > 13 && line.starts_with("HTTP/1.1 ") && (line[12] == ' ' || line[12] == '\r')) {
    const auto digit = [&](std::size_t i) { return static_cast<unsigned char>(line[i] - '0') < 10; };
    return digit(9) && digit(10) && digit(11);
  }
  static constexpr std::string_view kShape = "HTTP/1.v ddd";
  for (std::size_t i = 0; i < std::min(line.size(), kShape.size()); ++i) {
    const char c = line[i];
    const char shape = kShape[i];
    const bool good = shape == 'v' ? c == '0' || c == '1' : shape == 'd' ? c >= '0' && c <= '9' : c == shape;
    if (!good) return false;
  }
  return line.size() <= kShape.size() || line[kShape.size()] == ' ' || line[kShape.size()] == '\r';
}

// The reason phrase, if there is one, ends in CRLF.
bool good_line(std::string_view text, const ReadHead& read) {
  const char* const behind = read.reason.empty() ? text.data() + 12 : read.reason.data() + read.reason.size();
  const std::string_view left(behind, static_cast<std::size_t>(text.data() + text.size() - behind));
  return left.starts_with("\r\n") || (read.reason.empty() && left.starts_with(" \r\n"));
}

bool is_event_stream(std::string_view type) {
  static constexpr std::string_view kType = "text/event-stream";
  return type.size() >= kType.size() && equals_ignoring_case(type.substr(0, kType.size()), kType) &&
         (type.size() == kType.size() || type[kType.size()] == ';' || type[kType.size()] == ' ');
}

}  // namespace

HeadResult ResponseParser::parse_head(std::span<const char> received, const HeadLimits& limits,
                                      const Expected& expected, ResponseHead& head, HeaderTable& table) {
  const std::string_view bytes(received.data(), received.size());
  if (bytes.empty()) return {};
  any_ = true;
  if (!plausible_status_line(bytes)) return malformed("malformed status line");

  // As with requests: first the common case, in which nothing has to be looked for.
  std::size_t end = 0;
  ReadHead read;
  if (scanned_ == 0) {
    read = read_head(bytes, false, limits.headers_max, table);
    if (read.complete) end = static_cast<std::size_t>(read.end - bytes.data());
  }
  if (end == 0 || end > limits.head_bytes_max || !good_line(bytes, read)) {
    const HeadScan scan = scan_head(bytes, limits.head_bytes_max, scanned_);
    if (scan.status == HeadScan::Status::bad_line_end) return malformed("bare CR or LF in the head");
    if (scan.status == HeadScan::Status::more) {
      if (bytes.size() >= limits.head_bytes_max) return malformed("head over its bound");
      return {};
    }
    scanned_ = 0;
    end = scan.end;
    const std::string_view text = bytes.substr(0, end);
    read = read_head(text, false, limits.headers_max, table);
    if (read.too_many) return malformed("too many header fields");
    if (!read.complete || read.end != text.data() + end || !good_line(text, read))
      return malformed("malformed head");
  }
  if (read.status < 100 || read.status > 599) return malformed("status out of range");
  if (!is_field_text(read.reason)) return malformed("control character in the reason phrase");

  head = ResponseHead();
  head.status = read.status;
  head.version_minor = static_cast<std::uint8_t>(bytes[7] - '0');
  head.reason = read.reason;
  head.head_bytes = static_cast<std::uint32_t>(end);

  FieldFraming framing;
  if (const char* wrong = read_framing(table, head.version_minor, framing)) return malformed(wrong);
  if (framing.framing == Framing::length && framing.content_length != read.content_length) {
    return malformed("Content-Length is not a number");
  }
  head.has_content_length = framing.framing == Framing::length;
  head.content_length = framing.content_length;

  ConnectionTokens tokens;
  if (table.has(HeaderName::connection)) tokens = read_connection(table);
  if (tokens.malformed) return malformed("malformed Connection");
  head.keep_alive = !tokens.close && (head.version_minor == 1 || tokens.keep_alive);

  const bool interim = head.interim();
  if (head.status == 101) {
    if (const char* wrong = check_switch(table, expected.upgrade_protocol)) return malformed(wrong);
    head.keep_alive = false;
  }
  // RFC 9112, 6.3: these have no body, whatever their fields say.
  const bool bodiless =
      expected.method == Method::head || head.status < 200 || head.status == 204 || head.status == 304;
  if (bodiless) {
    head.framing = Framing::none;
  } else if (framing.framing == Framing::none) {
    head.framing = Framing::until_close;
    head.keep_alive = false;
  } else {
    head.framing = framing.framing;
  }
  if (table.has(HeaderName::content_type))
    head.event_stream = is_event_stream(table.value(HeaderName::content_type));

  if (!interim) {
    final_head_ = true;
    body_.start(head.framing, head.content_length);
  }
  HeadResult result;
  result.status = HeadResult::Status::head;
  result.consumed = end;
  return result;
}

BodyStep ResponseParser::feed_body(std::span<const char> in, std::span<std::string_view> out) {
  BodyStep step = body_.decode(in, out);
  if (step.refused()) step.http_status = 502;
  return step;
}

ResponseEnd ResponseParser::finish(std::size_t unread) {
  if (!final_head_) return any_ || unread != 0 ? ResponseEnd::cut : ResponseEnd::nothing;
  if (body_.done() || body_.framing() == Framing::until_close) return ResponseEnd::complete;
  return ResponseEnd::cut;
}

}  // namespace perigee::http
