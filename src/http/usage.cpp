#include "perigee/http/usage.h"

#include <algorithm>
#include <charconv>

namespace perigee::http {
namespace {

std::optional<std::uint64_t> number_after(std::string_view text, std::string_view quoted_name) {
  for (std::size_t at = text.rfind(quoted_name); at != std::string_view::npos; at = at == 0 ? std::string_view::npos : text.rfind(quoted_name, at - 1)) {
    if (at > 0 && text[at - 1] == '\\') continue;  // inside of a text
    std::string_view rest = text.substr(at + quoted_name.size());
    rest.remove_prefix(std::min(rest.find_first_not_of(" \t\r\n"), rest.size()));
    if (!rest.starts_with(':')) continue;
    rest.remove_prefix(1);
    rest.remove_prefix(std::min(rest.find_first_not_of(" \t\r\n"), rest.size()));
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
    if (error != std::errc() || value > 1'000'000'000'000U) continue;
    return value;
  }
  return std::nullopt;
}

}  // namespace

std::optional<TokenUsage> read_usage(std::string_view text) {
  const auto total = number_after(text, "\"total_tokens\"");
  const auto input = number_after(text, "\"prompt_tokens\"");
  const auto output = number_after(text, "\"completion_tokens\"");
  if (total) return TokenUsage{*total, output};
  if (input && output) return TokenUsage{*input + *output, output};
  return std::nullopt;
}

void BodyTail::see(std::string_view piece) {
  if (piece.size() >= kBytes) {
    kept_.assign(piece.substr(piece.size() - kBytes));
    return;
  }
  if (kept_.size() + piece.size() > 2 * kBytes) kept_.erase(0, kept_.size() - kBytes);
  kept_.append(piece);
}

}  // namespace perigee::http
