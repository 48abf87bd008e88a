// What a model's answer says it has used: `"total_tokens": 123` and its parts, from the last kilobyte of the body.
//
// No body is kept or parsed: OpenAI's usage object and ORBIT's metadata stand at the end of an answer, a stream's usage in
// its last events. Inside of text a quote is always escaped, so nothing that a model says can pass for the field.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace perigee::http {

struct TokenUsage {
  std::uint64_t total = 0;
  std::optional<std::uint64_t> output;
};

// Of the last such fields in `text`; nothing where there is no total and not both parts. Numbers above 10^12 are none.
[[nodiscard]] std::optional<TokenUsage> read_usage(std::string_view text);

// The last bytes of what went by; at most 3 KiB of memory, and none before the first piece.
class BodyTail {
 public:
  static constexpr std::size_t kBytes = 1024;
  void see(std::string_view piece);
  [[nodiscard]] std::string_view text() const { return kept_; }

 private:
  std::string kept_;
};

}  // namespace perigee::http
