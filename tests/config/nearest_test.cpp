// The nearest known word.
#include "nearest.h"

#include <array>

#include <doctest/doctest.h>

namespace perigee::config {

TEST_CASE("distance") {
  CHECK(edit_distance("", "abc") == 3);
  CHECK(edit_distance("abc", "abc") == 0);
  CHECK(edit_distance("kitten", "sitting") == 3);
  CHECK(edit_distance("straems", "streams") == 1);  // a swap of neighbours is one step
  CHECK(edit_distance("Io-Threads", "io_threads") == 0);
}

TEST_CASE("a word that is near, and one that is not") {
  constexpr std::array<std::string_view, 4> kKnown = {"listen", "limits", "workers", "admin"};
  CHECK(nearest_to("listne", kKnown) == "listen");
  CHECK(nearest_to("worker", kKnown) == "workers");
  CHECK(nearest_to("Limit", kKnown) == "limits");
  CHECK(nearest_to("banana", kKnown).empty());
  CHECK(nearest_to("", kKnown).empty());
  CHECK(nearest_to(std::string(100'000, 'a'), kKnown).empty());
}

}  // namespace perigee::config
