// See reader.h.
#include "reader.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace perigee::config {
namespace {

constexpr std::size_t kLongestQuote = 60;

std::string describe(const Node& node) {
  switch (node.kind) {
    case Node::Kind::null: return "nothing";
    case Node::Kind::list: return "a list";
    case Node::Kind::map: return "a map";
    case Node::Kind::scalar: break;
  }
  std::string text = node.from_variable ? node.original : node.text;
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  }
  if (text.size() > kLongestQuote) {
    std::size_t cut = kLongestQuote;
    while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xC0U) == 0x80U)
      --cut;
    text = text.substr(0, cut) + "…";
  }
  return (node.quoted && !node.from_variable ? "the text \"" + text + "\"" : "`" + text + "`");
}

}  // namespace

Place Reader::place(const Mark& mark) const {
  return {mark.file < files_.size() ? files_[mark.file] : std::string(), mark.line, mark.column};
}

Place Reader::place_of(std::string key) const {
  while (!key.empty()) {
    if (const auto found = places_.find(key); found != places_.end()) return place(found->second);
    const std::size_t cut = key.find_last_of(".[");
    if (cut == std::string::npos) break;
    key.resize(cut);
  }
  return place(Mark{});
}

bool Reader::error(const Mark& mark, std::string message, std::string nearest) {
  if (!full()) {
    errors_.push_back({place(mark), path_, std::move(message), std::move(nearest)});
  } else {
    ++dropped_;
  }
  return false;
}

void Reader::error_at(const std::string& key, std::string message, std::string nearest) {
  errors_.push_back({place_of(key), key, std::move(message), std::move(nearest)});
}

void Reader::warning(const std::string& key, std::string message) {
  warnings_.push_back({place_of(key), key, std::move(message), {}});
}

bool Reader::mismatch(const Node& node, const std::string& expected, std::string nearest) {
  return error(node.mark, "found " + describe(node) + ", expected " + expected, std::move(nearest));
}

void Reader::not_yet(const Mark& mark, std::string value, std::string about) {
  const Place where = place(mark);
  std::string text = where.file + ":" + std::to_string(where.line) + ":" + std::to_string(where.column);
  not_yet_.push_back({path_, std::move(value), std::move(about), std::move(text)});
}

bool Reader::failed_in(std::string_view key) const {
  return std::ranges::any_of(errors_, [&](const Diagnostic& d) {
    if (!d.key.starts_with(key)) return false;
    return d.key.size() == key.size() || d.key[key.size()] == '.' || d.key[key.size()] == '[';
  });
}

void sort_by_place(std::vector<Diagnostic>& diagnostics) {
  const auto before = [](const Diagnostic& a, const Diagnostic& b) {
    return std::tie(a.place.file, a.place.line, a.place.column) <
           std::tie(b.place.file, b.place.line, b.place.column);
  };
  // By insertion: there are few, and those of one place keep their order.
  for (auto next = diagnostics.begin(); next != diagnostics.end(); ++next) {
    std::rotate(std::upper_bound(diagnostics.begin(), next, *next, before), next, next + 1);
  }
}

std::vector<Diagnostic> Reader::take_errors() {
  sort_by_place(errors_);  // codecs go by their tables; people read from the top
  if (dropped_ != 0) errors_.push_back({{}, {}, std::to_string(dropped_) + " more errors", {}});
  return std::move(errors_);
}

}  // namespace perigee::config
