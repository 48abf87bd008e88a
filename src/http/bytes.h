// Private to the room: looking for one of a few bytes, sixteen at a time where the machine has SSE2.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace perigee::http {

constexpr unsigned char byte_of(char c) {
  return static_cast<unsigned char>(c);
}

// First of: quote, backslash, any control character (below 0x20). `end` where there is none.
inline const char* find_json_special(const char* p, const char* end) {
#ifdef __SSE2__
  const __m128i quote = _mm_set1_epi8('"');
  const __m128i backslash = _mm_set1_epi8('\\');
  const __m128i last_control = _mm_set1_epi8(0x1f);
  for (; end - p >= 16; p += 16) {
    const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    const __m128i hit = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, backslash)),
                                     _mm_cmpeq_epi8(_mm_min_epu8(v, last_control), v));
    const int mask = _mm_movemask_epi8(hit);
    if (mask != 0) return p + std::countr_zero(static_cast<unsigned>(mask));
  }
#endif
  while (p < end && *p != '"' && *p != '\\' && byte_of(*p) >= 0x20)
    ++p;
  return p;
}

// First CR or LF; `end` where there is none.
inline const char* find_line_end(const char* p, const char* end) {
#ifdef __SSE2__
  const __m128i lf = _mm_set1_epi8('\n');
  const __m128i cr = _mm_set1_epi8('\r');
  for (; end - p >= 16; p += 16) {
    const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    const int mask = _mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(v, lf), _mm_cmpeq_epi8(v, cr)));
    if (mask != 0) return p + std::countr_zero(static_cast<unsigned>(mask));
  }
#endif
  while (p < end && *p != '\n' && *p != '\r')
    ++p;
  return p;
}

// Visible ASCII (0x21 to 0x7e) throughout, and no '#': what a request target may consist of.
inline bool is_target_text(std::string_view text) {
  const char* p = text.data();
  const char* const end = p + text.size();
#ifdef __SSE2__
  const __m128i space = _mm_set1_epi8(' ');
  const __m128i del = _mm_set1_epi8(0x7f);
  const __m128i hash = _mm_set1_epi8('#');
  for (; end - p >= 16; p += 16) {
    const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    // Signed: bytes from 0x80 on are negative, so one comparison finds them with the controls.
    const __m128i good = _mm_and_si128(_mm_cmpgt_epi8(v, space), _mm_cmplt_epi8(v, del));
    if (_mm_movemask_epi8(_mm_andnot_si128(_mm_cmpeq_epi8(v, hash), good)) != 0xffff) return false;
  }
#endif
  for (; p < end; ++p) {
    if (static_cast<unsigned char>(*p - 0x21) >= 0x7f - 0x21 || *p == '#') return false;
  }
  return true;
}

// No control character but HTAB: what a field value or a reason phrase may consist of.
inline bool is_field_text(std::string_view text) {
  for (const char c : text) {
    if ((byte_of(c) < 0x20 && c != '\t') || c == 0x7f) return false;
  }
  return true;
}

constexpr std::array<bool, 256> make_token_table() {
  std::array<bool, 256> table{};
  for (int c = '0'; c <= '9'; ++c)
    table[static_cast<std::size_t>(c)] = true;
  for (int c = 'a'; c <= 'z'; ++c)
    table[static_cast<std::size_t>(c)] = true;
  for (int c = 'A'; c <= 'Z'; ++c)
    table[static_cast<std::size_t>(c)] = true;
  for (const char c : std::string_view("!#$%&'*+-.^_`|~"))
    table[static_cast<std::size_t>(c)] = true;
  return table;
}
inline constexpr std::array<bool, 256> kTokenChar = make_token_table();

inline bool is_token(std::string_view text) {
  for (const char c : text) {
    if (!kTokenChar[byte_of(c)]) return false;
  }
  return !text.empty();
}

constexpr char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
}

// `lower_case` is a literal in lower case.
inline bool equals_ignoring_case(std::string_view text, std::string_view lower_case) {
  if (text.size() != lower_case.size()) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (lower(text[i]) != lower_case[i]) return false;
  }
  return true;
}
inline bool same_ignoring_case(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (lower(a[i]) != lower(b[i])) return false;
  }
  return true;
}

inline std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t'))
    text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t'))
    text.remove_suffix(1);
  return text;
}

// The next element of a comma-separated list; `list` is cut down to what follows. Elements may be empty.
inline std::string_view next_element(std::string_view& list) {
  const std::size_t comma = list.find(',');
  const std::string_view element = trim(list.substr(0, comma));
  list.remove_prefix(comma == std::string_view::npos ? list.size() : comma + 1);
  return element;
}

// -1 for anything that is no hex digit.
constexpr int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Moves a view that lies within `from` to the same place in the copy at `to`.
inline void rebase_view(std::string_view& view, std::string_view from, const char* to) {
  const auto base = reinterpret_cast<std::uintptr_t>(from.data());
  const auto at = reinterpret_cast<std::uintptr_t>(view.data());
  if (view.data() == nullptr || at < base || at + view.size() > base + from.size()) return;
  view = {to + (at - base), view.size()};
}

}  // namespace perigee::http
