// Request targets: what is taken for classification is what decoding once gives, has no dot segment, no empty one, no
// backslash, NUL or #; and the stricter rules take no more than the mild ones.
#include "fuzz.h"
#include "perigee/http/target.h"

namespace {

using namespace perigee;

int hex(char c) {
  const std::size_t at = std::string_view("0123456789abcdef0123456789ABCDEF").find(c);
  return at == std::string_view::npos ? -1 : static_cast<int>(at % 16);
}

std::string decoded_once(std::string_view raw, bool keep_slash) {
  std::string path;
  for (std::size_t i = 0; i < raw.size(); ++i) {
    if (raw[i] != '%') {
      path.push_back(raw[i]);
      continue;
    }
    fuzz::demand(i + 2 < raw.size() && hex(raw[i + 1]) >= 0 && hex(raw[i + 2]) >= 0, "a broken escape was taken");
    const char c = static_cast<char>(hex(raw[i + 1]) * 16 + hex(raw[i + 2]));
    i += 2;
    if (c == '/' && keep_slash) {
      path.append("%2F");
    } else {
      path.push_back(c);
    }
  }
  return path;
}

bool take(std::string_view target, http::EncodedSlash slash) {
  const fuzz::Exact input(target);
  std::vector<char> room(target.size());
  const http::NormalPath normal = http::normalise_path(input.view(), slash, room);
  if (!normal.ok()) return false;
  if (target == "*") {
    fuzz::demand_same(normal.path, "*", "asterisk");
    return true;
  }
  const std::size_t query = target.find('?');
  const std::string_view raw = target.substr(0, query);
  fuzz::demand_same(normal.path, decoded_once(raw, slash == http::EncodedSlash::pass), "decoded once");
  fuzz::demand_same(normal.query, query == std::string_view::npos ? std::string_view{} : target.substr(query + 1), "query");
  fuzz::demand(normal.path.starts_with('/'), "the path begins with a slash");
  for (const std::string_view never : {"//", "/./", "/../", "\\", "#"})
    fuzz::demand(normal.path.find(never) == std::string_view::npos, "an ambiguous path was taken");
  fuzz::demand(!normal.path.ends_with("/.") && !normal.path.ends_with("/.."), "dots at the end were taken");
  fuzz::demand(normal.path.find('\0') == std::string_view::npos, "NUL was taken");
  if (slash == http::EncodedSlash::refuse) {
    for (const std::string_view escaped : {"%2f", "%2F"})
      fuzz::demand(raw.find(escaped) == std::string_view::npos, "an escaped slash was taken");
  }
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view target = fuzz::text_of(data, size);
  if (target.find('\0') != std::string_view::npos) return 0;  // the reader of heads hands none over
  const bool mild = take(target, http::EncodedSlash::separator);
  const bool strict = take(target, http::EncodedSlash::refuse);
  take(target, http::EncodedSlash::pass);
  fuzz::demand(mild || !strict, "the strict rule takes what the mild one refuses");
  return 0;
}
