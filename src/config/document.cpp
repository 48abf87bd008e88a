// See document.h. The builder keeps a stack of open collections; a finished value goes to its parent.
#include "document.h"

#include <algorithm>
#include <istream>
#include <map>
#include <set>
#include <streambuf>
#include <utility>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

namespace perigee::config {
namespace {

// Thrown through yaml-cpp to end its reading; never leaves this file.
struct Stop {
  DocumentError error;
};

class ViewBuffer : public std::streambuf {
 public:
  explicit ViewBuffer(std::string_view text) {
    char* begin = const_cast<char*>(text.data());  // the get area is only read
    setg(begin, begin, begin + text.size());
  }
};

std::size_t count_nodes(const Node& node) {
  std::size_t n = 1;
  for (const Node& item : node.items)
    n += count_nodes(item);
  for (const Entry& entry : node.entries)
    n += count_nodes(entry.value);
  return n;
}

std::size_t depth_of(const Node& node) {
  std::size_t deepest = 0;
  for (const Node& item : node.items)
    deepest = std::max(deepest, depth_of(item));
  for (const Entry& entry : node.entries)
    deepest = std::max(deepest, depth_of(entry.value));
  return deepest + 1;
}

class Builder : public YAML::EventHandler {
 public:
  Builder(std::uint32_t file, std::size_t& nodes) : file_(file), nodes_(nodes) {}

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    take(Node{.mark = at(mark)}, anchor);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    // "?" = plain, "!" = quoted, else a tag that was written out.
    constexpr std::string_view kYaml = "tag:yaml.org,2002:";
    if (tag != "?" && tag != "!" && tag != "" && !tag.starts_with(kYaml)) {
      throw Stop{{at(mark), "the tag `" + tag + "` is not understood here"}};
    }
    Node node{
        .kind = Node::Kind::scalar, .quoted = tag == "!" || tag == "tag:yaml.org,2002:str", .mark = at(mark)};
    node.text = value;
    take(std::move(node), anchor);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto known = anchors_.find(anchor);
    if (known == anchors_.end()) throw Stop{{at(mark), "this alias refers to a value that contains it"}};
    const Node& original = known->second;
    if (open_.size() + depth_of(original) > kMaxDepth) throw_too_deep(at(mark));
    nodes_ += count_nodes(original);  // counted before it is copied
    check_nodes(at(mark));
    --nodes_;  // take() counts the top node itself
    Node copy = original;
    take(std::move(copy), 0);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(Node{.kind = Node::Kind::list, .mark = at(mark)}, anchor);
  }
  void OnSequenceEnd() override { close(); }

  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(Node{.kind = Node::Kind::map, .mark = at(mark)}, anchor);
  }
  void OnMapEnd() override { close(); }

  Node root;
  std::vector<DocumentError> errors;

 private:
  struct Open {
    Node node;
    YAML::anchor_t anchor = 0;
    bool has_key = false;
    Entry pending;             // map: the key that waits for its value
    std::vector<Node> merges;  // map: values of `<<`
    std::set<std::string> keys;
  };

  Mark at(const YAML::Mark& mark) const { return {file_, mark.line + 1, mark.column + 1}; }

  static void throw_too_deep(Mark mark) {
    throw Stop{{mark, "nested deeper than " + std::to_string(kMaxDepth) + " levels"}};
  }
  void check_nodes(Mark mark) const {
    if (nodes_ > kMaxNodes) {
      throw Stop{
          {mark, "more than " + std::to_string(kMaxNodes) + " values, aliases counted as often as used"}};
    }
  }

  void open(Node node, YAML::anchor_t anchor) {
    if (open_.size() >= kMaxDepth) throw_too_deep(node.mark);
    if (!open_.empty() && open_.back().node.kind == Node::Kind::map && !open_.back().has_key) {
      throw Stop{{node.mark, "a key must be plain text"}};
    }
    open_.emplace_back();
    open_.back().node = std::move(node);
    open_.back().anchor = anchor;
  }

  void close() {
    Open done = std::move(open_.back());
    open_.pop_back();
    for (Node& merged : done.merges)
      merge_into(done, std::move(merged));
    take(std::move(done.node), done.anchor);
  }

  // YAML's merge key: the map's own keys win.
  void merge_into(Open& map, Node merged) {
    if (merged.kind == Node::Kind::list) {
      for (Node& item : merged.items)
        merge_into(map, std::move(item));
      return;
    }
    if (merged.kind != Node::Kind::map) {
      errors.push_back({merged.mark, "`<<` takes a map or a list of maps"});
      return;
    }
    for (Entry& entry : merged.entries) {
      if (map.keys.insert(entry.key).second) map.node.entries.push_back(std::move(entry));
    }
  }

