// A Config told to others: as JSON for the admin API, as a JSON Schema for editors, as differences for a
// reload.
//
// All three come from the field table that the loader parses with, so they cannot drift from it.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "perigee/config/config.h"

namespace perigee::config {

// Every effective setting under the key that would write it; secrets read "(redacted)". The result is
// itself a configuration, but for the redacted values.
nlohmann::ordered_json to_redacted_json(const Config& config);

struct Change {
  std::string key;     // `limits.streams`; lists are told as a whole, except workers, told by name
  std::string before;  // as JSON, redacted; empty = was not there
  std::string after;
  bool needs_restart = false;  // a reload cannot apply it: the new value waits for the next start
};
// In the order of the field table; empty if nothing changed.
std::vector<Change> diff(const Config& before, const Config& after);

// JSON Schema, draft 2020-12, indented, ending in a line feed.
std::string schema_text();

}  // namespace perigee::config
