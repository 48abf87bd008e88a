// Writes heads: which fields pass, which are ours, in one sweep over the table into memory reserved once.
//
// Neighbouring fields that stand in the received bytes just as we would write them are copied in one go; the
// result is the same as writing each of them.
#include "perigee/http/forward.h"

#include "bytes.h"
#include "perigee/http/error_body.h"
#include "perigee/http/forwarded.h"

namespace perigee::http {
namespace {

constexpr HeaderSet kRewritten = {HeaderName::host,
                                  HeaderName::content_length,
                                  HeaderName::expect,
                                  HeaderName::forwarded,
                                  HeaderName::x_forwarded_for,
                                  HeaderName::x_forwarded_host,
                                  HeaderName::x_forwarded_proto,
                                  HeaderName::x_real_ip,
                                  HeaderName::x_request_id,
                                  HeaderName::x_priority,
                                  HeaderName::x_request_deadline,
                                  HeaderName::alias};
constexpr HeaderSet kFromTrusted = {HeaderName::x_forwarded_port};

constexpr HeaderSet kDropTrusted = kHopByHop | kRewritten;
constexpr HeaderSet kDropUntrusted = kDropTrusted | kFromTrusted;
constexpr HeaderSet kDropFromResponse =
    kHopByHop | HeaderSet{HeaderName::content_length, HeaderName::x_perigee_reason};

// Appends to memory that is known to suffice.
class Writer {
 public:
  explicit Writer(char* to) : to_(to) {}
  template <std::size_t N>
  void literal(const char (&text)[N]) {
    std::memcpy(to_, text, N - 1);
    to_ += N - 1;
  }
  void text(std::string_view text) {
    if (text.empty()) return;
    std::memcpy(to_, text.data(), text.size());
    to_ += text.size();
  }
  void number(std::uint64_t value) { to_ = std::to_chars(to_, to_ + 20, value).ptr; }
  [[nodiscard]] const char* end() const { return to_; }

