// The differential of answers: what write_response_head gives a client, read by the second reader, is the answer that
// the first reader saw: same status, reason, fields in their order, one framing.
#include <algorithm>
#include <array>

#include "../http/strict_reader.h"
#include "fuzz.h"
#include "perigee/http/error_body.h"
#include "perigee/http/forward.h"
#include "perigee/http/parser.h"

namespace {

using namespace perigee;
using Field = std::pair<std::string, std::string>;

constexpr std::array<std::string_view, 13> kEndHere = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authentication-info", "proxy-authorization", "proxy-connection",
    "te", "trailer", "transfer-encoding", "upgrade", "http2-settings", "content-length", "x-perigee-reason"};

bool ends_here(const std::string& name) {
  return std::find(kEndHere.begin(), kEndHere.end(), name) != kEndHere.end();
}

void check(const fuzz::Exact& input, std::uint64_t choice) {
  http::RequestHead request;
  if ((choice & 1) != 0) request.method = http::Method::head;
  if ((choice & 2) != 0) request.version_minor = 0;
  const bool keep = (choice & 4) != 0;
  http::Expected expected;
  expected.method = request.method;
  if ((choice & 8) != 0) expected.upgrade_protocol = "websocket";
  http::HeaderTable table;
  http::ResponseHead head;
  http::ResponseParser parser;
  const http::HeadResult read = parser.parse_head(input.span(), http::HeadLimits{}, expected, head, table);
  if (!read.complete()) return;
  std::vector<Field> fields;
  for (const http::Header& field : table) fields.emplace_back(field.name, field.value);

  http::ResponseContext context;
  context.plan = http::plan_response(head, request, keep);
  context.client_minor = request.version_minor;
  context.upgrade = head.status == 101;
  context.request_id = "ours-1";
  context.date = "now";
  context.extra = "vary: Origin\r\n";
  ByteBuffer out;
  http::write_response_head(out, head, table, context);
  std::string sent(out.view());
  std::string body;
  const bool until_close = context.plan.framing == http::Framing::until_close;
  if (context.plan.framing == http::Framing::chunked) {
    body = "b";
    sent.append("1\r\nb\r\n0\r\n\r\n");
  } else if (context.plan.framing == http::Framing::length) {
    if (context.plan.content_length > 100'000) return;
    body.assign(static_cast<std::size_t>(context.plan.content_length), 'b');
    sent.append(body);
  }

  const test::StrictKind kind = request.method == http::Method::head ? test::StrictKind::answer_to_head
                                : until_close                        ? test::StrictKind::answer_until_close
                                                                     : test::StrictKind::answer;
  const test::StrictMessage seen = test::read_strictly(sent, kind);
  fuzz::demand_same(seen.wrong, "", "what is delivered is not canonical");
  fuzz::demand(seen.bytes == sent.size(), "more is delivered than one message");
  fuzz::demand_same(seen.line[1], std::to_string(head.status), "status");
  fuzz::demand_same(seen.line[2], head.reason.empty() ? http::status_text(head.status) : head.reason, "reason");
  fuzz::demand_same(seen.body, body, "body");
  const bool final_head = head.status >= 200;
  fuzz::demand(!final_head || (seen.count("date") >= 1 && seen.count("x-request-id") >= 1), "Date or X-Request-ID is missing");
  fuzz::demand(seen.count("x-perigee-reason") == 0 && seen.count("keep-alive") == 0 && seen.count("trailer") == 0,
               "a field that ends here went on");
  fuzz::demand(seen.count("connection") <= 1 && (seen.count("upgrade") == 0 || head.status == 101), "Connection and Upgrade");
  if (until_close) fuzz::demand_same(seen.value("connection"), "close", "a body until close, and not closed");

  std::size_t at = 0;
  for (const auto& [name, value] : fields) {
    const std::string lower = test::lower_case(name);
    if (at < seen.fields.size() && seen.fields[at].first == name && seen.fields[at].second == value && !ends_here(lower)) {
      ++at;
      continue;
    }
    bool named = false;
    for (const auto& [list_name, list] : fields)
      named |= test::lower_case(list_name) == "connection" && test::lower_case(list).find(lower) != std::string::npos;
    if (!named && !ends_here(lower)) fuzz::demand_same(name, "", "a field was lost");
  }
  static constexpr std::array<std::string_view, 7> kOurs = {"date",       "x-request-id", "content-length", "transfer-encoding",
                                                            "connection", "upgrade",      "vary"};
  for (; at < seen.fields.size(); ++at) {
    const std::string lower = test::lower_case(seen.fields[at].first);
    if (std::find(kOurs.begin(), kOurs.end(), lower) == kOurs.end()) fuzz::demand_same(lower, "", "a field appeared from nowhere");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::Exact input(fuzz::text_of(data, size));
  for (std::uint64_t choice = 0; choice < 16; ++choice) check(input, choice);
  return 0;
}
