// Judges request heads: what is malformed, ambiguous or not ours to serve never reaches a worker.
//
// The order of the checks is fixed (sizes, request line, version, method, then the fields), so that a request
// gets the same answer in one piece and byte by byte.
#include <llhttp.h>

#include <algorithm>

#include "bytes.h"
#include "head_reader.h"
#include "perigee/http/parser.h"
#include "perigee/http/upgrade.h"

namespace perigee::http {
namespace {

// Longer than any method and version: what a request line may have beside its target.
constexpr std::size_t kLineOverhead = 64;

struct Verdict {
  std::uint16_t status = 0;  // 0 = fine
  const char* reason = "";
};

HeadResult refuse(std::uint16_t status, const char* reason) {
  HeadResult result;
  result.status = HeadResult::Status::refused;
  result.http_status = status;
  result.reason = reason;
  return result;
}

// Of static storage, unlike the received one.
std::string_view method_name(std::uint8_t number) {
  switch (number) {
#define PERIGEE_HTTP_METHOD(value, name, text) \
  case value: return #text;
    HTTP_ALL_METHOD_MAP(PERIGEE_HTTP_METHOD)
#undef PERIGEE_HTTP_METHOD
    default: return "";
  }
}

Method method_of(std::uint8_t number) {
  switch (number) {
    case HTTP_GET: return Method::get;
    case HTTP_POST: return Method::post;
    case HTTP_HEAD: return Method::head;
    case HTTP_PUT: return Method::put;
    case HTTP_DELETE: return Method::del;
    case HTTP_OPTIONS: return Method::options;
    case HTTP_PATCH: return Method::patch;
    default: return Method::other;
  }
}

// Why a request line that llhttp did not take, or took too leniently, is refused. `line` ends before CRLF.
// A status of 0 says that nothing is wrong with the line.
Verdict judge_line(std::string_view line) {
  const std::size_t first = line.find(' ');
  const std::size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) return {400, "malformed request line"};
  const std::string_view method = line.substr(0, first);
  const std::string_view target = line.substr(first + 1, last - first - 1);
  const std::string_view version = line.substr(last + 1);
  if (!is_token(method) || target.empty() || target.find(' ') != std::string_view::npos) {
    return {400, "malformed request line"};
  }
  if (method == "PRI") return {400, "HTTP/2 is not spoken here"};
  const bool well_formed = version.size() == 8 && version.starts_with("HTTP/") && version[5] >= '0' &&
                           version[5] <= '9' && version[6] == '.' && version[7] >= '0' && version[7] <= '9';
  if (!well_formed) return {400, "malformed HTTP version"};
  if (version[5] != '1') return {505, "HTTP version is not 1.x"};
  if (version[7] > '1') return {400, "HTTP version is neither 1.0 nor 1.1"};
  if (method == "CONNECT" || method == "TRACE") return {405, "method not served"};
  return {};
}

constexpr std::array<bool, 256> make_host_table() {
  std::array<bool, 256> table{};
  for (std::size_t c = 0; c < 256; ++c) {
    table[c] = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
               c == '-' || c == '_' || c == '~';
  }
  return table;
}
constexpr std::array<bool, 256> kHostChar = make_host_table();

bool valid_port(std::string_view port) {
  if (port.empty() || port.size() > 5) return false;
  unsigned number = 0;
  for (const char c : port) {
    if (c < '0' || c > '9') return false;
    number = number * 10 + static_cast<unsigned>(c - '0');
  }
  return number >= 1 && number <= 65535;
}

// A registered name, an IPv4 address or a bracketed IPv6 one, and perhaps a port. No user, no list.
bool valid_authority(std::string_view host) {
  if (host.empty() || host.size() > 255 + 6) return false;
  const char* p = host.data();
  const char* const end = p + host.size();
  if (*p == '[') {
    const std::size_t close = host.find(']');
    if (close == std::string_view::npos || close < 3) return false;
    for (const char c : host.substr(1, close - 1)) {
      if (hex_value(c) < 0 && c != ':' && c != '.') return false;
    }
    p += close + 1;
  } else {
    while (p != end && kHostChar[byte_of(*p)])
      ++p;
    if (p == host.data()) return false;
  }
  if (p == end) return true;
  return *p == ':' && valid_port({p + 1, static_cast<std::size_t>(end - p) - 1});
}

std::string_view without_port(std::string_view authority, std::string_view default_port) {
  if (!authority.ends_with(default_port)) return authority;
  return authority.substr(0, authority.size() - default_port.size());
}

// "http://host[:port]/path" → its origin form, if it means the same place as Host.
const char* reduce_absolute_form(std::string_view& target, std::string_view host, Method method) {
  const std::size_t colon = target.find("://");
  if (colon == std::string_view::npos) return "target is neither a path nor a URL";
  std::string_view port;
  if (equals_ignoring_case(target.substr(0, colon), "http")) {
    port = ":80";
  } else if (equals_ignoring_case(target.substr(0, colon), "https")) {
    port = ":443";
  } else {
    return "target of a scheme that is not served";
  }
  const std::string_view rest = target.substr(colon + 3);
  const std::size_t slash = rest.find_first_of("/?");
  const std::string_view authority = rest.substr(0, slash);
  if (!valid_authority(authority)) return "malformed authority in the target";
  if (!same_ignoring_case(without_port(authority, port), without_port(host, port))) {
    return "target and Host name different places";
  }
  if (slash == std::string_view::npos) {
    target = method == Method::options ? "*" : "/";  // RFC 9112, 3.2.4
    return nullptr;
  }
  // "http://host?x" would need a slash that was not sent.
  if (rest[slash] == '?') return "target without a path";
  target = rest.substr(slash);
  return nullptr;
}

const char* judge_target(RequestHead& head) {
  if (!is_target_text(head.target)) return "target contains characters that a URL may not";
  if (head.target.front() == '/') return nullptr;
  if (head.target == "*") return head.method == Method::options ? nullptr : "target * is for OPTIONS";
  return reduce_absolute_form(head.target, head.authority, head.method);
}

const char* judge_host(RequestHead& head, const HeaderTable& table) {
  if (!table.has(HeaderName::host)) return head.version_minor == 0 ? nullptr : "no Host";
  if (table.repeated(HeaderName::host)) return "more than one Host";
  head.authority = table.value(HeaderName::host);
  return valid_authority(head.authority) ? nullptr : "malformed Host";
}

// llhttp forgives an HTTP/0.9 line and extra blanks. Good is exactly METHOD SP TARGET SP VERSION CRLF, of a
// method and a version that are served.
bool good_line(std::string_view text, const ReadHead& read, const HeadLimits& limits) {
  if (read.target.empty() || read.target.size() > limits.target_bytes_max) return false;
  if (read.method == HTTP_CONNECT || read.method == HTTP_TRACE || read.method == HTTP_PRI) return false;
  const char* const target = read.target.data();
  const char* const behind = target + read.target.size();
  if (text.data() + text.size() - behind < 11 || target - text.data() < 2) return false;
  return std::memcmp(behind, " HTTP/1.", 8) == 0 && (behind[8] == '1' || behind[8] == '0') &&
         behind[9] == '\r' && behind[10] == '\n' && target[-1] == ' ' && target[-2] != ' ' &&
         kTokenChar[byte_of(text[0])];
}

// The end of the head is not there: is it to be waited for?
HeadResult judge_unfinished(std::string_view bytes, const HeadLimits& limits, const HeadScan& scan) {
  const bool bad_line_end = scan.status == HeadScan::Status::bad_line_end;
  const std::string_view seen = bytes.substr(0, bad_line_end ? scan.end : limits.head_bytes_max);
  const std::size_t line = std::min(seen.find('\n', 2), seen.size());
  if (line > limits.target_bytes_max + kLineOverhead) return refuse(414, "target too long");
  if (bad_line_end) return refuse(400, "bare CR or LF in the head");
  if (bytes.size() >= limits.head_bytes_max) return refuse(431, "head over its bound");
  return {};
}

// A whole head, `text`: what is wrong with it, if anything.
HeadResult judge_whole(std::string_view text, const HeadLimits& limits, const ReadHead& read) {
  if (!kTokenChar[byte_of(text.front())]) return refuse(400, "malformed request line");
  const std::string_view line = text.substr(0, text.find('\r'));
  if (line.size() > limits.target_bytes_max + kLineOverhead) return refuse(414, "target too long");
  const Verdict verdict = judge_line(line);
  if (verdict.status != 0) return refuse(verdict.status, verdict.reason);
  if (read.target.size() > limits.target_bytes_max) return refuse(414, "target too long");
  if (read.too_many) return refuse(431, "too many header fields");
  if (!read.complete || read.end != text.data() + text.size() || !good_line(text, read, limits)) {
    return refuse(400, read.wrong != nullptr ? read.wrong : "malformed head");
  }
  return {};
}

}  // namespace

