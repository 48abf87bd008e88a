// The table of header fields, the slow half of the lookup of their names, and the moving of views.
#include "perigee/http/message.h"

#include "bytes.h"
#include "header_lookup.h"

namespace perigee::http {
namespace {

// Fields whose forgery under another spelling could matter to a reader that maps `_` (WSGI, CGI) or `.`.
constexpr HeaderSet kGuarded = kHopByHop | HeaderSet{HeaderName::host,
                                                     HeaderName::content_length,
                                                     HeaderName::content_type,
                                                     HeaderName::expect,
                                                     HeaderName::authorization,
                                                     HeaderName::cookie,
                                                     HeaderName::forwarded,
                                                     HeaderName::via,
                                                     HeaderName::x_forwarded_for,
                                                     HeaderName::x_forwarded_host,
                                                     HeaderName::x_forwarded_port,
                                                     HeaderName::x_forwarded_proto,
                                                     HeaderName::x_real_ip,
                                                     HeaderName::x_request_id,
                                                     HeaderName::x_priority,
                                                     HeaderName::x_request_deadline,
                                                     HeaderName::x_api_key,
                                                     HeaderName::x_session_id,
                                                     HeaderName::x_user_id,
                                                     HeaderName::x_perigee_reason,
                                                     HeaderName::mcp_session_id};

}  // namespace

// Rare: only names that are not known come here.
HeaderName alias_or_other(std::string_view name) {
  std::array<char, 40> mapped{};
  if (name.size() > mapped.size()) return HeaderName::other;
  bool changed = false;
  for (std::size_t i = 0; i < name.size(); ++i) {
    const bool map = name[i] == '_' || name[i] == '.';
    mapped[i] = map ? '-' : name[i];
    changed |= map;
  }
  if (!changed) return HeaderName::other;
  return kGuarded.contains(exact_name({mapped.data(), name.size()})) ? HeaderName::alias : HeaderName::other;
}

HeaderName header_name_from(std::string_view name) {
  return lookup_name(name);
}

std::string_view to_string(Method method) {
  static constexpr std::array<std::string_view, 8> kNamesOfMethods = {"GET",    "HEAD",    "POST",  "PUT",
                                                                      "DELETE", "OPTIONS", "PATCH", "other"};
  return kNamesOfMethods[static_cast<std::size_t>(method)];
}

bool HeaderTable::add(std::string_view name, std::string_view value) {
  if (size_ == kCapacity) return false;
  headers_[size_] = Header{name, value, lookup_name(name), false, false};
  filled(size_ + 1);
  return true;
}

void HeaderTable::filled(std::size_t count) {
  size_ = count;
  std::array<std::uint64_t, 2> seen{};
  std::array<std::uint64_t, 2> again{};
  // From the last to the first, so that what stands in first_ at the end is the first.
  for (std::size_t i = count; i-- > 0;) {
    const auto id = static_cast<std::size_t>(headers_[i].id);
    const std::uint64_t bit = 1ULL << (id & 63);
    again[id >> 6] |= seen[id >> 6] & bit;
    seen[id >> 6] |= bit;
    first_[id] = static_cast<std::uint8_t>(i);
  }
  present_ = HeaderSet(seen);
  repeated_ = HeaderSet(again);
}

void HeaderTable::rebase(std::string_view from, const char* to) {
  for (Header& header : headers()) {
    rebase_view(header.name, from, to);
    rebase_view(header.value, from, to);
  }
}

void RequestHead::rebase(std::string_view from, const char* to) {
  rebase_view(target, from, to);
  rebase_view(authority, from, to);
  rebase_view(upgrade_protocol, from, to);
}

void ResponseHead::rebase(std::string_view from, const char* to) {
  rebase_view(reason, from, to);
}

}  // namespace perigee::http
