// A YAML file as a plain tree that we own: text, places, and nothing shared.
//
// yaml-cpp only tokenises: its events are copied into `Node`s while bytes, levels and nodes are counted, and
// an alias is copied out under the same count. So nothing that a file can say makes us hold or walk more than
// the bounds below, and every later step is a simple recursion over a small tree.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

namespace perigee::config {

inline constexpr std::size_t kMaxFileBytes = std::size_t{1} << 20;
inline constexpr std::size_t kMaxDepth = 32;
inline constexpr std::size_t kMaxNodes = 100'000;

struct Mark {
  std::uint32_t file = 0;  // which of the loaded files
  int line = 0;            // from 1; 0 = the file as a whole
  int column = 0;          // from 1
};

struct Entry;

struct Node {
  enum class Kind : std::uint8_t { null, scalar, list, map };

  Kind kind = Kind::null;
  bool quoted = false;         // "5000" in quotes is text, not a number …
  bool from_variable = false;  // … unless it came from a variable
  Mark mark;
  std::string text;      // scalar
  std::string original;  // scalar with variables: as written, because the value may be a secret
  std::vector<Node> items;
  std::vector<Entry> entries;  // map, in the order written, keys unique

  [[nodiscard]] const Entry* find(std::string_view key) const;
};

struct Entry {
  std::string key;
  Mark mark;
  Node value;
};

struct DocumentError {
  Mark mark;
  std::string message;
};

// `nodes` counts over all files of one load; every error found is returned (a syntax error ends the reading).
std::expected<Node, std::vector<DocumentError>> read_document(std::string_view text, std::uint32_t file,
                                                              std::size_t& nodes);

// Nothing but whole UTF-8 characters, and no control characters but tab and line ends.
// Returns the offset of the first byte that is not, or npos.
std::size_t find_bad_text(std::string_view text);

}  // namespace perigee::config
