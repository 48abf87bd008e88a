// Decodes a path once and refuses what two readers could understand differently.
#include "perigee/http/target.h"

#include <array>

#include "bytes.h"

namespace perigee::http {
namespace {

NormalPath refused(const char* why) {
  NormalPath result;
  result.refused = why;
  return result;
}

bool is_dots(const char* begin, const char* end) {
  const auto size = end - begin;
  return (size == 1 && begin[0] == '.') || (size == 2 && begin[0] == '.' && begin[1] == '.');
}

// Characters that need a look: they end the path or a segment, or may not stand in it.
constexpr std::array<bool, 256> make_special_table() {
  std::array<bool, 256> table{};
  for (const char c : std::string_view("/?%\\#"))
    table[byte_of(c)] = true;
  return table;
}
constexpr std::array<bool, 256> kSpecial = make_special_table();

// On a decoded path. With EncodedSlash::pass a kept "%2F" still ends a segment here: another reader may
// decode it.
const char* judge_segments(std::string_view path) {
  const char* p = path.data() + 1;
  const char* const end = path.data() + path.size();
  while (true) {
    const char* const begin = p;
    std::size_t separator = 0;
    for (; p != end; ++p) {
      if (*p == '/') separator = 1;
      if (*p == '%' && end - p >= 3 && p[1] == '2' && lower(p[2]) == 'f') separator = 3;
      if (separator != 0) break;
    }
    if (is_dots(begin, p)) return "dot segment in the path";
    if (p == end) return nullptr;
    if (p == begin) return "empty segment in the path";
    p += separator;
  }
}

}  // namespace

NormalPath normalise_path(std::string_view target, EncodedSlash slash, std::span<char> buffer) {
  NormalPath result;
  if (target == "*") {
    result.path = target;
    return result;
  }
  if (target.empty() || target.front() != '/') return refused("target does not begin with a slash");

  // Up to the first escape the path is judged as it stands.
  const char* p = target.data() + 1;
  const char* const end = target.data() + target.size();
  const char* segment = p;
  bool escapes = false;
  for (; p != end; ++p) {
    if (!kSpecial[byte_of(*p)]) continue;
    if (*p == '/') {
      if (p == segment) return refused("empty segment in the path");
      if (is_dots(segment, p)) return refused("dot segment in the path");
      segment = p + 1;
    } else if (*p == '?') {
      break;
    } else if (*p == '%') {
      escapes = true;
    } else {
      return refused("backslash or # in the path");
    }
  }
  const std::string_view raw(target.data(), static_cast<std::size_t>(p - target.data()));
  if (p != end) result.query = {p + 1, static_cast<std::size_t>(end - p) - 1};
  if (!escapes) {
    if (is_dots(segment, p)) return refused("dot segment in the path");
    result.path = raw;
    return result;
  }

  if (buffer.size() < raw.size()) return refused("path too long to decode");
  std::size_t size = 0;
  for (std::size_t i = 0; i < raw.size(); ++i) {
    char c = raw[i];
    if (c == '%') {
      const int high = i + 2 < raw.size() ? hex_value(raw[i + 1]) : -1;
      const int low = i + 2 < raw.size() ? hex_value(raw[i + 2]) : -1;
      if (high < 0 || low < 0) return refused("broken escape in the path");
      c = static_cast<char>(high * 16 + low);
      i += 2;
      if (c == '\0' || c == '\\' || c == '#') return refused("escaped NUL, backslash or # in the path");
      if (c == '/') {
        if (slash == EncodedSlash::refuse) return refused("escaped slash in the path");
        if (slash == EncodedSlash::pass) {
          buffer[size++] = '%';
          buffer[size++] = '2';
          c = 'F';
        }
      }
    }
    buffer[size++] = c;
  }
  result.path = {buffer.data(), size};
  if (const char* wrong = judge_segments(result.path)) return refused(wrong);
  return result;
}

}  // namespace perigee::http
