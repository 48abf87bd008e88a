// See perigee/http/trace_context.h.
#include "perigee/http/trace_context.h"

#include <algorithm>

#include "bytes.h"

namespace perigee::http {
namespace {

constexpr std::size_t kMembersMax = 32;
constexpr std::size_t kStateBytesMax = 512;
constexpr std::string_view kHex = "0123456789abcdef";

// Lower case only (section 3.2.2).
int lower_hex(char c) { return c >= 'A' && c <= 'F' ? -1 : hex_value(c); }

bool read_hex(std::string_view text, std::span<std::uint8_t> out) {
  bool zero = true;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const int high = lower_hex(text[2 * i]);
    const int low = lower_hex(text[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    out[i] = static_cast<std::uint8_t>(high << 4 | low);
    zero = zero && out[i] == 0;
  }
  return !zero;
}

// `key` and `tenant@system`; 256 characters at most.
bool valid_key(std::string_view key) {
  if (key.empty() || key.size() > 256) return false;
  const auto good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '*' || c == '/' || c == '@';
  };
  const bool begins = (key.front() >= 'a' && key.front() <= 'z') || (key.front() >= '0' && key.front() <= '9');
  return begins && std::all_of(key.begin(), key.end(), good) && std::count(key.begin(), key.end(), '@') <= 1;
}

bool valid_value(std::string_view value) {
  const auto good = [](char c) { return c >= 0x20 && c <= 0x7e && c != ',' && c != '='; };
  return !value.empty() && value.size() <= 256 && std::all_of(value.begin(), value.end(), good);
}

// Counts the members of one line into `members`.
bool valid_members(std::string_view line, std::size_t& members) {
  while (!line.empty()) {
    const std::string_view member = next_element(line);
    if (member.empty()) continue;  // allowed
    const std::size_t equals = member.find('=');
    if (equals == std::string_view::npos) return false;
    if (!valid_key(member.substr(0, equals)) || !valid_value(member.substr(equals + 1))) return false;
    if (++members > kMembersMax) return false;
  }
  return true;
}

bool valid_states(const HeaderTable& table) {
  std::size_t members = 0;
  std::size_t bytes = 0;
  for (const Header& field : table) {
    if (field.id != HeaderName::tracestate) continue;
    bytes += field.value.size();
    if (bytes > kStateBytesMax || !valid_members(field.value, members)) return false;
  }
  return true;
}

}  // namespace

bool valid_tracestate(std::string_view value) {
  std::size_t members = 0;
  return value.size() <= kStateBytesMax && valid_members(value, members);
}

bool read_traceparent(std::string_view value, TraceId& id) {
  if (value.size() < kTraceparentBytes) return false;
  const std::string_view version = value.substr(0, 2);
  if (lower_hex(version[0]) < 0 || lower_hex(version[1]) < 0 || version == "ff") return false;
  // A later version may go on, behind another dash (section 4.3 of the processing model).
  if (value.size() > kTraceparentBytes && (version == "00" || value[kTraceparentBytes] != '-')) return false;
  if (value[2] != '-' || value[35] != '-' || value[52] != '-') return false;
  TraceId found{};
  std::array<std::uint8_t, 8> parent{};
  if (!read_hex(value.substr(3, 32), found) || !read_hex(value.substr(36, 16), parent)) return false;
  if (lower_hex(value[53]) < 0 || lower_hex(value[54]) < 0) return false;
  id = found;
  return true;
}

TraceContext read_trace_context(const HeaderTable& table) {
  TraceContext context;
  const bool parent = table.has(HeaderName::traceparent);
  const bool state = table.has(HeaderName::tracestate);
  if (!parent && !state) return context;
  context.valid = parent && !table.repeated(HeaderName::traceparent) &&
                  read_traceparent(table.value(HeaderName::traceparent), context.id);
  context.drop_parent = parent && !context.valid;
  context.drop_state = state && (!context.valid || !valid_states(table));
  return context;
}

std::array<char, kTraceparentBytes> write_traceparent(const TraceId& id, std::uint64_t parent, bool sampled) {
  std::array<char, kTraceparentBytes> out{};
  char* to = out.data();
  const auto text = [&to](std::string_view s) { to = std::copy(s.begin(), s.end(), to); };
  text("00-");
  for (const std::uint8_t byte : id) {
    *to++ = kHex[byte >> 4U];
    *to++ = kHex[byte & 15U];
  }
  text("-");
  for (int shift = 60; shift >= 0; shift -= 4) *to++ = kHex[parent >> static_cast<unsigned>(shift) & 15U];
  text(sampled ? "-01" : "-00");
  return out;
}

}  // namespace perigee::http
