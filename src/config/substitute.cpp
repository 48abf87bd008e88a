// See substitute.h. One pass from the left; what was put in is not looked at again.
#include "substitute.h"

#include <algorithm>
#include <utility>

#include "document.h"

namespace perigee::config {
namespace {

bool is_name(std::string_view name) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  if (name.empty() || name.size() > 128 || !letter(name.front())) return false;
  return std::ranges::all_of(name, [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

std::expected<std::string, std::string> value_of(std::string_view inside, const Environment& environment) {
  const std::size_t mark = inside.find(":-");
  const std::string_view name = inside.substr(0, mark);
  if (!is_name(name))
    return std::unexpected("`${" + std::string(inside.substr(0, 40)) + "}` names no variable");
  std::optional<std::string> value = environment ? environment(name) : std::nullopt;
  if (mark != std::string_view::npos) {
    if (!value || value->empty()) return std::string(inside.substr(mark + 2));
  } else if (!value) {
    return std::unexpected("the variable `" + std::string(name) + "` is not set, and `${" +
                           std::string(name) + "}` has no default (`${" + std::string(name) + ":-default}`)");
  }
  if (find_bad_text(*value) != std::string_view::npos) {
    return std::unexpected("the value of the variable `" + std::string(name) + "` is not UTF-8 text");
  }
  return *std::move(value);
}

}  // namespace

bool has_variable(std::string_view text) {
  return text.find("${") != std::string_view::npos;
}

std::expected<std::string, std::string> substitute(std::string_view text, const Environment& environment) {
  std::string out;
  while (true) {
    const std::size_t begin = text.find("${");
    if (begin == std::string_view::npos) break;
    if (begin > 0 && text[begin - 1] == '$') {
      out += text.substr(0, begin - 1);
      out += "${";
      text.remove_prefix(begin + 2);
      continue;
    }
    const std::size_t end = text.find('}', begin);
    if (end == std::string_view::npos) return std::unexpected("`${` without its `}`");
    out += text.substr(0, begin);
    auto value = value_of(text.substr(begin + 2, end - begin - 2), environment);
    if (!value) return value;
    out += *value;
    if (out.size() > kMaxSubstituted)
      return std::unexpected("longer than 64 KiB once its variables are filled in");
    text.remove_prefix(end + 1);
  }
  out += text;
  return out;
}

}  // namespace perigee::config