HeadResult RequestParser::parse_head(std::span<const char> received, const HeadLimits& limits,
                                     RequestHead& head, HeaderTable& table) {
  const std::string_view bytes(received.data(), received.size());
  if (bytes.empty()) return {};
  head = RequestHead();

  // Nearly always the whole head is there at once, and good: then nothing has to be looked for.
  std::size_t skip = 0;
  std::size_t end = 0;
  ReadHead read;
  if (scanned_ == 0) {
    read = read_head(bytes, true, limits.headers_max, table);
    if (read.complete) end = static_cast<std::size_t>(read.end - bytes.data());
  }
  if (end == 0 || end > limits.head_bytes_max || !good_line(bytes, read, limits)) {
    if (!kTokenChar[byte_of(bytes[0])] && bytes[0] != '\r') return refuse(400, "malformed request line");
    const HeadScan scan = scan_head(bytes, limits.head_bytes_max, scanned_);
    if (scan.status != HeadScan::Status::found) return judge_unfinished(bytes, limits, scan);
    scanned_ = 0;
    end = scan.end;
    // One empty line before a request is forgiven (RFC 9112, 2.2).
    skip = bytes.starts_with("\r\n") ? 2 : 0;
    const std::string_view text = bytes.substr(skip, end - skip);
    read = read_head(text, true, limits.headers_max, table);
    const HeadResult wrong = judge_whole(text, limits, read);
    if (wrong.refused()) return wrong;
  }

  head.method_text = method_name(read.method);
  head.target = read.target;
  head.method = method_of(read.method);
  head.version_minor = static_cast<std::uint8_t>(read.target.data()[read.target.size() + 8] - '0');
  head.head_bytes = static_cast<std::uint32_t>(end);

  if (const char* wrong = judge_host(head, table)) return refuse(400, wrong);
  if (const char* wrong = judge_target(head)) return refuse(400, wrong);

  FieldFraming framing;
  if (const char* wrong = read_framing(table, head.version_minor, framing)) return refuse(400, wrong);
  // Two readers, one answer.
  if (framing.framing == Framing::length && framing.content_length != read.content_length) {
    return refuse(400, "Content-Length is not a number");
  }
  head.framing = framing.framing;
  head.content_length = framing.content_length;

  ConnectionTokens tokens;
  if (table.has(HeaderName::connection)) tokens = read_connection(table);
  if (tokens.malformed) return refuse(400, "malformed Connection");
  if (tokens.names_known) return refuse(400, "Connection names a field that is not hop-by-hop");
  head.keep_alive = !tokens.close && (head.version_minor == 1 || tokens.keep_alive);

  if (table.has(HeaderName::expect)) {
    if (table.repeated(HeaderName::expect) ||
        !equals_ignoring_case(table.value(HeaderName::expect), "100-continue")) {
      return refuse(417, "unknown expectation");
    }
    // RFC 9110, 10.1.1: without meaning from HTTP/1.0 and without a body.
    head.expect_continue = head.version_minor == 1 && head.has_body();
  }

  if (table.has(HeaderName::upgrade)) {
    const UpgradeAsk ask = asked_upgrade(head, table, tokens.upgrade);
    if (ask.refused != nullptr) return refuse(400, ask.refused);
    head.upgrade = ask.kind;
    head.upgrade_protocol = ask.protocol;
  }

  body_.start(head.framing, head.content_length);
  HeadResult result;
  result.status = HeadResult::Status::head;
  result.consumed = end;
  return result;
}

BodyStep RequestParser::feed_body(std::span<const char> in, std::span<std::string_view> out) {
  return body_.decode(in, out);
}

}  // namespace perigee::http
