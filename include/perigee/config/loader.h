// From text to a Config: everything that is wrong is said at once, with its place.
//
// YAML (1 MiB a file, 32 levels, 100,000 nodes after aliases), `${VAR}` and `${VAR:-default}`, `import:`,
// the `performance:` block. The data plane never comes here; the loader reads files and may throw only
// std::bad_alloc. Any thread, no shared state.
#pragma once

#include <expected>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "perigee/config/config.h"

namespace perigee::config {

// The value of a variable, or nothing if it is not set. app hands in the process's environment.
using Environment = std::function<std::optional<std::string>(std::string_view name)>;

struct Place {
  std::string file;
  int line = 0;    // from 1; 0 = the file as a whole
  int column = 0;  // from 1
  bool operator==(const Place&) const = default;
};

struct Diagnostic {
  Place place;
  std::string key;      // path of keys: `workers[1].weight`; empty for the file as a whole
  std::string message;  // what was found and what was expected; never holds a secret
  std::string nearest;  // the nearest known key or value; empty if none is near
};
// `perigee.yaml:3:9: limits.straems: unknown key (did you mean `streams`?)`
std::string to_string(const Diagnostic& d);

struct Loaded {
  Snapshot config;
  std::vector<Diagnostic> warnings;  // accepted, but probably not meant
};
using LoadResult = std::expected<Loaded, std::vector<Diagnostic>>;

LoadResult load(const std::string& path, const Environment& environment);
// `name` stands in messages, and imports are relative to its directory.
LoadResult parse(std::string_view text, const std::string& name, const Environment& environment);

// Why this configuration cannot be started (no workers), or nothing.
std::optional<std::string> why_not_startable(const Config& config);

// What `perigee check` prints for a good file: main settings, warnings, what is not yet in effect.
std::string format_check_report(const Loaded& loaded);
// And for a bad one: one line a diagnostic, then a count.
std::string format_diagnostics(std::span<const Diagnostic> diagnostics);

}  // namespace perigee::config
