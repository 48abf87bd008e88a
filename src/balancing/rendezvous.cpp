#include "perigee/balancing/rendezvous.h"

#include <algorithm>
#include <cmath>

namespace perigee::balancing {

namespace {

// splitmix64's finish: every bit of the input moves every bit of the output.
constexpr std::uint64_t mixed(std::uint64_t z) {
  z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27U)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31U);
}

}  // namespace

std::uint64_t rendezvous_id(std::string_view name) {
  std::uint64_t h = 0xcbf29ce484222325ULL;
  for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return mixed(h);
}

std::uint64_t rendezvous_draw(std::uint64_t key, std::uint64_t id) {
  return mixed(mixed(key + 0x9E3779B97F4A7C15ULL) ^ id);
}

// -weight / ln(u), u uniform in (0, 1): the share of keys is the share of weight, and a changed weight moves no more
// keys than it must.
double rendezvous_score(std::uint64_t draw, double weight) {
  const double u = (static_cast<double>(draw >> 11U) + 0.5) * 0x1.0p-53;  // never 0 nor 1
  return -weight / std::log(u);
}

double rendezvous_capacity(const RendezvousTotal& all, double weight, double bound) {
  const double share = all.weight > 0 ? weight / all.weight : 1.0;
  return std::max(1.0, std::ceil(bound * (all.load + 1.0) * share));
}

std::size_t pick_rendezvous(std::uint64_t key, std::span<const Rendezvous> candidates, const RendezvousTotal& all,
                            double bound) {
  const double weight = candidates.front().weight;
  const bool equal = std::ranges::all_of(candidates, [weight](const Rendezvous& c) { return c.weight == weight; });
  std::size_t best = candidates.size();
  std::uint64_t best_draw = 0;
  double best_score = 0;
  std::size_t least = 0;
  double least_share = 0;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const Rendezvous& c = candidates[i];
    const double capacity = rendezvous_capacity(all, c.weight, bound);
    const double share = c.load / capacity;
    if (i == 0 || share < least_share) {
      least = i;
      least_share = share;
    }
    if (c.load >= capacity) continue;
    const std::uint64_t draw = rendezvous_draw(key, c.id);
    const double score = equal ? 0 : rendezvous_score(draw, c.weight);
    if (best == candidates.size() || (equal ? draw > best_draw : score > best_score)) {
      best = i;
      best_draw = draw;
      best_score = score;
    }
  }
  return best < candidates.size() ? best : least;
}

}  // namespace perigee::balancing