 private:
  char* to_;
};

std::size_t size_of(const HeaderTable& table) {
  std::size_t bytes = 0;
  for (const Header& field : table)
    bytes += field.name.size() + field.value.size() + 4;
  return bytes;
}

void write_fields(Writer& out, const HeaderTable& table, const HeaderSet& dropped) {
  const char* run_begin = nullptr;
  const char* run_end = nullptr;
  for (const Header& field : table) {
    if (dropped.contains(field.id) || field.hop) continue;
    if (field.canonical && field.name.data() == run_end) {
      run_end = field.value.data() + field.value.size() + 2;
      continue;
    }
    out.text({run_begin, static_cast<std::size_t>(run_end - run_begin)});
    run_begin = run_end = nullptr;
    if (field.canonical) {
      run_begin = field.name.data();
      run_end = field.value.data() + field.value.size() + 2;
      continue;
    }
    out.text(field.name);
    out.literal(": ");
    out.text(field.value);
    out.literal("\r\n");
  }
  out.text({run_begin, static_cast<std::size_t>(run_end - run_begin)});
}

// The only value of a field, or nothing: a field sent twice says nothing that can be believed.
std::string_view single(const HeaderTable& table, HeaderName id) {
  return table.repeated(id) ? std::string_view{} : table.value(id);
}

void write_forwarded(Writer& out, const RequestHead& head, const HeaderTable& table,
                     const ForwardContext& context) {
  static constexpr HeaderSet kOurs = {HeaderName::x_forwarded_for, HeaderName::x_forwarded_host,
                                      HeaderName::x_forwarded_proto, HeaderName::x_real_ip};
  const bool merge = context.trusted && table.present().intersects(kOurs);

  out.literal("X-Forwarded-For: ");
  if (merge && table.has(HeaderName::x_forwarded_for)) {
    for (const Header& field : table) {
      if (field.id != HeaderName::x_forwarded_for || field.value.empty()) continue;
      out.text(field.value);
      out.literal(", ");
    }
  }
  out.text(context.peer);
  const std::string_view proto = merge ? single(table, HeaderName::x_forwarded_proto) : std::string_view{};
  out.literal("\r\nX-Forwarded-Proto: ");
  out.text(proto.empty() ? context.scheme : proto);
  const std::string_view host = merge ? single(table, HeaderName::x_forwarded_host) : std::string_view{};
  if (!host.empty() || !head.authority.empty()) {
    out.literal("\r\nX-Forwarded-Host: ");
    out.text(host.empty() ? head.authority : host);
  }
  const std::string_view real = merge ? single(table, HeaderName::x_real_ip) : std::string_view{};
  out.literal("\r\nX-Real-IP: ");
  out.text(!real.empty() ? real : context.client.empty() ? context.peer : context.client);
  out.literal("\r\n");
}

// Our own element of `Forwarded`: an IPv6 address in brackets and quotes, a name of our own for who has none.
void write_forwarded_element(Writer& out, const RequestHead& head, const ForwardContext& context) {
  out.literal("for=");
  if (context.peer.find(':') != std::string_view::npos) {
    out.literal("\"[");
    out.text(context.peer);
    out.literal("]\"");
  } else if (context.peer.find('.') == std::string_view::npos) {
    out.literal("_");
    out.text(context.peer);
  } else {
    out.text(context.peer);
  }
  if (!head.authority.empty() && head.authority.find_first_of("\"\\") == std::string_view::npos) {
    out.literal(";host=\"");
    out.text(head.authority);
    out.literal("\"");
  }
  out.literal(";proto=");
  out.text(context.scheme);
  out.literal("\r\n");
}

// Where a trusted peer speaks RFC 7239 we go on in it; lines that nobody can read are left out.
void write_rfc7239(Writer& out, const RequestHead& head, const HeaderTable& table, const ForwardContext& context) {
  if (!context.trusted || !table.has(HeaderName::forwarded)) return;
  out.literal("Forwarded: ");
  for (const Header& field : table) {
    if (field.id != HeaderName::forwarded || field.value.empty() || !valid_forwarded(field.value)) continue;
    out.text(field.value);
    out.literal(", ");
  }
  write_forwarded_element(out, head, context);
}

HeaderSet dropped_from_request(const ForwardContext& context) {
  HeaderSet dropped = context.trusted ? kDropTrusted : kDropUntrusted;
  if (context.drop_traceparent) dropped.insert(HeaderName::traceparent);
  if (context.drop_tracestate) dropped.insert(HeaderName::tracestate);
  return dropped;
}

void write_framing(Writer& out, Framing framing, std::uint64_t content_length) {
  if (framing == Framing::length) {
    out.literal("Content-Length: ");
    out.number(content_length);
    out.literal("\r\n");
  } else if (framing == Framing::chunked) {
    out.literal("Transfer-Encoding: chunked\r\n");
  }
}

void write_status_line(Writer& out, const ResponseHead& head) {
  out.literal("HTTP/1.1 ");
  out.number(head.status);
  out.literal(" ");
  out.text(head.reason.empty() ? status_text(head.status) : head.reason);
  out.literal("\r\n");
}

}  // namespace

bool valid_request_id(std::string_view id) {
  if (id.empty() || id.size() > 128) return false;
  for (const char c : id) {
    const bool good = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
                      c == '-' || c == '_' || c == '.' || c == ':' || c == '+' || c == '/' || c == '=' ||
                      c == '@';
    if (!good) return false;
  }
  return true;
}

std::string_view request_id_for(const HeaderTable& table, std::string_view generated) {
  const std::string_view sent = single(table, HeaderName::x_request_id);
  return valid_request_id(sent) ? sent : generated;
}

void write_request_head(ByteBuffer& out, const RequestHead& head, const HeaderTable& table,
                        const ForwardContext& context) {
  const std::string_view host = context.host.empty() ? head.authority : context.host;
  Writer to(out.prepare(size_of(table) + head.method_text.size() + head.target.size() + host.size() +
                        2 * head.authority.size() + 3 * context.peer.size() + 2 * context.scheme.size() +
                        context.client.size() + context.traceparent.size() + context.request_id.size() +
                        head.upgrade_protocol.size() + 448));
  to.text(head.method_text);
  to.literal(" ");
  to.text(head.target);
  to.literal(" HTTP/1.1\r\nHost: ");
  to.text(host);
  to.literal("\r\n");
  write_fields(to, table, dropped_from_request(context));
  if (head.version_minor == 1) {
    to.literal("Via: 1.1 perigee\r\n");
  } else {
    to.literal("Via: 1.0 perigee\r\n");
  }
  write_forwarded(to, head, table, context);
  write_rfc7239(to, head, table, context);
  if (!context.traceparent.empty()) {
    to.literal("traceparent: ");
    to.text(context.traceparent);
    to.literal("\r\n");
  }
  const std::string_view id = request_id_for(table, context.request_id);
  if (!id.empty()) {
    to.literal("X-Request-ID: ");
    to.text(id);
    to.literal("\r\n");
  }
  write_framing(to, context.framing, context.content_length);
  if (context.upgrade && head.upgrade != UpgradeKind::none) {
    to.literal("Connection: Upgrade\r\nUpgrade: ");
    to.text(head.upgrade_protocol);
    to.literal("\r\n");
  }
  to.literal("\r\n");
  out.commit_to(to.end());
}

ResponsePlan plan_response(const ResponseHead& response, const RequestFacts& request, bool keep_alive) {
  ResponsePlan plan;
  plan.close = !keep_alive;
  plan.framing = response.framing;
  plan.content_length = response.content_length;
  if (response.framing == Framing::chunked || response.framing == Framing::until_close) {
    plan.framing = request.version_minor == 1 ? Framing::chunked : Framing::until_close;
    plan.close |= request.version_minor == 0;
  }
  return plan;
}

void write_response_head(ByteBuffer& out, const ResponseHead& head, const HeaderTable& table,
                         const ResponseContext& context) {
  Writer to(out.prepare(size_of(table) + head.reason.size() + context.request_id.size() +
                        context.date.size() + context.extra.size() + 320));
  write_status_line(to, head);
  write_fields(to, table, kDropFromResponse);
  if (head.status == 101) {
    if (context.upgrade) {
      to.literal("Connection: Upgrade\r\nUpgrade: ");
      to.text(table.value(HeaderName::upgrade));
      to.literal("\r\n");
    }
  } else if (head.status >= 200) {
    if (!context.date.empty() && !table.has(HeaderName::date)) {
      to.literal("Date: ");
      to.text(context.date);
      to.literal("\r\n");
    }
    if (!context.request_id.empty() && !table.has(HeaderName::x_request_id)) {
      to.literal("X-Request-ID: ");
      to.text(context.request_id);
      to.literal("\r\n");
    }
    // Where no body follows, the length that the worker told is still the answer to HEAD and 304.
    const bool told = context.plan.framing == Framing::none && head.has_content_length && head.status != 204;
    write_framing(to, told ? Framing::length : context.plan.framing,
                  told ? head.content_length : context.plan.content_length);
    if (context.plan.close) {
      to.literal("Connection: close\r\n");
    } else if (context.client_minor == 0) {
      to.literal("Connection: keep-alive\r\n");
    }
  }
  if (head.status >= 200) to.text(context.extra);
  to.literal("\r\n");
  out.commit_to(to.end());
}

}  // namespace perigee::http
