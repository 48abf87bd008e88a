// What an answer cost in tokens: one number for everybody who charges for it (the turns of tenants, the rates).
//
// The answer's own `usage` where it tells one, else the events of a stream or the size of a whole answer. Its end is looked
// at only where somebody charges, and nothing is kept of a stream before it begins to speak of tokens.
#pragma once

#include <cstdint>
#include <string_view>

#include "exchange.h"

namespace perigee::proxy {

inline constexpr std::uint64_t kBytesPerToken = 4;

// Tokens of the whole exchange, and of its answer.
struct TokensUsed {
  std::uint64_t total = 0;
  std::uint64_t output = 0;
};

// When an answer begins: whether anybody charges for what it generates.
void begin_token_count(Exchange& x);
// A piece of the answer's body went by; `outputs`: events with model output that ended in it.
void see_events(Exchange& x, std::string_view piece, std::uint32_t outputs);
void see_body(Exchange& x, std::string_view piece);
// As far as it is known now; of what no worker took, or answered with an error, nothing. `input`: tokens of the prompt, as
// estimated, for answers that tell only parts.
[[nodiscard]] TokensUsed tokens_used(const Exchange& x, std::uint64_t input);
// Of the answer alone, as its ticket takes it.
[[nodiscard]] std::uint32_t output_tokens(const Exchange& x);

}  // namespace perigee::proxy
