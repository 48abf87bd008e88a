// See values.h. Every schema allows `${VARIABLE}` beside its own form, because files do.
#include "values.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "units.h"

namespace perigee::config {
namespace {

Json or_variable(Json own) {
  return {{"anyOf", Json::array({std::move(own), Json{{"$ref", "#/$defs/variable"}}})}};
}

Json pattern(const char* expression) {
  return {{"type", "string"}, {"pattern", expression}};
}

constexpr const char* kDurationPattern = "^[0-9.]+ *(ns|us|ms|s|m|min|h|d)?$";
constexpr const char* kBytesPattern = "^[0-9.]+ *(B|[kK]i?B|Mi?B|Gi?B)?$";

Json json_number(double value) {
  if (std::floor(value) == value && std::fabs(value) < 1e15) return static_cast<std::int64_t>(value);
  return value;
}

std::string range(std::string what, const std::string& low, const std::string& high) {
  return std::move(what) + ", " + low + " … " + high;
}

// Most codecs are the same but for how text becomes a value.
template <typename T>
Codec<T> scalar(std::string expected, std::function<std::optional<T>(const Node&)> parse,
                std::function<Json(const T&, Show)> write, Json schema) {
  Codec<T> codec;
  codec.schema = std::move(schema);
  codec.write = std::move(write);
  codec.read = [expected = std::move(expected), parse = std::move(parse)](Reader& r, const Node& n, T& out) {
    if (!is_scalar(r, n, expected)) return false;
    std::optional<T> value = parse(n);
    if (!value) return r.mismatch(n, expected);
    out = *std::move(value);
    return true;
  };
  return codec;
}

std::optional<std::uint32_t> to_count(const Node& n, std::uint32_t low, std::uint32_t high) {
  const auto value = is_plain(n) ? read_integer(n.text) : std::nullopt;
  if (!value || *value < low || *value > high) return std::nullopt;
  return static_cast<std::uint32_t>(*value);
}

std::string count_text(std::uint32_t low, std::uint32_t high) {
  return range("a whole number", std::to_string(low), std::to_string(high));
}

Json count_schema(std::uint32_t low, std::uint32_t high) {
  return {{"type", "integer"}, {"minimum", low}, {"maximum", high}};
}

// A count in which one value has a name.
Codec<std::uint32_t> count_or(std::string name, std::uint32_t named, std::uint32_t low, std::uint32_t high) {
  Json schema = {{"anyOf", Json::array({count_schema(low, high), Json{{"const", name}},
                                        Json{{"$ref", "#/$defs/variable"}}})}};
  return scalar<std::uint32_t>(
      count_text(low, high) + ", or `" + name + "`",
      [=](const Node& n) -> std::optional<std::uint32_t> {
        if (n.text == name) return named;
        return to_count(n, low, high);
      },
      [=](const std::uint32_t& value, Show) { return value == named ? Json(name) : Json(value); },
      std::move(schema));
}

Codec<double> real(double low, double high, std::string expected,
                   std::optional<double> (*parse)(std::string_view), Json schema) {
  return scalar<double>(
      std::move(expected),
      [=](const Node& n) -> std::optional<double> {
        // `10%` is written with or without quotes; a bare number only without.
        const auto value = is_plain(n) || n.text.ends_with('%') ? parse(n.text) : std::nullopt;
        if (!value || *value < low || *value > high) return std::nullopt;
        return value;
      },
      [](const double& value, Show) { return json_number(value); }, std::move(schema));
}

std::optional<double> parse_percent(std::string_view text) {
  if (text.ends_with('%')) text.remove_suffix(1);
  return read_number(text);
}

std::optional<Duration> to_duration(const Node& n, Duration low, Duration high) {
  const auto value = is_plain(n) || !read_number(n.text) ? read_duration(n.text) : std::nullopt;
  if (!value || *value < low || *value > high) return std::nullopt;
  return value;
}

std::string duration_text(Duration low, Duration high) {
  return range("a duration such as `250ms`, `2s`, `5m` or a number of seconds", write_duration(low),
               write_duration(high));
}

Json duration_schema() {
  return {{"anyOf", Json::array({Json{{"type", "number"}, {"minimum", 0}}, pattern(kDurationPattern),
                                 Json{{"$ref", "#/$defs/variable"}}})}};
}

bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
}

bool allowed(std::string_view value, const TextRule& rule) {
  if (value.size() > rule.longest || (value.empty() && !rule.may_be_empty)) return false;
  return std::ranges::all_of(value, [&](char c) {
    if (rule.allowed.empty()) return !is_control(c);
    const bool alphanumeric = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    return alphanumeric || rule.allowed.find(c) != std::string_view::npos;
  });
}

}  // namespace

bool is_plain(const Node& n) {
  return !n.quoted || n.from_variable;
}

