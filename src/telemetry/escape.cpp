// Escaping for JSON and log lines. See escape.h. UTF-8 after table 3-7 of the Unicode standard.
#include "escape.h"

#include <cstdint>
#include <cstring>

namespace perigee::telemetry {
namespace {

// 4, 8 or 16 bytes that are looked at together (a vector of the compilers; plain code where there is none).
template <std::size_t N>
using Bytes [[gnu::vector_size(N)]] = unsigned char;

// Copies `text` (at least N bytes) as it is, the last N overlapping those before; false if any byte of it is a
// control character, DEL, above ASCII, a quote or a backslash.
template <std::size_t N>
bool copy_plain(std::string_view text, char* out) {
  Bytes<N> special{};
  const auto copy = [&](std::size_t at) {
    Bytes<N> bytes;
    std::memcpy(&bytes, text.data() + at, N);
    std::memcpy(out + at, &bytes, N);
    special |= reinterpret_cast<Bytes<N>>(bytes - 0x20 > 0x5E) | reinterpret_cast<Bytes<N>>(bytes == '"') |
               reinterpret_cast<Bytes<N>>(bytes == '\\');
  };
  const std::size_t last = text.size() - N;
  for (std::size_t at = 0; at < last; at += N)
    copy(at);
  copy(last);
  constexpr Bytes<N> kNone{};
  return std::memcmp(&special, &kNone, N) == 0;
}

constexpr bool plain(unsigned char c) {
  return c >= 0x20 && c < 0x7F && c != '"' && c != '\\';
}

char* put_code(unsigned char c, char* out) {
  constexpr char kHex[] = "0123456789abcdef";
  std::memcpy(out, "\\u00", 4);
  out[4] = kHex[c >> 4];
  out[5] = kHex[c & 15];
  return out + 6;
}

// One character that is not plain, at the start of `text`; moves `text` past it.
char* escape_special(std::string_view& text, char* out) {
  const auto c = static_cast<unsigned char>(text[0]);
  if (c < 0x80) {
    text.remove_prefix(1);
    if (c == '"' || c == '\\') {
      *out++ = '\\';
      *out++ = static_cast<char>(c);
      return out;
    }
    return put_code(c, out);
  }
  const std::size_t length = utf8_length(text);
  if (length == 0) {
    text.remove_prefix(1);
    std::memcpy(out, "\xEF\xBF\xBD", 3);
    return out + 3;
  }
  const auto second = static_cast<unsigned char>(text[1]);
  if (c == 0xC2 && second < 0xA0) {
    out = put_code(second, out);
  } else {
    std::memcpy(out, text.data(), length);
    out += length;
  }
  text.remove_prefix(length);
  return out;
}

char* escape_next(std::string_view& text, char* out) {
  const auto c = static_cast<unsigned char>(text[0]);
  if (!plain(c)) return escape_special(text, out);
  text.remove_prefix(1);
  *out = static_cast<char>(c);
  return out + 1;
}

}  // namespace

std::size_t utf8_length(std::string_view text) {
  const auto at = [text](std::size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U;
  };
  const auto tail = [&](std::size_t i) { return (at(i) & 0xC0U) == 0x80U; };
  const unsigned first = at(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return tail(1) ? 2 : 0;
  const unsigned second = at(1);
  if (first >= 0xE0 && first <= 0xEF) {
    const unsigned low = first == 0xE0 ? 0xA0 : 0x80;
    const unsigned high = first == 0xED ? 0x9F : 0xBF;
    return second >= low && second <= high && tail(2) ? 3 : 0;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    const unsigned low = first == 0xF0 ? 0x90 : 0x80;
    const unsigned high = first == 0xF4 ? 0x8F : 0xBF;
    return second >= low && second <= high && tail(2) && tail(3) ? 4 : 0;
  }
  return 0;
}

char* escape_json(std::string_view text, char* out) {
  if (text.size() >= 16) {
    if (copy_plain<16>(text, out)) return out + text.size();
  } else if (text.size() >= 8) {
    if (copy_plain<8>(text, out)) return out + text.size();
  } else if (text.size() >= 4) {
    if (copy_plain<4>(text, out)) return out + text.size();
  }
  // Short, or with something special in it: one by one, over what was copied.
  while (!text.empty())
    out = escape_next(text, out);
  return out;
}

std::string_view cut_text(std::string_view text, std::size_t max) {
  if (text.size() <= max) return text;
  std::size_t end = max;
  for (int back = 0; back < 3 && end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U; ++back)
    --end;
  return text.substr(0, end);
}

}  // namespace perigee::telemetry
