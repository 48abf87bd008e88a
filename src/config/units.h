// Numbers with units, both ways: durations, bytes, shares.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "perigee/base/time.h"

namespace perigee::config {

// A finite decimal number and nothing else: `2`, `0.5`, `1e3`. No hex, no infinity, no sign but minus.
std::optional<double> read_number(std::string_view text);
std::optional<std::int64_t> read_integer(std::string_view text);

// `250ms`, `2s`, `5m`, `1h`, `1d`, also `2 s`; a bare number is seconds. Nothing if negative or over 10
// years.
std::optional<Duration> read_duration(std::string_view text);
std::string write_duration(Duration d);

// `64KiB`, `8MiB`, `1GiB`, `1kB`, `1MB`, `100B`; a bare whole number is bytes.
std::optional<std::uint64_t> read_bytes(std::string_view text);
std::string write_bytes(std::uint64_t bytes);

// `0.1` or `10%`.
std::optional<double> read_share(std::string_view text);

// The shortest text that reads back as the same number.
std::string write_number(double value);

}  // namespace perigee::config
