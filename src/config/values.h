// The codecs of single values. Each says its range in its errors and in the schema.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "codec.h"
#include "perigee/base/time.h"

namespace perigee::config {

Codec<bool> yes_or_no();  // true, yes, on; false, no, off
Codec<std::uint32_t> count(std::uint32_t low, std::uint32_t high);
// kUnbounded is written `none`.
Codec<std::uint32_t> count_or_none(std::uint32_t low, std::uint32_t high);
// `zero_name` stands for 0: `auto`.
Codec<std::uint32_t> count_or_auto(std::uint32_t high);
Codec<double> number(double low, double high);
Codec<double> share(double low, double high);  // 0.1 or 10%
Codec<double> percent();                       // 70 or 70%: 0 … 100
Codec<Duration> duration(Duration low, Duration high);
Codec<Duration> duration_or_none(Duration low, Duration high);  // kNoClock is written `none`
Codec<Duration> milliseconds(Duration high);                    // a bare number is milliseconds
Codec<std::uint64_t> bytes(std::uint64_t low, std::uint64_t high);

struct TextRule {
  std::size_t longest = 256;
  bool may_be_empty = false;
  std::string_view allowed = {};  // characters besides letters and digits; empty = any but controls
  std::string_view expected = "text";
};
Codec<std::string> text(TextRule rule = {});
Codec<std::string> secret();  // never shown
Codec<std::string> url();     // user information is never shown
Codec<std::string> word_of(std::vector<std::string> words);

Codec<Address> address();
Codec<Cidr> cidr();

// Shared by the codecs of enumerations; `out` is the index into `names`.
bool read_word(Reader& r, const Node& n, const std::vector<std::string>& names, std::size_t& out);
Json word_schema(const std::vector<std::string>& names);

template <typename E, std::size_t N>
Codec<E> one_of(const std::array<std::string_view, N>& names) {
  const std::vector<std::string> words(names.begin(), names.end());
  Codec<E> codec;
  codec.schema = word_schema(words);
  codec.read = [words](Reader& r, const Node& n, E& out) {
    std::size_t index = 0;
    if (!read_word(r, n, words, index)) return false;
    out = static_cast<E>(index);
    return true;
  };
  codec.write = [words](const E& value, Show) { return Json(words[static_cast<std::size_t>(value)]); };
  return codec;
}

// A scalar that is no list, no map and not empty; reports otherwise.
bool is_scalar(Reader& r, const Node& n, const std::string& expected);
// Whether the node is a scalar that stands for a number or a word, which text in quotes is not.
bool is_plain(const Node& n);

// `/v1/chat`, or `/v1/*`: what stands before the star, and whether there is one.
struct PathPattern {
  std::string_view path;
  bool prefix = false;
};
std::optional<PathPattern> read_path_pattern(std::string_view text);

}  // namespace perigee::config