bool is_scalar(Reader& r, const Node& n, const std::string& expected) {
  return n.kind == Node::Kind::scalar || r.mismatch(n, expected);
}

Codec<bool> yes_or_no() {
  return scalar<bool>(
      "`true` or `false`",
      [](const Node& n) -> std::optional<bool> {
        if (!is_plain(n)) return std::nullopt;
        for (const char* word : {"true", "yes", "on", "True", "TRUE"}) {
          if (n.text == word) return true;
        }
        for (const char* word : {"false", "no", "off", "False", "FALSE"}) {
          if (n.text == word) return false;
        }
        return std::nullopt;
      },
      [](const bool& value, Show) { return Json(value); },
      {{"anyOf", Json::array({Json{{"type", "boolean"}}, Json{{"enum", {"yes", "no", "on", "off"}}},
                              Json{{"$ref", "#/$defs/variable"}}})}});
}

Codec<std::uint32_t> count(std::uint32_t low, std::uint32_t high) {
  return scalar<std::uint32_t>(
      count_text(low, high), [=](const Node& n) { return to_count(n, low, high); },
      [](const std::uint32_t& value, Show) { return Json(value); }, or_variable(count_schema(low, high)));
}

Codec<std::uint32_t> count_or_none(std::uint32_t low, std::uint32_t high) {
  return count_or("none", std::numeric_limits<std::uint32_t>::max(), low, high);
}

Codec<std::uint32_t> count_or_auto(std::uint32_t high) {
  return count_or("auto", 0, 1, high);
}

Codec<double> number(double low, double high) {
  return real(low, high, range("a number", write_number(low), write_number(high)), read_number,
              or_variable({{"type", "number"}, {"minimum", low}, {"maximum", high}}));
}

Codec<double> share(double low, double high) {
  Json schema = {{"anyOf", Json::array({Json{{"type", "number"}, {"minimum", low}, {"maximum", high}},
                                        pattern("^[0-9.]+%$"), Json{{"$ref", "#/$defs/variable"}}})}};
  return real(low, high, range("a share such as `0.1` or `10%`", write_number(low), write_number(high)),
              read_share, std::move(schema));
}

Codec<double> percent() {
  Json schema = {{"anyOf", Json::array({Json{{"type", "number"}, {"minimum", 0}, {"maximum", 100}},
                                        pattern("^[0-9.]+%$"), Json{{"$ref", "#/$defs/variable"}}})}};
  return real(0, 100, "a percentage, 0 … 100", parse_percent, std::move(schema));
}

Codec<Duration> duration(Duration low, Duration high) {
  return scalar<Duration>(
      duration_text(low, high), [=](const Node& n) { return to_duration(n, low, high); },
      [](const Duration& value, Show) { return Json(write_duration(value)); }, duration_schema());
}

Codec<Duration> duration_or_none(Duration low, Duration high) {
  Json schema = duration_schema();
  schema["anyOf"].push_back(Json{{"const", "none"}});
  return scalar<Duration>(
      duration_text(low, high) + ", or `none`",
      [=](const Node& n) -> std::optional<Duration> {
        if (n.text == "none") return kNoClock;
        return to_duration(n, low, high);
      },
      [](const Duration& value, Show) { return Json(value == kNoClock ? "none" : write_duration(value)); },
      std::move(schema));
}

Codec<Duration> milliseconds(Duration high) {
  return scalar<Duration>(
      "a number of milliseconds, or a duration such as `5s`, up to " + write_duration(high),
      [=](const Node& n) -> std::optional<Duration> {
        auto value = is_plain(n) ? read_number(n.text) : std::nullopt;
        if (!value) return to_duration(n, Duration(0), high);
        if (*value < 0 || *value * 1e-3 > to_seconds(high)) return std::nullopt;
        return Duration(std::llround(*value * 1e6));
      },
      [](const Duration& value, Show) { return Json(write_duration(value)); }, duration_schema());
}

Codec<std::uint64_t> bytes(std::uint64_t low, std::uint64_t high) {
  Json schema = {{"anyOf", Json::array({Json{{"type", "integer"}, {"minimum", low}, {"maximum", high}},
                                        pattern(kBytesPattern), Json{{"$ref", "#/$defs/variable"}}})}};
  return scalar<std::uint64_t>(
      range("a size such as `64KiB` or `8MiB`", write_bytes(low), write_bytes(high)),
      [=](const Node& n) -> std::optional<std::uint64_t> {
        const auto value = is_plain(n) || !read_number(n.text) ? read_bytes(n.text) : std::nullopt;
        if (!value || *value < low || *value > high) return std::nullopt;
        return value;
      },
      [](const std::uint64_t& value, Show) { return Json(write_bytes(value)); }, std::move(schema));
}

