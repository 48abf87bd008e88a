// Which of the backends that could take an exchange now takes it.
//
// A picker sees only candidates: eligible, admitted by their breaker, with a free slot and pace. It is one
// function over a short span, called under the dispatcher's lock: no allocation, no exp(), O(N).
//
// To add one: a file src/balancing/<name>.cpp, its line in the table of src/balancing/pickers.cpp, and a
// test.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "perigee/balancing/backend_load.h"
#include "perigee/base/random.h"

namespace perigee::balancing {

struct Candidate {
  std::uint32_t backend = 0;        // its place in the pool, stable between decisions; < kMaxBackends
  double weight = 1.0;              // configured weight × slow-start ramp; > 0
  const BackendLoad* load = nullptr;
};

class Picker {
 public:
  virtual ~Picker() = default;
  // Index into `candidates`, which holds 1 to kMaxBackends entries. Under the dispatcher's lock.
  [[nodiscard]] virtual std::size_t pick(std::span<const Candidate> candidates, Rng& rng) = 0;
};

struct PickerOptions {
  double stream_cost = 0.05;  // β of CostModel: what a running stream counts beside a plain request
};

// By name, as configuration writes it; nullptr for an unknown name. Allocates: at start and reload only.
std::unique_ptr<Picker> make_picker(std::string_view name, const PickerOptions& options = {});
// All names, the default first.
std::span<const std::string_view> picker_names();

// Expected cost of one more request there: (1 + work) · slowness / weight. The least_loaded picker takes
// the least of it.
inline double expected_cost(const Candidate& c, double stream_cost) {
  return (1.0 + c.load->work(stream_cost)) * c.load->slowness() / c.weight;
}

}  // namespace perigee::balancing
