// The part of reading a head that requests and answers share.
#include "head_reader.h"

#include <llhttp.h>

#include <algorithm>

#include "bytes.h"
#include "header_lookup.h"

namespace perigee::http {
namespace {

// Receives llhttp's spans. A head is fed in one piece, so each span comes whole; anything else is a fault.
struct Sink {
  Header* next;         // the place of the field in hand
  const Header* limit;  // behind the last that is allowed
  const char* end;      // of what is fed
  bool named;           // the field in hand has its name and waits for its value
  ReadHead head;

  // A name that llhttp gives no value for has an empty one.
  void add_empty() {
    next->value = {next->name.data() + next->name.size(), 0};
    next->canonical = false;
    ++next;
    named = false;
  }
};

Sink& sink_of(llhttp_t* parser) {
  return *static_cast<Sink*>(parser->data);
}

int on_target(llhttp_t* parser, const char* at, std::size_t size) {
  std::string_view& target = sink_of(parser).head.target;
  if (!target.empty()) return -1;
  target = {at, size};
  return 0;
}
int on_reason(llhttp_t* parser, const char* at, std::size_t size) {
  std::string_view& reason = sink_of(parser).head.reason;
  if (!reason.empty()) return -1;
  reason = {at, size};
  return 0;
}
int on_name(llhttp_t* parser, const char* at, std::size_t size) {
  Sink& sink = sink_of(parser);
  if (sink.named) sink.add_empty();
  Header* const field = sink.next;
  if (field == sink.limit) {
    sink.head.too_many = true;
    return -1;
  }
  field->name = {at, size};
  field->id = lookup_name({at, size});
  field->hop = false;
  sink.named = true;
  return 0;
}
int on_value(llhttp_t* parser, const char* at, std::size_t size) {
  Sink& sink = sink_of(parser);
  if (!sink.named) return -1;
  sink.named = false;
  Header* const field = sink.next++;
  const char* const colon = field->name.data() + field->name.size();
  if (size == 0) {
    // Of an empty value llhttp tells only when it has looked into the next line.
    field->value = {colon + 1, 0};
    field->canonical = false;
    return at - colon >= 3 && at[-2] == '\r' && at[-1] == '\n' ? 0 : -1;
  }
  const char* const line_end = at + size;
  if (sink.end - line_end >= 2 && (line_end[0] != '\r' || line_end[1] != '\n')) return -1;
  const char* value_end = line_end;
  while (value_end != at && (value_end[-1] == ' ' || value_end[-1] == '\t'))
    --value_end;
  field->value = {at, static_cast<std::size_t>(value_end - at)};
  field->canonical = at == colon + 2 && colon[1] == ' ' && value_end == line_end;
  return 0;
}
int on_headers_complete(llhttp_t* parser) {
  Sink& sink = sink_of(parser);
  if (sink.named) sink.add_empty();
  sink.head.content_length = parser->content_length;
  sink.head.status = parser->status_code;
  sink.head.method = parser->method;
  sink.head.complete = true;
  return HPE_PAUSED;
}

const llhttp_settings_t& settings() {
  static const llhttp_settings_t kSettings = [] {
    llhttp_settings_t made;
    llhttp_settings_init(&made);
    made.on_url = on_target;
    made.on_status = on_reason;
    made.on_header_field = on_name;
    made.on_header_value = on_value;
    made.on_headers_complete = on_headers_complete;
    return made;
  }();
  return kSettings;
}

// A tab between the colon and the value, or behind it. RFC 9110 counts it as a blank, but readers that do not are
// known, and nobody honest writes one into a field that divides messages. `field` lies in a received head.
bool tab_around(const Header& field) {
  if (field.canonical) return false;
  const char* const value_end = field.value.data() + field.value.size();
  for (const char* p = field.name.data() + field.name.size() + 1; p < field.value.data(); ++p) {
    if (*p == '\t') return true;
  }
  for (const char* p = value_end; *p != '\r'; ++p) {
    if (*p == '\t') return true;
  }
  return false;
}

}  // namespace

HeadScan scan_head(std::string_view bytes, std::size_t bytes_max, std::uint32_t& scanned) {
  const char* const begin = bytes.data();
  const char* const end = begin + std::min(bytes.size(), bytes_max);
  const char* p = begin + std::min<std::size_t>(scanned, static_cast<std::size_t>(end - begin));
  HeadScan scan;
  while (p < end) {
    const void* hit = std::memchr(p, '\n', static_cast<std::size_t>(end - p));
    if (hit == nullptr) break;
    p = static_cast<const char*>(hit);
    // CR CR LF would keep an empty line from being one: the head would never end.
    if (p == begin || p[-1] != '\r' || (p - begin >= 2 && p[-2] == '\r')) {
      scan.status = HeadScan::Status::bad_line_end;
      scan.end = static_cast<std::size_t>(p - begin);
      return scan;
    }
    ++p;
    // The line feed before, if it stands here, was seen to follow its CR.
    if (p - begin >= 4 && p[-3] == '\n') {
      scan.status = HeadScan::Status::found;
      scan.end = static_cast<std::size_t>(p - begin);
      return scan;
    }
  }
  scanned = static_cast<std::uint32_t>(end - begin);
  return scan;
}

ReadHead read_head(std::string_view bytes, bool request, std::size_t headers_max, HeaderTable& table) {
  Header* const places = table.places();
  Sink sink{
      places, places + std::min(headers_max, HeaderTable::kCapacity), bytes.data() + bytes.size(), false, {}};
  table.clear();
  llhttp_t parser;
  llhttp_init(&parser, request ? HTTP_REQUEST : HTTP_RESPONSE, &settings());
  parser.data = &sink;
  const llhttp_errno_t error = llhttp_execute(&parser, bytes.data(), bytes.size());
  sink.head.end = parser.error_pos;
  sink.head.complete = sink.head.complete && error == HPE_PAUSED && sink.head.end != nullptr &&
                       sink.head.end - bytes.data() >= 4 &&
                       std::memcmp(sink.head.end - 4, "\r\n\r\n", 4) == 0;
  // Its own errors come first in its list; what our callbacks refuse is none of them.
  if (const int code = error; code > 0 && code < HPE_CB_MESSAGE_BEGIN) sink.head.wrong = parser.reason;
  if (sink.head.complete) table.filled(static_cast<std::size_t>(sink.next - places));
  return sink.head;
}

bool parse_length(std::string_view text, std::uint64_t& value) {
  if (text.empty() || text.size() > 19) return false;
  std::uint64_t sum = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
    sum = sum * 10 + static_cast<std::uint64_t>(c - '0');
  }
  if (sum > 0x7fff'ffff'ffff'ffffULL) return false;
  value = sum;
  return true;
}

ConnectionTokens read_connection(HeaderTable& table) {
  ConnectionTokens tokens;
  if (!table.repeated(HeaderName::connection)) {
    const std::string_view only = table.value(HeaderName::connection);
    tokens.keep_alive = only == "keep-alive";
    tokens.close = only == "close";
    if (tokens.keep_alive || tokens.close) return tokens;
  }
  for (const Header& field : table) {
    if (field.id != HeaderName::connection) continue;
    std::string_view list = field.value;
    while (!list.empty()) {
      const std::string_view element = next_element(list);
      if (element.empty()) continue;
      if (equals_ignoring_case(element, "keep-alive")) {
        tokens.keep_alive = true;
      } else if (equals_ignoring_case(element, "close")) {
        tokens.close = true;
      } else if (equals_ignoring_case(element, "upgrade")) {
        tokens.upgrade = true;
      } else if (!is_token(element)) {
        tokens.malformed = true;
      } else if (const HeaderName id = header_name_from(element); id != HeaderName::other) {
        tokens.names_known |= !kHopByHop.contains(id);
      } else {
        for (Header& named : table.headers()) {
          named.hop |= named.id == HeaderName::other && same_ignoring_case(named.name, element);
        }
      }
    }
    if (!table.repeated(HeaderName::connection)) break;
  }
  return tokens;
}

const char* read_framing(const HeaderTable& table, std::uint8_t version_minor, FieldFraming& framing) {
  const bool length = table.has(HeaderName::content_length);
  if (table.has(HeaderName::transfer_encoding)) {
    if (length) return "Content-Length together with Transfer-Encoding";
    if (version_minor == 0) return "Transfer-Encoding in HTTP/1.0";
    if (table.repeated(HeaderName::transfer_encoding)) return "more than one Transfer-Encoding";
    if (!equals_ignoring_case(table.value(HeaderName::transfer_encoding), "chunked")) {
      return "Transfer-Encoding is not just chunked";
    }
    if (tab_around(*table.find(HeaderName::transfer_encoding))) return "tab around Transfer-Encoding";
    framing.framing = Framing::chunked;
  } else if (length) {
    if (table.repeated(HeaderName::content_length)) return "more than one Content-Length";
    if (!parse_length(table.value(HeaderName::content_length), framing.content_length)) {
      return "Content-Length is not a number";
    }
    if (tab_around(*table.find(HeaderName::content_length))) return "tab around Content-Length";
    framing.framing = Framing::length;
  }
  return nullptr;
}

}  // namespace perigee::http
