#include <doctest/doctest.h>

#include <array>

#include "perigee/balancing/picker.h"

using namespace perigee;
using namespace perigee::balancing;

TEST_CASE("pickers have names, and unknown names have no picker") {
  CHECK(make_picker("") == nullptr);
  CHECK(make_picker("least_loade") == nullptr);
  CHECK(make_picker("LEAST_LOADED") == nullptr);
  CHECK(picker_names().front() == "least_loaded");
  CHECK(picker_names().size() == 3);
}

TEST_CASE("every picker takes the only candidate, and any place in the pool") {
  const BackendLoad load;
  Rng rng(1);
  for (const std::string_view name : picker_names()) {
    CAPTURE(name);
    const auto picker = make_picker(name);
    REQUIRE(picker != nullptr);
    const std::array<Candidate, 1> one = {Candidate{kMaxBackends - 1, 1.0, &load}};
    for (int i = 0; i < 3; ++i) CHECK(picker->pick(one, rng) == 0);
  }
}
