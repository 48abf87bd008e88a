// Fewest exchanges in flight for its weight, whatever they are: (in flight + 1) / weight.
//
// The +1 makes weights matter while all are idle (Envoy's weighted least request).
#include "pickers.h"

namespace perigee::balancing {
namespace {

class LeastOutstanding final : public Picker {
 public:
  std::size_t pick(std::span<const Candidate> candidates, Rng& rng) override {
    return least(candidates, rng, [](const Candidate& c) { return (1.0 + c.load->in_flight()) / c.weight; });
  }
};

}  // namespace

std::unique_ptr<Picker> make_least_outstanding(const PickerOptions&) {
  return std::make_unique<LeastOutstanding>();
}

}  // namespace perigee::balancing
