// In turn, by weight, however loaded: smooth weighted round robin (nginx's).
//
// Each candidate gains its weight at every decision, the richest is taken and pays what all gained. With
// weights 3:1 that is a a b a, not a a a b. A backend that is no candidate for a while neither gains nor
// loses, so it does not catch up in a burst when it is back.
#include <array>

#include "pickers.h"

namespace perigee::balancing {
namespace {

class RoundRobin final : public Picker {
 public:
  std::size_t pick(std::span<const Candidate> candidates, Rng&) override {
    std::size_t best = 0;
    double gained = 0.0;
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      double& credit = credit_[candidates[i].backend];
      credit += candidates[i].weight;
      gained += candidates[i].weight;
      if (credit > credit_[candidates[best].backend]) best = i;
    }
    credit_[candidates[best].backend] -= gained;
    return best;
  }

 private:
  std::array<double, kMaxBackends> credit_{};
};

}  // namespace

std::unique_ptr<Picker> make_round_robin(const PickerOptions&) { return std::make_unique<RoundRobin>(); }

}  // namespace perigee::balancing
