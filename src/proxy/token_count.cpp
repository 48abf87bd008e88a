// Counting what an answer generates, while it goes by. See token_count.h.
#include "token_count.h"

#include <algorithm>
#include <limits>

#include "perigee/admission/fair_turns.h"
#include "perigee/http/usage.h"
#include "rates.h"

namespace perigee::proxy {
namespace {

bool generates(const Exchange& x) {
  return admission::generates(x.verdict.request_class) || x.dialect != http::SseDialect::generic;
}

void add(std::uint32_t& sum, std::size_t more) {
  sum += static_cast<std::uint32_t>(std::min<std::size_t>(more, std::numeric_limits<std::uint32_t>::max() - sum));
}

}  // namespace

void begin_token_count(Exchange& x) {
  x.generated = 0;
  const bool charged = x.ticket.charged() || (x.rates != nullptr && x.rates->counts_tokens);
  x.reads_usage = charged && generates(x);
}

void see_events(Exchange& x, std::string_view piece, std::uint32_t outputs) {
  add(x.generated, outputs);
  if (!x.reads_usage) return;
  if (x.answer_tail == nullptr) {
    if (piece.find("_tokens\"") == std::string_view::npos) return;
    x.answer_tail = std::make_unique<http::BodyTail>();
  }
  x.answer_tail->see(piece);
}

void see_body(Exchange& x, std::string_view piece) {
  add(x.generated, piece.size());
  if (!x.reads_usage) return;
  if (x.answer_tail == nullptr) x.answer_tail = std::make_unique<http::BodyTail>();
  x.answer_tail->see(piece);
}

TokensUsed tokens_used(const Exchange& x, std::uint64_t input) {
  if (x.worker_status < 200 || x.worker_status >= 300) return {};
  if (x.answer_tail != nullptr) {
    if (const auto said = http::read_usage(x.answer_tail->text())) {
      return {said->total, said->output.value_or(said->total - std::min(said->total, input))};
    }
  }
  std::uint64_t output = 0;
  if (x.event_stream) output = x.generated;
  else if (generates(x)) output = x.generated / kBytesPerToken;
  return {input + output, output};
}

std::uint32_t output_tokens(const Exchange& x) {
  constexpr std::uint64_t kMost = 1'000'000'000;  // a worker may say anything
  const std::uint64_t body = x.head.framing == http::Framing::length ? x.head.content_length : 0;
  const std::uint64_t input = x.rates != nullptr ? x.rates->input : body / kBytesPerToken;
  return static_cast<std::uint32_t>(std::min(tokens_used(x, input).output, kMost));
}

}  // namespace perigee::proxy