  void take(Node node, YAML::anchor_t anchor) {
    ++nodes_;
    check_nodes(node.mark);
    if (anchor != 0) {
      nodes_ += count_nodes(node);  // the copy that is kept for its aliases counts as well
      check_nodes(node.mark);
      anchors_.insert_or_assign(anchor, node);
    }
    if (open_.empty()) {
      root = std::move(node);
      return;
    }
    Open& parent = open_.back();
    if (parent.node.kind == Node::Kind::list) {
      parent.node.items.push_back(std::move(node));
    } else if (!parent.has_key) {
      take_key(parent, std::move(node));
    } else {
      take_value(parent, std::move(node));
    }
  }

  void take_key(Open& map, Node key) {
    if (key.kind != Node::Kind::scalar) throw Stop{{key.mark, "a key must be plain text"}};
    map.has_key = true;
    map.pending = Entry{key.text, key.mark, {}};
  }

  void take_value(Open& map, Node value) {
    map.has_key = false;
    Entry entry = std::move(map.pending);
    // yaml-cpp puts an absent value where the next token is; its key is the place to name.
    if (value.kind == Node::Kind::null) value.mark = entry.mark;
    if (entry.key == "<<") {
      map.merges.push_back(std::move(value));
      return;
    }
    if (!map.keys.insert(entry.key).second) {
      errors.push_back({entry.mark, "the key `" + entry.key.substr(0, 64) + "` is written twice"});
      return;
    }
    entry.value = std::move(value);
    map.node.entries.push_back(std::move(entry));
  }

  std::uint32_t file_;
  std::size_t& nodes_;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, Node> anchors_;
};

Mark mark_of_offset(std::string_view text, std::size_t offset, std::uint32_t file) {
  Mark mark{file, 1, 1};
  for (std::size_t i = 0; i < offset; ++i) {
    if (text[i] == '\n') {
      ++mark.line;
      mark.column = 1;
    } else {
      ++mark.column;
    }
  }
  return mark;
}

// Length of the UTF-8 character at `i`, or 0 if there is none (RFC 3629: shortest form, no surrogates).
std::size_t utf8_length(std::string_view text, std::size_t i) {
  const auto byte = [&](std::size_t k) -> unsigned {
    return k < text.size() ? static_cast<unsigned char>(text[k]) : 0U;
  };
  const auto tail = [&](std::size_t k) { return (byte(k) & 0xC0U) == 0x80U; };
  const unsigned b = byte(i);
  if (b < 0x80) return 1;
  if (b >= 0xC2 && b <= 0xDF) return tail(i + 1) ? 2 : 0;
  if (b >= 0xE0 && b <= 0xEF) {
    const unsigned second = byte(i + 1);
    if ((b == 0xE0 && second < 0xA0) || (b == 0xED && second > 0x9F)) return 0;
    return tail(i + 1) && tail(i + 2) ? 3 : 0;
  }
  if (b >= 0xF0 && b <= 0xF4) {
    const unsigned second = byte(i + 1);
    if ((b == 0xF0 && second < 0x90) || (b == 0xF4 && second > 0x8F)) return 0;
    return tail(i + 1) && tail(i + 2) && tail(i + 3) ? 4 : 0;
  }
  return 0;
}

}  // namespace

const Entry* Node::find(std::string_view key) const {
  for (const Entry& entry : entries) {
    if (entry.key == key) return &entry;
  }
  return nullptr;
}

std::size_t find_bad_text(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const char c = text[i];
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\n' && c != '\r' && c != '\t') || byte == 0x7F) return i;
    const std::size_t length = utf8_length(text, i);
    if (length == 0) return i;
    i += length;
  }
  return std::string_view::npos;
}

std::expected<Node, std::vector<DocumentError>> read_document(std::string_view text, std::uint32_t file,
                                                              std::size_t& nodes) {
  const auto failed = [](Mark mark, std::string message) {
    return std::unexpected(std::vector<DocumentError>{{mark, std::move(message)}});
  };
  if (text.size() > kMaxFileBytes) return failed({file, 0, 0}, "larger than 1 MiB");
  // yaml-cpp takes byte 0x04 for the end of the file, and what follows would be dropped in silence.
  if (const std::size_t bad = find_bad_text(text); bad != std::string_view::npos) {
    return failed(mark_of_offset(text, bad, file), "a byte that is not UTF-8 text");
  }
  Builder builder(file, nodes);
  try {
    ViewBuffer buffer(text);
    std::istream stream(&buffer);
    YAML::Parser parser(stream);
    if (parser.HandleNextDocument(builder)) {
      Builder second(file, nodes);
      if (parser.HandleNextDocument(second)) {
        builder.errors.push_back({second.root.mark, "a second YAML document; only one is read"});
      }
    }
  } catch (Stop& stop) {
    builder.errors.push_back(std::move(stop.error));
  } catch (const YAML::Exception& e) {
    Mark mark{file, e.mark.line + 1, e.mark.column + 1};
    if (e.mark.is_null()) mark = {file, 0, 0};
    builder.errors.push_back({mark, "not YAML: " + e.msg});
  }
  if (!builder.errors.empty()) return std::unexpected(std::move(builder.errors));
  return std::move(builder.root);
}

}  // namespace perigee::config
