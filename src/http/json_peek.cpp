// One forward pass over a JSON prefix. The shape is checked with one bit a level (object or array) instead of
// a tree; strings are skipped sixteen bytes at a time; numbers are any run of number characters.
#include "perigee/http/json_peek.h"

#include <algorithm>
#include <array>

#include "bytes.h"

namespace perigee::http {
namespace {

constexpr unsigned kDepthMax = 64;
constexpr std::size_t kNumberMax = 64;

enum class Field : std::uint8_t { other, stream, model, request_id, session_id, method, params, id };

Field field_from(std::string_view name) {
  if (name == "stream") return Field::stream;
  if (name == "model") return Field::model;
  if (name == "request_id") return Field::request_id;
  if (name == "session_id") return Field::session_id;
  if (name == "method") return Field::method;
  if (name == "params") return Field::params;
  if (name == "id") return Field::id;
  return Field::other;
}

class Peeker {
 public:
  Peeker(std::string_view body, bool whole) : p_(body.data()), end_(p_ + body.size()), whole_(whole) {}

  JsonPeek run() {
    if (end_ - p_ >= 3 && std::memcmp(p_, "\xEF\xBB\xBF", 3) == 0) p_ += 3;  // Python skips it too
    const Outcome outcome = walk();
    if (outcome == Outcome::broken || (outcome == Outcome::ran_out && whole_) || !top_is_object_) return {};
    found_.valid = true;
    found_.truncated = outcome == Outcome::ran_out;
    return found_;
  }

 private:
  enum class Outcome : std::uint8_t { complete, ran_out, broken };

  [[nodiscard]] bool in_object() const { return (objects_ & 1) != 0; }

  bool skip_blanks() {
    while (p_ < end_ && (*p_ == ' ' || *p_ == '\n' || *p_ == '\r' || *p_ == '\t'))
      ++p_;
    return p_ < end_;
  }

  // `p_` behind the opening quote; leaves it behind the closing one.
  Outcome read_string(JsonText& text) {
    const char* const begin = p_;
    text.escaped = false;
    while (true) {
      p_ = find_json_special(p_, end_);
      if (p_ == end_) return Outcome::ran_out;
      if (*p_ == '"') break;
      if (*p_ != '\\') return Outcome::broken;  // a control character
      text.escaped = true;
      if (end_ - p_ < 2) return Outcome::ran_out;
      p_ += 2;
    }
    text.raw = {begin, static_cast<std::size_t>(p_ - begin)};
    text.found = true;
    ++p_;
    return Outcome::complete;
  }

  // Which field a value at this place would be; `other` where it is of no interest.
  [[nodiscard]] Field here() const {
    if (!in_object()) return Field::other;
    if (depth_ == 1) return key_ == Field::id ? Field::other : key_;
    return depth_ == 2 && outer_ == Field::params && key_ == Field::id ? Field::id : Field::other;
  }

  JsonText* place_of(Field field) {
    switch (field) {
      case Field::model: return &found_.model;
      case Field::request_id: return &found_.request_id;
      case Field::session_id: return &found_.session_id;
      case Field::method: return &found_.method;
      case Field::id: return &found_.params_id;
      case Field::other:
      case Field::stream:
      case Field::params: return nullptr;
    }
    return nullptr;
  }

  // Of repeated names the last counts, whatever its type: an earlier value is forgotten first.
  void forget(Field field) {
    if (field == Field::stream) found_.stream = Tristate::unknown;
    if (field == Field::params) found_.params_id = {};
    if (JsonText* place = place_of(field)) *place = {};
  }

  void take_string(Field field, const JsonText& text) {
    if (field == Field::stream) {
      std::array<char, 8> buffer{};
      found_.stream = truth_of(text.escaped ? unescape_json(text.raw, buffer) : text.raw);
    } else if (JsonText* place = place_of(field); place != nullptr && text.raw.size() <= kJsonPeekTextMax) {
      *place = text;
    }
  }

  // What pydantic takes for a bool.
  static Tristate truth_of(std::string_view text) {
    static constexpr std::array<std::string_view, 7> kYes = {"true", "1", "1.0", "on", "t", "y", "yes"};
    static constexpr std::array<std::string_view, 7> kNo = {"false", "0", "0.0", "off", "f", "n", "no"};
    for (const std::string_view word : kYes) {
      if (equals_ignoring_case(text, word)) return Tristate::yes;
    }
    for (const std::string_view word : kNo) {
      if (equals_ignoring_case(text, word)) return Tristate::no;
    }
    return Tristate::unknown;
  }

  Outcome read_literal(Field field) {
    const char* const begin = p_;
    while (p_ < end_ && ((*p_ >= '0' && *p_ <= '9') || (*p_ >= 'a' && *p_ <= 'z') ||
                         (*p_ >= 'A' && *p_ <= 'Z') || *p_ == '+' || *p_ == '-' || *p_ == '.')) {
      ++p_;
      if (p_ - begin > static_cast<std::ptrdiff_t>(kNumberMax)) return Outcome::broken;
    }
    if (p_ == begin) return Outcome::broken;
    if (p_ == end_) return Outcome::ran_out;  // it may go on
    const std::string_view word(begin, static_cast<std::size_t>(p_ - begin));
    const bool number = word[0] == '-' || (word[0] >= '0' && word[0] <= '9');
    const bool known =
        word == "true" || word == "false" || word == "null" || word == "NaN" || word == "Infinity";
    if (!number && !known) return Outcome::broken;
    if (field == Field::stream) found_.stream = truth_of(word);
    return Outcome::complete;
  }

