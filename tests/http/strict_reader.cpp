#include "strict_reader.h"

#include <cstdint>

namespace perigee::test {
namespace {

constexpr std::string_view kTokenMarks = "!#$%&'*+-.^_`|~";

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_alpha(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// RFC 9110, 5.6.2
bool token(std::string_view text) {
  for (const char c : text) {
    if (!is_digit(c) && !is_alpha(c) && kTokenMarks.find(c) == std::string_view::npos) return false;
  }
  return !text.empty();
}

// RFC 9110, 5.5: field-content, and a reason phrase (RFC 9112, 4): HTAB, SP, VCHAR, obs-text.
bool field_text(std::string_view text) {
  for (const char c : text) {
    const int value = static_cast<unsigned char>(c);
    if (value != 9 && (value < 32 || value == 127)) return false;
  }
  return true;
}

// A request target holds no blank and no fragment; all else is for whoever routes it.
bool target(std::string_view text) {
  for (const char c : text) {
    const int value = static_cast<unsigned char>(c);
    if (value <= 32 || value >= 127 || c == '#') return false;
  }
  return text.starts_with("/") || text == "*";
}

// The only spelling of a number: digits, and no zero before others. False also beyond 2^63.
bool number(std::string_view text, unsigned base, std::uint64_t& value) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  if (text.empty() || text.size() > 19 || (text.size() > 1 && text.front() == '0')) return false;
  value = 0;
  for (const char c : text) {
    const std::size_t digit = kDigits.substr(0, base).find(c);
    if (digit == std::string_view::npos) return false;
    if (value > (0x7fff'ffff'ffff'ffffULL - digit) / base) return false;
    value = value * base + digit;
  }
  return true;
}

class Reader {
 public:
  Reader(std::string_view bytes, StrictKind kind) : bytes_(bytes), kind_(kind) {}

  StrictMessage read() {
    if (head()) body();
    message_.bytes = at_;
    return std::move(message_);
  }

 private:
  bool wrong(std::string_view why) {
    message_.wrong = why;
    return false;
  }
  bool unfinished(std::string_view why) {
    message_.unfinished = true;
    return wrong(why);
  }

  // Up to CRLF; neither of the two may stand in it.
  bool line(std::string_view& text) {
    const std::size_t end = bytes_.find_first_of("\r\n", at_);
    if (end == std::string_view::npos) return unfinished("a line has no end");
    if (end + 1 == bytes_.size() && bytes_[end] == '\r') return unfinished("a line has half an end");
    if (bytes_.substr(end, 2) != "\r\n") return wrong("a bare CR or LF");
    text = bytes_.substr(at_, end - at_);
    at_ = end + 2;
    return true;
  }

  bool head() {
    std::string_view text;
    if (!line(text)) return false;
    if (!(kind_ == StrictKind::request ? request_line(text) : status_line(text))) return false;
    while (true) {
      if (!line(text)) return false;
      if (text.empty()) break;
      if (!field(text)) return false;
    }
    if (kind_ == StrictKind::request && message_.count("host") != 1) return wrong("not one Host");
    return true;
  }

  bool request_line(std::string_view text) {
    const std::size_t one = text.find(' ');
    const std::size_t two = text.rfind(' ');
    if (one == two) return wrong("a request line that is not of three words");
    message_.line = {std::string(text.substr(0, one)), std::string(text.substr(one + 1, two - one - 1)),
                     std::string(text.substr(two + 1))};
    if (!token(message_.line[0])) return wrong("a method that is no token");
    if (!target(message_.line[1])) return wrong("a malformed target");
    if (message_.line[2] != "HTTP/1.1") return wrong("another version than HTTP/1.1");
    return true;
  }

  bool status_line(std::string_view text) {
    if (text.size() < 13 || text.substr(0, 9) != "HTTP/1.1 " || text[12] != ' ') return wrong("a malformed status line");
    message_.line = {"HTTP/1.1", std::string(text.substr(9, 3)), std::string(text.substr(13))};
    for (const char c : message_.line[1]) {
      if (!is_digit(c)) return wrong("a status that is no number");
    }
    if (message_.line[1][0] < '1' || message_.line[1][0] > '5') return wrong("a status of no class");
    if (!field_text(message_.line[2])) return wrong("a control character in the reason");
    return true;
  }

  bool field(std::string_view text) {
    const std::size_t colon = text.find(':');
    if (colon == std::string_view::npos) return wrong("a field without a colon");
    const std::string_view name = text.substr(0, colon);
    std::string_view value = text.substr(colon + 1);
    if (!token(name)) return wrong("a field name that is no token");
    if (!value.starts_with(' ')) return wrong("no blank behind a colon");
    value.remove_prefix(1);
    if (!value.empty() && (value.front() == ' ' || value.front() == '\t' || value.back() == ' ' || value.back() == '\t')) {
      return wrong("blanks around a value");
    }
    if (!field_text(value)) return wrong("a control character in a value");
    message_.fields.emplace_back(name, value);
    return true;
  }

  bool body() {
    const std::size_t lengths = message_.count("content-length");
    const std::size_t codings = message_.count("transfer-encoding");
    if (lengths + codings > 1) return wrong("more than one framing");
    std::uint64_t length = 0;
    if (lengths == 1 && !number(message_.value("content-length"), 10, length)) return wrong("a malformed length");
    if (codings == 1 && message_.value("transfer-encoding") != "chunked") return wrong("a coding other than chunked");
    if (kind_ != StrictKind::request) {
      const std::string& status = message_.line[1];
      if (kind_ == StrictKind::answer_to_head || status[0] == '1' || status == "204" || status == "304") {
        return codings == 0 || wrong("a coding where no body follows");
      }
    }
    if (codings == 1) return chunks();
    if (lengths == 1) return take(length);
    if (kind_ == StrictKind::request) return true;
    if (kind_ != StrictKind::answer_until_close) return wrong("an answer without a framing");
    return take(bytes_.size() - at_);
  }

  bool take(std::uint64_t length) {
    const std::size_t here = bytes_.size() - at_;
    message_.body.append(bytes_.substr(at_, length < here ? static_cast<std::size_t>(length) : here));
    if (length > here) {
      at_ = bytes_.size();
      return unfinished("less than was announced");
    }
    at_ += static_cast<std::size_t>(length);
    return true;
  }

  bool chunks() {
    while (true) {
      std::string_view text;
      std::uint64_t size = 0;
      if (!line(text)) return false;
      if (!number(text, 16, size)) return wrong("a malformed chunk size");
      if (size != 0 && !take(size)) return false;
      std::string_view empty;
      if (!line(empty)) return false;
      if (!empty.empty()) return wrong(size == 0 ? "a trailer" : "a chunk longer than its size");
      if (size == 0) return true;
    }
  }

  std::string_view bytes_;
  StrictKind kind_;
  std::size_t at_ = 0;
  StrictMessage message_;
};

}  // namespace

std::string lower_case(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

std::size_t StrictMessage::count(std::string_view lower_name) const {
  std::size_t n = 0;
  for (const auto& [name, value] : fields)
    n += lower_case(name) == lower_name ? 1 : 0;
  return n;
}

std::string StrictMessage::value(std::string_view lower_name) const {
  for (const auto& [name, value] : fields) {
    if (lower_case(name) == lower_name) return value;
  }
  return {};
}

StrictMessage read_strictly(std::string_view bytes, StrictKind kind) {
  return Reader(bytes, kind).read();
}

}  // namespace perigee::test
