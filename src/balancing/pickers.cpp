// The table of pickers.
#include "pickers.h"

#include <array>

namespace perigee::balancing {
namespace {

struct Entry {
  std::string_view name;
  std::unique_ptr<Picker> (*make)(const PickerOptions&);
};

constexpr std::array kPickers = {
    Entry{"least_loaded", make_least_loaded},
    Entry{"round_robin", make_round_robin},
    Entry{"least_outstanding", make_least_outstanding},
};

constexpr auto kNames = [] {
  std::array<std::string_view, kPickers.size()> names;
  for (std::size_t i = 0; i < names.size(); ++i) names[i] = kPickers[i].name;
  return names;
}();

}  // namespace

std::unique_ptr<Picker> make_picker(std::string_view name, const PickerOptions& options) {
  for (const Entry& entry : kPickers) {
    if (entry.name == name) return entry.make(options);
  }
  return nullptr;
}

std::span<const std::string_view> picker_names() { return kNames; }

}  // namespace perigee::balancing
