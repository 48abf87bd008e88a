#include <doctest/doctest.h>

#include <array>

#include "perigee/balancing/picker.h"

using namespace perigee;
using namespace perigee::balancing;

TEST_CASE("least_outstanding: pending and streams count alike, by weight, with the one more") {
  std::array<BackendLoad, 3> loads;
  std::array<Candidate, 3> all;
  for (std::uint32_t i = 0; i < 3; ++i) all[i] = {i, 1.0, &loads[i]};
  const auto picker = make_picker("least_outstanding");
  Rng rng(1);
  LoadShare a = loads[0].begin(RequestClass::chat, 9.0);
  LoadShare b = loads[1].begin(RequestClass::chat, 0.1);
  LoadShare b2 = loads[1].begin(RequestClass::chat, 0.1);
  LoadShare c = loads[2].begin(RequestClass::chat, 0.1);
  LoadShare c2 = loads[2].begin(RequestClass::chat, 0.1);
  loads[1].first_event(b);
  CHECK(picker->pick(all, rng) == 0);
  loads[1].end(b);
  loads[1].end(b2);
  CHECK(picker->pick(all, rng) == 1);
  all[2].weight = 4;  // (2 + 1) / 4 < (0 + 1) / 1
  CHECK(picker->pick(all, rng) == 2);
  loads[0].end(a);
  loads[2].end(c);
  loads[2].end(c2);
  CHECK(picker->pick(all, rng) == 2);
}
