// The path of a request as classification sees it: decoded once, and unambiguous or refused.
//
// ORBIT decodes every escape before it routes, `%2F` included, and resolves no dots: `/%61dmin/info` *is*
// `/admin/info`. Whatever two readers could take for different paths is refused. What is forwarded is
// always the target as received.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace perigee::http {

enum class EncodedSlash : std::uint8_t {
  separator,  // counts as `/` (in front of ORBIT)
  refuse,     // the default in front of others
  pass,       // stays `%2F` in the decoded path, and is no separator
};

struct NormalPath {
  std::string_view path;   // decoded; a view into the target where it has no escapes, else into `buffer`
  std::string_view query;  // as received, without `?`
  const char* refused = nullptr;  // a literal; then answer 400

  [[nodiscard]] bool ok() const { return refused == nullptr; }
};

// `target` in origin form, or "*". `buffer` as long as the target; used only for escapes.
NormalPath normalise_path(std::string_view target, EncodedSlash slash, std::span<char> buffer);

}  // namespace perigee::http
