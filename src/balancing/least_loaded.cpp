// Least expected time to first event: exact local counts times a learned speed.
//
// Ours; the parts come from linkerd2-proxy (time to first data frame, failures as a slow sample) and from
// Envoy's weighted least request. Full scan with reservoir ties: one sidecar sees all traffic of its
// workers, so there is no herd to avoid by looking at two only.
#include "pickers.h"

namespace perigee::balancing {
namespace {

class LeastLoaded final : public Picker {
 public:
  explicit LeastLoaded(double stream_cost) : stream_cost_(stream_cost) {}

  std::size_t pick(std::span<const Candidate> candidates, Rng& rng) override {
    return least(candidates, rng, [this](const Candidate& c) { return expected_cost(c, stream_cost_); });
  }

 private:
  double stream_cost_;
};

}  // namespace

std::unique_ptr<Picker> make_least_loaded(const PickerOptions& options) {
  return std::make_unique<LeastLoaded>(options.stream_cost);
}

}  // namespace perigee::balancing
