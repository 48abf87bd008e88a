// Affinity: which backend a key prefers, and how far that preference goes.
//
// Rendezvous hashing (Thaler and Ravishankar 1998) gives each key an order of all backends: one that goes takes
// only its own keys along, and each of them to its own next. Bounded load (Mirrokni, Thorup, Zadimoghaddam,
// arXiv 1608.01350) walks that order to the first backend that is not much busier than its share, so that a popular
// key cannot fill one worker while others idle. Because every key has an order of its own, what one backend
// cannot take spreads over all others.
//
// Pure, no allocation, one scan; any thread. `key` and `id` are hashes that are good already (of a session, a
// prompt's beginning; of a backend's name, never its place in a list).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace perigee::balancing {

// Of a backend's name: stable over restarts and the same in every sidecar.
[[nodiscard]] std::uint64_t rendezvous_id(std::string_view name);

struct Rendezvous {
  std::uint64_t id = 0;  // rendezvous_id of its name
  double weight = 1.0;   // > 0; its share of keys and of load
  double load = 0.0;     // what it has to do, in any unit that a new exchange adds about 1 to
};

// What all have to do that could take the key, those included that have no room now.
struct RendezvousTotal {
  double load = 0.0;
  double weight = 0.0;
  void add(const Rendezvous& one) {
    load += one.load;
    weight += one.weight;
  }
};

// How much a key likes a backend: the highest is its first choice. Equal weights are compared without a logarithm.
[[nodiscard]] std::uint64_t rendezvous_draw(std::uint64_t key, std::uint64_t id);
[[nodiscard]] double rendezvous_score(std::uint64_t draw, double weight);

// What a backend of `weight` may have to do and still get its keys: `bound` times its share of all with the new one,
// at least one.
[[nodiscard]] double rendezvous_capacity(const RendezvousTotal& all, double weight, double bound);

// The first of `candidates` in the key's order that is below its capacity; where none is, the one that is least over.
// `candidates` must not be empty: those that could take the exchange now; `bound` >= 1.
[[nodiscard]] std::size_t pick_rendezvous(std::uint64_t key, std::span<const Rendezvous> candidates,
                                          const RendezvousTotal& all, double bound);

}  // namespace perigee::balancing
