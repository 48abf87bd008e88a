// What a request that some rate matches carries with it: allocated for those alone.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "perigee/admission/rates.h"

namespace perigee::proxy {

struct RateHold {
  std::shared_ptr<admission::Rates> rates;
  admission::RatePoliciesPtr policies;  // keep the matches good through a reload
  // First those that this process keeps alone, then the shared ones.
  std::vector<admission::RateMatch> matches;
  std::size_t own = 0;                  // how many are of the first kind
  std::vector<std::string> names;       // of the shared ones' keys in Redis, `perigee:{…}:policy`
  bool counts_tokens = false;           // a chat, under a policy that bounds tokens
  bool charged = false;
  admission::RunningPlaces places;      // of policies that bound how many run at once
  bool by_redis = false;                // the shared ones were charged there
  std::uint64_t input = 0;              // tokens of the prompt, as estimated
};

}  // namespace perigee::proxy
