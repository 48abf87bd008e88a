// What the pickers share: the scan for the least, and the list of their makers.
#pragma once

#include <limits>

#include "perigee/balancing/picker.h"

namespace perigee::balancing {

// Index of the candidate with the least score; of several with exactly that score each is as likely
// (reservoir sampling: the k-th tie replaces the choice with probability 1/k).
template <typename Score>
std::size_t least(std::span<const Candidate> candidates, Rng& rng, Score score) {
  std::size_t best = 0;
  double best_score = std::numeric_limits<double>::infinity();
  std::uint32_t ties = 0;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const double s = score(candidates[i]);
    if (s < best_score) {
      best = i;
      best_score = s;
      ties = 1;
    } else if (!(s > best_score) && rng.below(++ties) == 0) {
      best = i;
    }
  }
  return best;
}

std::unique_ptr<Picker> make_least_loaded(const PickerOptions& options);
std::unique_ptr<Picker> make_round_robin(const PickerOptions& options);
std::unique_ptr<Picker> make_least_outstanding(const PickerOptions& options);

}  // namespace perigee::balancing
