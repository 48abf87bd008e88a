// See perigee/http/forwarded.h.
#include "perigee/http/forwarded.h"

#include <algorithm>

#include "bytes.h"

namespace perigee::http {
namespace {

// Reads one `Forwarded` line: elements between commas, pairs between semicolons, values as tokens or quoted.
class ForwardedLine {
 public:
  explicit ForwardedLine(std::string_view line) : rest_(line) {}

  // One element, its `for` in `node` (without quotes; empty where it has none). False at the end, or where the line
  // is malformed: `good()` tells.
  bool next(std::string_view& node) {
    if (!good_ || ended_) return false;
    node = {};
    bool seen_for = false;
    for (;;) {
      skip_blanks();
      if (!rest_.empty() && rest_.front() != ';' && rest_.front() != ',') {
        std::string_view name;
        std::string_view value;
        if (!pair(name, value)) return good_ = false;
        if (equals_ignoring_case(name, "for")) {
          if (seen_for) return good_ = false;  // once an element (section 4)
          seen_for = true;
          node = value;
        }
      }
      skip_blanks();
      if (rest_.empty()) {
        ended_ = true;
        return true;
      }
      const char separator = rest_.front();
      rest_.remove_prefix(1);
      if (separator == ',') return true;
      if (separator != ';') return good_ = false;
    }
  }
  [[nodiscard]] bool good() const { return good_; }

 private:
  void skip_blanks() {
    while (!rest_.empty() && (rest_.front() == ' ' || rest_.front() == '\t')) rest_.remove_prefix(1);
  }
  std::string_view token() {
    std::size_t n = 0;
    while (n < rest_.size() && kTokenChar[byte_of(rest_[n])]) ++n;
    const std::string_view taken = rest_.substr(0, n);
    rest_.remove_prefix(n);
    return taken;
  }
  bool pair(std::string_view& name, std::string_view& value) {
    name = token();
    if (name.empty() || rest_.empty() || rest_.front() != '=') return false;
    rest_.remove_prefix(1);
    if (rest_.empty() || rest_.front() != '"') {
      value = token();
      return !value.empty();
    }
    for (std::size_t i = 1; i < rest_.size(); ++i) {
      if (rest_[i] == '\\') {
        if (++i == rest_.size()) return false;
      } else if (rest_[i] == '"') {
        value = rest_.substr(1, i - 1);
        rest_.remove_prefix(i + 1);
        return true;
      }
    }
    return false;
  }

  std::string_view rest_;
  bool good_ = true;
  bool ended_ = false;
};

// `1.2.3.4`, `1.2.3.4:567`, `[::1]`, `[::1]:567`, `::1`: the address alone.
std::string_view without_port(std::string_view node) {
  if (node.starts_with('[')) {
    const std::size_t end = node.find(']');
    if (end == std::string_view::npos) return {};
    const std::string_view behind = node.substr(end + 1);
    return behind.empty() || behind.front() == ':' ? node.substr(1, end - 1) : std::string_view{};
  }
  const std::size_t colon = node.find(':');
  const bool port = colon != std::string_view::npos && node.find(':', colon + 1) == std::string_view::npos;
  return port ? node.substr(0, colon) : node;
}

}  // namespace

HopWalk::HopWalk(const HeaderTable& table) {
  const bool list = table.has(HeaderName::x_forwarded_for);
  const HeaderName wanted = list ? HeaderName::x_forwarded_for : HeaderName::forwarded;
  if (!table.has(wanted)) return;
  for (const Header& field : table) {
    if (field.id != wanted) continue;
    if (list) {
      take_list(field.value);
      continue;
    }
    ForwardedLine line(field.value);
    for (std::string_view node; line.next(node);) add(node);
    if (!line.good()) count_ = 0;  // what stands before a line that nobody can read is no more certain
  }
  left_ = std::min(count_, kHopsMax);
}

void HopWalk::take_list(std::string_view line) {
  if (line.empty()) return;
  for (bool more = true; more;) {
    more = line.find(',') != std::string_view::npos;
    add(next_element(line));
  }
}

void HopWalk::add(std::string_view node) { nodes_[count_++ % kHopsMax] = node; }

std::string_view HopWalk::next() {
  if (left_ == 0) return {};
  --left_;
  const std::string_view address = without_port(nodes_[--count_ % kHopsMax]);
  if (address.empty()) left_ = 0;
  return address;
}

bool valid_forwarded(std::string_view text) {
  ForwardedLine line(text);
  std::string_view node;
  while (line.next(node)) {
  }
  return line.good();
}

}  // namespace perigee::http