  Outcome read_key() {
    if (!skip_blanks()) return Outcome::ran_out;
    if (*p_ != '"') return Outcome::broken;
    ++p_;
    JsonText name;
    if (const Outcome outcome = read_string(name); outcome != Outcome::complete) return outcome;
    if (depth_ <= 2) {
      std::array<char, 16> buffer{};
      key_ = field_from(name.escaped ? unescape_json(name.raw, buffer) : name.raw);
    }
    if (!skip_blanks()) return Outcome::ran_out;
    if (*p_ != ':') return Outcome::broken;
    ++p_;
    return Outcome::complete;
  }

  // Reads a value up to its end, or opens a container that holds something (`container_open`).
  Outcome read_value(bool& container_open) {
    container_open = false;
    if (!skip_blanks()) return Outcome::ran_out;
    const Field field = here();
    if (field != Field::other) forget(field);
    const char c = *p_;
    if (c == '"') {
      ++p_;
      JsonText text;
      const Outcome outcome = read_string(text);
      if (outcome == Outcome::complete) take_string(field, text);
      return outcome;
    }
    if (c != '{' && c != '[') return read_literal(field);
    ++p_;
    if (depth_ == kDepthMax) return Outcome::broken;
    if (depth_ == 0) top_is_object_ = c == '{';
    if (depth_ == 1) outer_ = field;
    ++depth_;
    objects_ = objects_ << 1 | (c == '{' ? 1u : 0u);
    if (!skip_blanks()) return Outcome::ran_out;
    if (*p_ == (c == '{' ? '}' : ']')) {
      ++p_;
      close();
      return Outcome::complete;
    }
    container_open = true;
    return Outcome::complete;
  }

  void close() {
    --depth_;
    objects_ >>= 1;
  }

  Outcome walk() {
    bool open = false;
    if (const Outcome outcome = read_value(open); outcome != Outcome::complete) return outcome;
    while (depth_ != 0) {
      if (!open) {
        // A value is complete: what follows it?
        if (!skip_blanks()) return Outcome::ran_out;
        const char c = *p_++;
        if (c == (in_object() ? '}' : ']')) {
          close();
          continue;
        }
        if (c != ',') return Outcome::broken;
      }
      if (in_object()) {
        if (const Outcome outcome = read_key(); outcome != Outcome::complete) return outcome;
      }
      if (const Outcome outcome = read_value(open); outcome != Outcome::complete) return outcome;
    }
    return skip_blanks() ? Outcome::broken : Outcome::complete;
  }

  const char* p_;
  const char* end_;
  bool whole_;
  bool top_is_object_ = false;
  unsigned depth_ = 0;
  std::uint64_t objects_ = 0;   // one bit a level, the innermost lowest
  Field key_ = Field::other;    // of the innermost object, as long as that is one of the outer two
  Field outer_ = Field::other;  // the key at the top under which the container at depth 2 stands
  JsonPeek found_;
};

bool hex4(std::string_view raw, std::size_t at, std::uint32_t& code) {
  if (at + 4 > raw.size()) return false;
  code = 0;
  for (std::size_t i = at; i < at + 4; ++i) {
    const int digit = hex_value(raw[i]);
    if (digit < 0) return false;
    code = code << 4 | static_cast<std::uint32_t>(digit);
  }
  return true;
}

std::size_t utf8(std::uint32_t code, char* to) {
  if (code < 0x80) {
    to[0] = static_cast<char>(code);
    return 1;
  }
  if (code < 0x800) {
    to[0] = static_cast<char>(0xc0 | code >> 6);
    to[1] = static_cast<char>(0x80 | (code & 0x3f));
    return 2;
  }
  if (code < 0x10000) {
    to[0] = static_cast<char>(0xe0 | code >> 12);
    to[1] = static_cast<char>(0x80 | (code >> 6 & 0x3f));
    to[2] = static_cast<char>(0x80 | (code & 0x3f));
    return 3;
  }
  to[0] = static_cast<char>(0xf0 | code >> 18);
  to[1] = static_cast<char>(0x80 | (code >> 12 & 0x3f));
  to[2] = static_cast<char>(0x80 | (code >> 6 & 0x3f));
  to[3] = static_cast<char>(0x80 | (code & 0x3f));
  return 4;
}

}  // namespace

JsonPeek peek_json(std::string_view body, bool whole, std::size_t most) {
  if (body.size() > most) {
    body = body.substr(0, most);
    whole = false;
  }
  return Peeker(body, whole).run();
}

std::string_view unescape_json(std::string_view raw, std::span<char> out) {
  static constexpr std::string_view kLetters = "\"\\/bfnrt";
  static constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
  std::size_t size = 0;
  for (std::size_t i = 0; i < raw.size(); ++i) {
    std::array<char, 4> bytes = {raw[i], 0, 0, 0};
    std::size_t n = 1;
    if (raw[i] == '\\') {
      if (++i == raw.size()) return {};
      if (const std::size_t letter = kLetters.find(raw[i]); letter != std::string_view::npos) {
        bytes[0] = kMeanings[letter];
      } else {
        std::uint32_t code = 0;
        std::uint32_t low = 0;
        if (raw[i] != 'u' || !hex4(raw, i + 1, code)) return {};
        i += 4;
        if (code >= 0xd800 && code < 0xdc00 && raw.substr(i + 1).starts_with("\\u") &&
            hex4(raw, i + 3, low) && low >= 0xdc00 && low < 0xe000) {
          code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
          i += 6;
        }
        n = utf8(code, bytes.data());
      }
    }
    if (size + n > out.size()) return {};
    std::memcpy(out.data() + size, bytes.data(), n);
    size += n;
  }
  return {out.data(), size};
}

}  // namespace perigee::http
