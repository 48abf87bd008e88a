#include "perigee/http/conversation.h"

#include <algorithm>

#include "bytes.h"

namespace perigee::http {
namespace {

class Walker {
 public:
  explicit Walker(std::string_view body) : p_(body.data()), end_(p_ + body.size()) {}

  ConversationStart run() {
    object([this](std::string_view key) {
      if (key == "messages" && at('[')) return array([this] { return message(); });
      const std::string_view value = skip();
      if (key == "user") found_.person = value;
      return true;
    });
    return found_;
  }

 private:
  bool blanks() {
    while (p_ < end_ && (*p_ == ' ' || *p_ == '\n' || *p_ == '\r' || *p_ == '\t')) ++p_;
    return p_ < end_;
  }
  bool at(char c) { return blanks() && *p_ == c; }
  bool take(char c) {
    if (!at(c)) return false;
    ++p_;
    return true;
  }

  // Behind the opening quote; false where the string does not end.
  bool rest_of_string() {
    for (;;) {
      p_ = find_json_special(p_, end_);
      if (p_ == end_) return false;
      if (*p_ == '"') return ++p_, true;
      p_ += std::min<std::ptrdiff_t>(*p_ == '\\' ? 2 : 1, end_ - p_);
    }
  }

  // Any value, or as much of it as there is.
  std::string_view skip() {
    if (!blanks()) return {};
    const char* const begin = p_;
    skip_value();
    return {begin, std::min(static_cast<std::size_t>(p_ - begin), kConversationText)};
  }
  void skip_value() {
    for (std::size_t depth = 0; p_ < end_;) {
      const char c = *p_;
      const bool literal = c != '"' && c != '{' && c != '[' && c != '}' && c != ']' && c != ',';
      if (depth == 0 && (c == '}' || c == ']' || c == ',')) return;  // behind a literal, or nothing
      ++p_;
      if (c == '"' && !rest_of_string()) return;
      if (c == '{' || c == '[') ++depth;
      if (c == '}' || c == ']') --depth;
      if (depth == 0 && !literal) return;
    }
  }

  // `member` reads the value of a key, and returns false where it has seen enough.
  template <typename Member>
  bool object(Member&& member) {
    if (!take('{')) return false;
    while (take('"')) {
      const char* const begin = p_;
      if (!rest_of_string()) return false;
      const std::string_view key(begin, static_cast<std::size_t>(p_ - begin - 1));
      if (!take(':') || !member(key)) return false;
      if (!take(',')) break;
    }
    return take('}');
  }
  template <typename Element>
  bool array(Element&& element) {
    ++p_;
    while (!at(']')) {
      if (!element()) return false;
      if (!take(',')) break;
    }
    return take(']');
  }

  bool message() {
    std::string_view role;
    std::string_view content;
    const bool whole = object([&](std::string_view key) {
      const std::string_view value = skip();
      if (key == "role") role = value;
      if (key == "content") content = value;
      return true;
    });
    if (found_.user.empty()) {
      if (role == "\"user\"") found_.user = content;
      if (found_.system.empty() && (role == "\"system\"" || role == "\"developer\"")) found_.system = content;
    }
    return whole;
  }

  const char* p_;
  const char* end_;
  ConversationStart found_;
};

}  // namespace

ConversationStart conversation_start(std::string_view body) { return Walker(body.substr(0, kConversationLook)).run(); }

}  // namespace perigee::http
