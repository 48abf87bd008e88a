// A second reader of HTTP/1.1, for tests only: what Perigee sends on is read again by this one.
//
// Written from RFC 9112 and on purpose the opposite of the program's own: slow, copying, recursive in nothing,
// and merciful in nothing. It takes one form of every message, the canonical one: `name: value` with exactly
// one blank, at most one framing field, lengths without leading zeros, chunks without extensions, no trailers.
// Shares no code with src/http and does not use llhttp, so that a mistake of theirs is not its own.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace perigee::test {

struct StrictMessage {
  std::array<std::string, 3> line;  // method, target, version; or version, status, reason
  std::vector<std::pair<std::string, std::string>> fields;
  std::string body;        // without framing
  std::size_t bytes = 0;   // that it takes of what was read
  std::string wrong;       // why this is no canonical message; empty = it is one
  bool unfinished = false;  // with `wrong`: only the end is missing

  [[nodiscard]] bool good() const { return wrong.empty(); }
  // How many fields have this name (in lower case), and the value of the first.
  [[nodiscard]] std::size_t count(std::string_view lower_name) const;
  [[nodiscard]] std::string value(std::string_view lower_name) const;
};

// What the reader must know of the other direction to find the end of an answer.
enum class StrictKind { request, answer, answer_to_head, answer_until_close };

// The first message in `bytes`.
StrictMessage read_strictly(std::string_view bytes, StrictKind kind);

std::string lower_case(std::string_view text);

}  // namespace perigee::test
