// See units.h. The number in front is split from the unit behind; both are then looked at alone.
#include "units.h"

#include <array>
#include <charconv>
#include <cmath>
#include <utility>

namespace perigee::config {
namespace {

using namespace std::chrono_literals;

struct Split {
  std::string_view number;
  std::string_view unit;
};

Split split_unit(std::string_view text) {
  std::size_t end = 0;
  while (end < text.size() && ((text[end] >= '0' && text[end] <= '9') || text[end] == '.'))
    ++end;
  std::size_t unit = end;
  while (unit < text.size() && text[unit] == ' ')
    ++unit;
  return {text.substr(0, end), text.substr(unit)};
}

constexpr std::array<std::pair<std::string_view, Duration>, 8> kDurationUnits = {
    {{"d", 24h}, {"h", 1h}, {"m", 1min}, {"min", 1min}, {"s", 1s}, {"ms", 1ms}, {"us", 1us}, {"ns", 1ns}}};
constexpr double kLongestSeconds = 3.2e8;  // ten years: far from the end of what Duration holds

constexpr std::array<std::pair<std::string_view, std::uint64_t>, 9> kByteUnits = {
    {{"B", 1},
     {"kB", 1000},
     {"KB", 1000},
     {"MB", 1'000'000},
     {"GB", 1'000'000'000},
     {"KiB", std::uint64_t{1} << 10},
     {"kiB", std::uint64_t{1} << 10},
     {"MiB", std::uint64_t{1} << 20},
     {"GiB", std::uint64_t{1} << 30}}};
constexpr double kMostBytes = 9e15;  // exact in a double

}  // namespace

std::optional<double> read_number(std::string_view text) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::optional<std::int64_t> read_integer(std::string_view text) {
  std::int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end) return std::nullopt;
  return value;
}

std::optional<Duration> read_duration(std::string_view text) {
  const Split split = split_unit(text);
  const auto number = read_number(split.number);
  if (!number) return std::nullopt;
  if (split.unit.empty() && split.number.size() != text.size()) return std::nullopt;
  Duration unit = 1s;
  bool known = split.unit.empty();
  for (const auto& [name, length] : kDurationUnits) {
    if (split.unit != name) continue;
    unit = length;
    known = true;
  }
  if (!known || *number * to_seconds(unit) > kLongestSeconds) return std::nullopt;
  return Duration(std::llround(*number * static_cast<double>(unit.count())));
}

std::string write_duration(Duration d) {
  for (const std::string_view name : {"s", "ms", "us", "ns"}) {
    for (const auto& [unit, length] : kDurationUnits) {
      if (unit == name && d % length == 0ns) return std::to_string(d / length) + std::string(unit);
    }
  }
  return "0s";
}

std::optional<std::uint64_t> read_bytes(std::string_view text) {
  const Split split = split_unit(text);
  const auto number = read_number(split.number);
  if (!number) return std::nullopt;
  if (split.unit.empty()) {
    const auto whole = read_integer(text);
    if (!whole || *whole < 0) return std::nullopt;
    return static_cast<std::uint64_t>(*whole);
  }
  for (const auto& [name, size] : kByteUnits) {
    if (split.unit != name) continue;
    const double bytes = *number * static_cast<double>(size);
    if (bytes > kMostBytes) return std::nullopt;
    return static_cast<std::uint64_t>(std::llround(bytes));
  }
  return std::nullopt;
}

std::string write_bytes(std::uint64_t bytes) {
  for (const std::string_view name : {"GiB", "MiB", "KiB"}) {
    for (const auto& [unit, size] : kByteUnits) {
      if (unit == name && bytes != 0 && bytes % size == 0)
        return std::to_string(bytes / size) + std::string(unit);
    }
  }
  return std::to_string(bytes) + "B";
}

std::optional<double> read_share(std::string_view text) {
  const bool percent = text.ends_with('%');
  if (percent) text.remove_suffix(1);
  const auto number = read_number(text);
  if (!number) return std::nullopt;
  return percent ? *number / 100.0 : *number;
}

std::string write_number(double value) {
  std::array<char, 32> buffer{};
  const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return error == std::errc() ? std::string(buffer.data(), end) : std::string("0");
}

}  // namespace perigee::config