Codec<std::string> text(TextRule rule) {
  std::string expected =
      std::string(rule.expected) + " of at most " + std::to_string(rule.longest) + " characters";
  Json schema = {{"type", Json::array({"string", "number", "boolean"})}, {"maxLength", rule.longest}};
  return scalar<std::string>(
      std::move(expected),
      [rule](const Node& n) { return allowed(n.text, rule) ? std::optional(n.text) : std::nullopt; },
      [](const std::string& value, Show) { return Json(value); }, std::move(schema));
}

Codec<std::string> secret() {
  Codec<std::string> codec;
  codec.schema = {{"type", Json::array({"string", "number"})}, {"maxLength", 1024}};
  codec.read = [](Reader& r, const Node& n, std::string& out) {
    if (n.kind == Node::Kind::scalar && n.text == "none") {
      out.clear();
      return true;
    }
    // Its own report: mismatch() would show what was found.
    const bool good = n.kind == Node::Kind::scalar && n.text.size() >= 8 && n.text.size() <= 1024 &&
                      std::ranges::all_of(n.text, [](char c) { return c > 0x20 && c < 0x7F; });
    if (!good) return r.error(n.mark, "expected a secret of 8 … 1024 visible ASCII characters");
    out = n.text;
    return true;
  };
  codec.write = [](const std::string& value, Show show) {
    if (value.empty()) return Json("none");
    return Json(show == Show::plain ? value : "(redacted)");
  };
  return codec;
}

Codec<std::string> url() {
  Codec<std::string> codec = text({.longest = 2048, .expected = "a URL"});
  codec.read = [](Reader& r, const Node& n, std::string& out) {
    const TextRule rule{.longest = 2048};
    if (n.kind != Node::Kind::scalar || !allowed(n.text, rule) || n.text.find("://") == std::string::npos) {
      return r.error(n.mark, "expected a URL such as `redis://127.0.0.1:6379`");
    }
    out = n.text;
    return true;
  };
  codec.write = [](const std::string& value, Show show) {
    const std::size_t begin = value.find("://");
    const std::size_t end = value.find_first_of("/?#", begin == std::string::npos ? 0 : begin + 3);
    const std::size_t at = value.rfind('@', end);
    if (show == Show::plain || begin == std::string::npos) return Json(value);
    // A query may hold a key as well.
    std::string shown = value.substr(0, value.find_first_of("?#"));
    if (at != std::string::npos && at > begin)
      shown = value.substr(0, begin + 3) + "(redacted)" + shown.substr(at);
    return Json(shown);
  };
  return codec;
}

bool read_word(Reader& r, const Node& n, const std::vector<std::string>& names, std::size_t& out) {
  std::string expected = "one of";
  for (std::size_t i = 0; i < names.size(); ++i)
    expected += (i == 0 ? " `" : ", `") + names[i] + "`";
  if (!is_scalar(r, n, expected)) return false;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i] != n.text) continue;
    out = i;
    return true;
  }
  const std::vector<std::string_view> views(names.begin(), names.end());
  return r.mismatch(n, expected, nearest_to(n.text, views));
}

Json word_schema(const std::vector<std::string>& names) {
  return or_variable({{"enum", names}});
}

Codec<std::string> word_of(std::vector<std::string> words) {
  Codec<std::string> codec;
  codec.schema = word_schema(words);
  codec.read = [words](Reader& r, const Node& n, std::string& out) {
    std::size_t index = 0;
    if (!read_word(r, n, words, index)) return false;
    out = words[index];
    return true;
  };
  codec.write = [](const std::string& value, Show) { return Json(value); };
  return codec;
}

Codec<Address> address() {
  Json schema = {{"anyOf", Json::array({Json{{"type", "integer"}, {"minimum", 1}, {"maximum", 65535}},
                                        Json{{"type", "string"}}})}};
  return scalar<Address>(
      "an address such as `0.0.0.0:3000`, `3000`, `[::1]:3000` or `unix:/run/perigee.sock`",
      [](const Node& n) { return parse_address(n.text); },
      [](const Address& value, Show) { return Json(value.text()); }, std::move(schema));
}

Codec<Cidr> cidr() {
  return scalar<Cidr>(
      "a network such as `10.0.0.0/8`, `127.0.0.1` or `fd00::/8`, or `unix`",
      [](const Node& n) { return parse_cidr(n.text); },
      [](const Cidr& value, Show) { return Json(value.text()); }, Json{{"type", "string"}});
}

std::optional<PathPattern> read_path_pattern(std::string_view text) {
  if (!text.starts_with('/') || text.size() > 1024) return {};
  const bool prefix = text.ends_with('*');
  if (prefix) text.remove_suffix(1);
  const bool good = std::ranges::all_of(text, [](char c) { return c > 0x20 && c < 0x7F && c != '?' && c != '#' && c != '*'; });
  if (!good) return {};
  return PathPattern{text, prefix};
}

}  // namespace perigee::config
