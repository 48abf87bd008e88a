// A bounded look into a JSON body for the few fields that decide how its request is treated.
//
// One pass over the first 64 KiB, no tree, no allocation, bounded depth. A body that is broken or nested
// too deeply simply tells nothing: the worker will say what is wrong with it. Of repeated names the last
// counts and names may be written with escapes, as in Python's reader.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace perigee::http {

inline constexpr std::size_t kJsonPeekBytes = 64 * 1024;
inline constexpr std::size_t kJsonPeekTextMax = 256;

// A string inside the body: a view of the bytes between its quotes.
struct JsonText {
  std::string_view raw;
  bool found = false;
  bool escaped = false;  // contains escapes: decode before comparing (unescape_json)
};

enum class Tristate : std::uint8_t { unknown, no, yes };

// Strings longer than kJsonPeekTextMax and fields of another type are not found. Views point into the body.
struct JsonPeek {
  Tristate stream = Tristate::unknown;  // in any form that pydantic takes for a bool: true, 1, "yes" …
  JsonText model;
  JsonText request_id;
  JsonText session_id;
  JsonText method;         // JSON-RPC
  JsonText params_id;      // "params": {"id": …}
  bool valid = false;      // what was looked at is JSON with an object at the top
  bool truncated = false;  // the object did not end within what was looked at
};

// `body` = its first bytes, contiguous; `whole` = nothing follows them. No more than `most` bytes are looked at.
JsonPeek peek_json(std::string_view body, bool whole, std::size_t most = kJsonPeekBytes);

// Decodes escapes into `out`; empty when it does not fit or is broken.
std::string_view unescape_json(std::string_view raw, std::span<char> out);

}  // namespace perigee::http
