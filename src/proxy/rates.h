// What a request that some rate matches carries with it: allocated for those alone.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "perigee/admission/rates.h"
#include "perigee/http/usage.h"

namespace perigee::proxy {

class RateHold {
 public:
  std::shared_ptr<admission::Rates> rates;
  admission::RatePoliciesPtr policies;  // keep the matches good through a reload
  // First those that this process keeps alone, then the shared ones.
  std::vector<admission::RateMatch> matches;
  std::size_t own = 0;                  // how many are of the first kind
  std::vector<std::string> names;       // of the shared ones' keys in Redis, `perigee:{…}:policy`
  bool counts_tokens = false;           // a chat, under a policy that bounds tokens
  bool charged = false;
  bool by_redis = false;                // the shared ones were charged there
  std::uint64_t input = 0;              // tokens of the prompt, as estimated

  // A piece of the answer's body went by; `outputs`: events with model output that ended in it.
  void see_event(std::string_view piece, std::uint32_t outputs) {
    if (!counts_tokens) return;
    outputs_ += outputs;
    // A stream may last for minutes: nothing is kept of it before it begins to speak of tokens, which is at its end.
    if (!tail_.text().empty() || piece.find("_tokens\"") != std::string_view::npos) tail_.see(piece);
  }
  void see_body(std::string_view piece) {
    if (!counts_tokens) return;
    bytes_ += piece.size();
    tail_.see(piece);
  }
  // Tokens of the whole exchange, and of its answer.
  struct Used {
    std::uint64_t total = 0;
    std::uint64_t output = 0;
  };
  [[nodiscard]] Used used(bool event_stream) const;

 private:
  http::BodyTail tail_;
  std::uint64_t bytes_ = 0;
  std::uint64_t outputs_ = 0;
};

}  // namespace perigee::proxy
