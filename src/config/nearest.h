// The known word nearest to one that somebody mistyped.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace perigee::config {

// Optimal string alignment distance (Levenshtein and swaps of neighbours), case folded.
std::size_t edit_distance(std::string_view a, std::string_view b);

// Empty if none is near: at most a third of the word's letters (and at least one) may differ.
std::string nearest_to(std::string_view word, std::span<const std::string_view> known);

}  // namespace perigee::config
