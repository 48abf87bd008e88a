// The differential of requests: what write_request_head sends on, read by the second reader, is the message that the
// first reader saw: same method, target, host, fields in their order, framing and body. Nothing appears from nowhere,
// and only what may not pass is missing.
#include <algorithm>
#include <array>

#include "../http/strict_reader.h"
#include "fuzz.h"
#include "perigee/http/forward.h"
#include "perigee/http/parser.h"

namespace {

using namespace perigee;
using Field = std::pair<std::string, std::string>;

// The rules of src/http/README.md, written down a second time.
constexpr std::array<std::string_view, 11> kHopByHop = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authentication-info", "proxy-authorization", "proxy-connection",
    "te", "trailer", "transfer-encoding", "upgrade", "http2-settings"};
constexpr std::array<std::string_view, 12> kWrittenByUs = {
    "host", "content-length", "expect", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip",
    "x-request-id", "x-priority", "x-request-deadline", "forwarded", "x-forwarded-port"};

template <std::size_t N>
bool among(const std::array<std::string_view, N>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool listed(const std::vector<Field>& fields, std::string_view list_name, const std::string& wanted) {
  for (const auto& [name, value] : fields) {
    if (test::lower_case(name) != list_name) continue;
    std::string_view list = value;
    while (!list.empty()) {
      const std::size_t comma = list.find(',');
      std::string_view element = list.substr(0, comma);
      list = comma == std::string_view::npos ? std::string_view{} : list.substr(comma + 1);
      while (!element.empty() && (element.front() == ' ' || element.front() == '\t')) element.remove_prefix(1);
      while (!element.empty() && (element.back() == ' ' || element.back() == '\t')) element.remove_suffix(1);
      if (test::lower_case(element) == wanted) return true;
    }
  }
  return false;
}

// Whether a field of the request may be missing from what goes on.
bool may_be_missing(const std::vector<Field>& fields, const std::string& name, bool trusted) {
  if (among(kHopByHop, name) || listed(fields, "connection", name)) return true;
  if (trusted && name == "x-forwarded-port") return false;
  if (among(kWrittenByUs, name)) return true;
  return name.find_first_of("_.") != std::string::npos;  // an alias, perhaps
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::Exact input(fuzz::text_of(data, size));
  const std::uint64_t hash = fuzz::hash_of(input.view());
  http::HeaderTable table;
  http::RequestHead head;
  http::RequestParser parser;
  const http::HeadResult read = parser.parse_head(input.span(), http::HeadLimits{}, head, table);
  if (!read.complete()) return 0;
  std::vector<Field> fields;
  for (const http::Header& field : table) fields.emplace_back(field.name, field.value);

  http::ForwardContext context;
  context.peer = "192.0.2.7";
  context.request_id = "ours-1";
  context.trusted = (hash & 1) != 0;
  context.upgrade = (hash & 2) != 0;
  if (head.authority.empty() || (hash & 12) == 12) context.host = "localhost";
  context.framing = head.framing;
  context.content_length = std::min<std::uint64_t>(head.content_length, 3);
  ByteBuffer out;
  http::write_request_head(out, head, table, context);
  std::string sent(out.view());
  std::string body;
  if (head.framing == http::Framing::length) body.assign(static_cast<std::size_t>(context.content_length), 'b');
  if (head.framing == http::Framing::chunked) {
    body = "b";
    sent.append("1\r\nb\r\n0\r\n\r\n");
  } else {
    sent.append(body);
  }

  const test::StrictMessage seen = test::read_strictly(sent, test::StrictKind::request);
  fuzz::demand_same(seen.wrong, "", "what is forwarded is not canonical");
  fuzz::demand(seen.bytes == sent.size(), "more is forwarded than one message");
  fuzz::demand_same(seen.line[0], head.method_text, "method");
  fuzz::demand_same(seen.line[1], head.target, "target");
  fuzz::demand_same(seen.value("host"), context.host.empty() ? head.authority : context.host, "host");
  fuzz::demand_same(seen.body, body, "body");
  fuzz::demand(seen.count("via") >= 1 && seen.count("x-forwarded-for") == 1 && seen.count("x-real-ip") == 1 &&
                   seen.count("x-forwarded-proto") == 1 && seen.count("x-request-id") == 1 && seen.count("x-forwarded-host") <= 1,
               "a field of ours is missing or doubled");
  fuzz::demand(seen.count("expect") == 0 && seen.count("te") == 0 && seen.count("keep-alive") == 0 &&
                   seen.count("x-priority") == 0 && seen.count("trailer") == 0,
               "a field that ends here went on");
  const bool upgraded = seen.count("upgrade") == 1;
  fuzz::demand(seen.count("upgrade") <= 1 && seen.count("connection") == (upgraded ? 1U : 0U), "Connection and Upgrade");
  fuzz::demand(!upgraded || (head.upgrade != http::UpgradeKind::none && context.upgrade && seen.value("connection") == "Upgrade"),
               "an upgrade from nowhere");
  if (!context.trusted) fuzz::demand_same(seen.value("x-forwarded-for"), context.peer, "a stranger's X-Forwarded-For");

  // In their order, with their values, and nothing between them.
  std::size_t at = 1;  // behind Host
  for (const auto& [name, value] : fields) {
    const std::string lower = test::lower_case(name);
    const bool here = at < seen.fields.size() && seen.fields[at].first == name && seen.fields[at].second == value;
    // What Perigee writes itself could look like it, but stands at the end.
    const bool ours = lower == "host" || among(kHopByHop, lower) ||
                      (among(kWrittenByUs, lower) && !(context.trusted && lower == "x-forwarded-port"));
    if (here && !ours) {
      ++at;
      continue;
    }
    if (!may_be_missing(fields, lower, context.trusted)) fuzz::demand_same(name, "", "a field was lost");
  }
  fuzz::demand(at < seen.fields.size() && seen.fields[at].first == "Via", "a field appeared from nowhere");

  // And the first reader takes it too.
  http::RequestHead again;
  http::RequestParser second;
  const http::HeadResult reread = second.parse_head(sent, http::HeadLimits{.head_bytes_max = 128 * 1024, .headers_max = 120}, again, table);
  fuzz::demand(reread.complete() && again.target == head.target && again.framing == head.framing, "it cannot be read again");
  return 0;
}
