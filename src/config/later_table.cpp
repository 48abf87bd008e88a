// Settings whose feature is still to come: checked, and told by `perigee check`.
//
// When a feature arrives its lines leave this file and become fields of a section.
#include "tables.h"
#include "values.h"

namespace perigee::config {
namespace {

constexpr Duration kDay = 24h;

struct Nothing {};

Codec<Nothing> cache() {
  Table<Nothing> t;
  t.later("entries", count(1, 100'000'000), "most entries of the response cache");
  t.later("bytes", bytes(kKiB, 1024 * 1024 * kMiB), "most bytes of the response cache");
  t.later("ttl", duration(0s, 365 * kDay), "life of an entry");
  return section(std::move(t));
}

Codec<Nothing> discovery() {
  Table<Nothing> t;
  t.later("dns", text({.longest = 253, .expected = "a name"}), "name whose addresses are the workers");
  t.later("file", text({.longest = 1024, .expected = "a file's path"}), "file that lists the workers");
  return section(std::move(t));
}

struct Standing {
  const char* key;
  const char* about;
};

// What the table of defaults promises without a word in the file.
constexpr std::array<Standing, 2> kStanding = {
    {{"merging", "metrics and health of all workers are answered as one"},
     {"broadcast", "reloads and cache-clearing calls reach all workers"}}};

}  // namespace

void add_later(Table<Draft>& t) {
  t.later("merging", yes_or_no(), "metrics and health of all workers answered as one");
  t.later("broadcast", yes_or_no(), "calls that must reach all workers do");
  t.later("coalescing", yes_or_no(), "identical requests in flight are sent once");
  t.later("hedging", yes_or_no(), "a second attempt for a slow embedding or search");
  t.later("model_pools", map_of(count(1, 1024), 64), "workers a kind of model, by name");
  t.later("discovery", discovery(), "workers found while running");
  t.later("cache", cache(), "cache of responses");
}

std::vector<NotYet> later_defaults() {
  std::vector<NotYet> out;
  for (const Standing& s : kStanding)
    out.push_back({s.key, {}, s.about, {}});
  return out;
}

}  // namespace perigee::config
