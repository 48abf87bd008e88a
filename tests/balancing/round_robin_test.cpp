#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "perigee/balancing/picker.h"
#include "perigee/balancing/slow_start.h"

using namespace perigee;
using namespace perigee::balancing;

namespace {

std::string order(Picker& picker, std::span<const Candidate> candidates, int picks) {
  Rng rng(1);
  std::string s;
  for (int i = 0; i < picks; ++i)
    s += static_cast<char>('a' + candidates[picker.pick(candidates, rng)].backend);
  return s;
}

}  // namespace

TEST_CASE("round_robin: in turn, by weight, spread out") {
  const BackendLoad load;
  std::vector<Candidate> all = {{0, 1.0, &load}, {1, 1.0, &load}, {2, 1.0, &load}};
  const auto picker = make_picker("round_robin");
  CHECK(order(*picker, all, 7) == "abcabca");

  const std::vector<Candidate> weighted = {{0, 3.0, &load}, {1, 1.0, &load}};
  CHECK(order(*make_picker("round_robin"), weighted, 8) == "aabaaaba");
}

TEST_CASE("round_robin: one that was away does not catch up") {
  const BackendLoad load;
  const std::vector<Candidate> all = {{0, 1.0, &load}, {1, 1.0, &load}, {2, 1.0, &load}};
  const std::vector<Candidate> two = {all[0], all[2]};
  const auto picker = make_picker("round_robin");
  CHECK(order(*picker, all, 3) == "abc");
  CHECK(order(*picker, two, 100).find('b') == std::string::npos);
  const std::string after = order(*picker, all, 9);
  CHECK(after.find("bb") == std::string::npos);
  CHECK(std::ranges::count(after, 'b') == 3);
}

TEST_CASE("round_robin: a newcomer's share follows its ramp") {
  const BackendLoad load;
  const SlowStartOptions options;
  for (const int second : {1, 5, 10, 15, 25, 30}) {
    CAPTURE(second);
    const double r = ramp(std::chrono::seconds(second), options);
    const std::vector<Candidate> all = {{0, 1.0, &load}, {1, 1.0, &load}, {2, 1.0, &load}, {3, r, &load}};
    const auto picker = make_picker("round_robin");
    const std::string picks = order(*picker, all, 10000);
    const double share = static_cast<double>(std::ranges::count(picks, 'd')) / 10000.0;
    CHECK(share == doctest::Approx(r / (3 + r)).epsilon(0.02));
  }
}
