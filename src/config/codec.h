// Codecs: how one kind of value is read, written and described. Tables: how a struct is made of them.
//
// A section of the configuration is one `Table<Struct>`: a list of fields, each with its key, its member, its
// codec and one line for people. The parser, the JSON of the admin API, the JSON Schema and the differences
// of a reload all walk the same tables. A table is never changed once it is built.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "document.h"
#include "nearest.h"
#include "reader.h"

namespace perigee::config {

using Json = nlohmann::ordered_json;

enum class Show : std::uint8_t { redacted, plain };

// A field as those see it who need not know its type.
struct FieldInfo {
  std::string key;
  std::string doc;
  bool needs_restart = false;
  bool not_yet = false;
  std::vector<FieldInfo> children;  // of a section
};

template <typename T>
struct Codec {
  std::function<bool(Reader&, const Node&, T&)> read;  // false: an error was reported, T is as it was
  std::function<Json(const T&, Show)> write;
  Json schema;
  std::vector<FieldInfo> children;
};

template <typename S>
class Table {
 public:
  // `member`: anything std::invoke takes with an S&, giving the field.
  template <typename Member, typename M>
  Table& add(std::string key, Member member, Codec<M> codec, std::string doc) {
    Field field = described(std::move(key), codec.schema, codec.children, std::move(doc));
    set_default(field.schema, codec.write(std::invoke(member, defaults()), Show::redacted));
    field.read = [member, read = codec.read](Reader& r, const Node& n, S& out) {
      return read(r, n, std::invoke(member, out));
    };
    field.write = [member, write = codec.write](const S& s, Show show) {
      return write(std::invoke(member, s), show);
    };
    fields_.push_back(std::move(field));
    return *this;
  }

  // Read and then handed on; written nowhere, because its effect is in other fields.
  template <typename M>
  Table& input(std::string key, Codec<M> codec, std::string doc, std::function<void(const M&, S&)> apply) {
    Field field = described(std::move(key), codec.schema, codec.children, std::move(doc));
    field.read = [apply, read = codec.read](Reader& r, const Node& n, S& out) {
      M value{};
      if (!read(r, n, value)) return false;
      apply(value, out);
      return true;
    };
    fields_.push_back(std::move(field));
    return *this;
  }

  // A section whose fields change other fields of S: read into S itself, written nowhere.
  Table& part(std::string key, Codec<S> codec, std::string doc) {
    Field field = described(std::move(key), codec.schema, codec.children, std::move(doc));
    field.read = codec.read;
    fields_.push_back(std::move(field));
    return *this;
  }

  // A setting of a later feature: checked like any other, kept nowhere, told by `perigee check`.
  template <typename M>
  Table& later(std::string key, Codec<M> codec, std::string doc) {
    Field field;
    field.info = {key, doc, false, true, codec.children};
    field.schema = codec.schema;
    field.schema["description"] = doc + " (accepted, not yet in effect)";
    const bool is_section = !codec.children.empty();  // its own leaves speak for themselves
    field.read = [codec, doc, is_section](Reader& r, const Node& n, S&) {
      M value{};
      if (!codec.read(r, n, value)) return false;
      if (!is_section) r.not_yet(n.mark, codec.write(value, Show::redacted).dump(), doc);
      return true;
    };
    fields_.push_back(std::move(field));
    return *this;
  }

  // The next two speak of the field added last.
  Table& needs_restart() {
    fields_.back().info.needs_restart = true;
    return *this;
  }
  Table& required() {
    fields_.back().required = true;
    return *this;
  }

  [[nodiscard]] bool read(Reader& r, const Node& node, S& out) const {
    if (node.kind == Node::Kind::null && !has_required())
      return true;  // a heading with all its keys commented out
    if (node.kind != Node::Kind::map) return r.mismatch(node, "a map of " + key_list());
    bool good = true;
    for (const Entry& entry : node.entries)
      good = known(r, entry) && good;
    // In the order of the table, which is the order in which later fields override earlier ones.
    for (const Field& field : fields_) {
      const Reader::Scope scope(r, field.info.key);
      if (const Entry* entry = node.find(field.info.key)) {
        r.seen(entry->value.mark);
        good = field.read(r, entry->value, out) && good;
      } else if (field.required) {
        good = r.error(node.mark, "missing key");
      }
    }
    return good;
  }

  [[nodiscard]] Json write(const S& s, Show show) const {
    Json out = Json::object();
    for (const Field& field : fields_) {
      if (field.write) out[field.info.key] = field.write(s, show);
    }
    return out;
  }

  [[nodiscard]] Json schema() const {
    Json out = {{"type", Json::array({"object", "null"})}, {"additionalProperties", false}};
    out["properties"]["import"] = {{"$ref", "#/$defs/import"}};  // taken out before a table is asked
    Json required = Json::array();
    for (const Field& field : fields_) {
      out["properties"][field.info.key] = field.schema;
      if (field.required) required.push_back(field.info.key);
    }
    if (!required.empty()) {
      out["required"] = required;
      out["type"] = "object";
    }
    return out;
  }

  [[nodiscard]] std::vector<FieldInfo> infos() const {
    std::vector<FieldInfo> out;
    for (const Field& field : fields_)
      out.push_back(field.info);
    return out;
  }

 private:
  struct Field {
    FieldInfo info;
    bool required = false;
    Json schema;
    std::function<bool(Reader&, const Node&, S&)> read;
    std::function<Json(const S&, Show)> write;  // none: the field is no part of S
  };

  // Not in `add`, which is compiled once a field: an S built and destroyed in each of those made the compiler
  // take a minute for a table.
  static Field described(std::string key, const Json& schema, const std::vector<FieldInfo>& children,
                         std::string doc);
  static void set_default(Json& schema, Json standard);
  static const S& defaults();

  [[nodiscard]] bool has_required() const {
    for (const Field& field : fields_) {
      if (field.required) return true;
    }
    return false;
  }

  [[nodiscard]] std::string key_list() const {
    std::string out;
    for (std::size_t i = 0; i < fields_.size() && i < 6; ++i)
      out += (i == 0 ? "`" : ", `") + fields_[i].info.key + "`";
    return fields_.size() > 6 ? out + " …" : out;
  }

  bool known(Reader& r, const Entry& entry) const {
    std::vector<std::string_view> keys;
    for (const Field& field : fields_) {
      if (field.info.key == entry.key) return true;
      keys.push_back(field.info.key);
    }
    const Reader::Scope scope(r, entry.key.substr(0, 64));
    // Looking for near words costs, and a file may have very many unknown ones.
    return r.error(entry.mark, "unknown key", r.full() ? std::string() : nearest_to(entry.key, keys));
  }

  std::vector<Field> fields_;
};

template <typename S>
typename Table<S>::Field Table<S>::described(std::string key, const Json& schema,
                                             const std::vector<FieldInfo>& children, std::string doc) {
  Field field;
  field.schema = schema;
  field.schema["description"] = doc;
  field.info = {std::move(key), std::move(doc), false, false, children};
  return field;
}

template <typename S>
void Table<S>::set_default(Json& schema, Json standard) {
  if (!standard.is_object() && standard != "(redacted)") schema["default"] = std::move(standard);
}

template <typename S>
const S& Table<S>::defaults() {
  static const S kDefaults{};
  return kDefaults;
}

// What lists and maps of sections tell of their items: one child whose key is `*`.
inline std::vector<FieldInfo> children_of_items(const std::vector<FieldInfo>& item) {
  if (item.empty()) return {};
  return {FieldInfo{"*", {}, false, false, item}};
}

template <typename S>
Codec<S> section(Table<S> table) {
  Codec<S> codec;
  codec.schema = table.schema();
  codec.children = table.infos();
  const auto shared = std::make_shared<const Table<S>>(std::move(table));
  codec.read = [shared](Reader& r, const Node& n, S& out) { return shared->read(r, n, out); };
  codec.write = [shared](const S& s, Show show) { return shared->write(s, show); };
  return codec;
}

// `[a, b]`, or a single value where `single` allows it.
template <typename T>
Codec<std::vector<T>> list_of(Codec<T> item, std::size_t most, bool single = false) {
  Codec<std::vector<T>> codec;
  codec.schema = {{"type", "array"}, {"items", item.schema}, {"maxItems", most}};
  codec.children = children_of_items(item.children);
  if (single) codec.schema = {{"anyOf", Json::array({codec.schema, item.schema})}};
  codec.read = [item, most, single](Reader& r, const Node& n, std::vector<T>& out) {
    std::vector<T> values;
    bool good = true;
    if (single && n.kind != Node::Kind::list) {
      T value{};
      good = item.read(r, n, value);
      values.push_back(std::move(value));
    } else {
      if (n.kind != Node::Kind::list) return r.mismatch(n, "a list");
      if (n.items.size() > most) return r.error(n.mark, "a list of more than " + std::to_string(most));
      for (std::size_t i = 0; i < n.items.size(); ++i) {
        const Reader::Scope scope(r, "[" + std::to_string(i) + "]");
        r.seen(n.items[i].mark);
        T value{};
        good = item.read(r, n.items[i], value) && good;
        values.push_back(std::move(value));
      }
    }
    if (good) out = std::move(values);
    return good;
  };
  codec.write = [item](const std::vector<T>& values, Show show) {
    Json out = Json::array();
    for (const T& value : values)
      out.push_back(item.write(value, show));
    return out;
  };
  return codec;
}

// `{name: value}` with names of the operator's choice.
template <typename T>
Codec<std::vector<std::pair<std::string, T>>> map_of(Codec<T> item, std::size_t most) {
  using Pairs = std::vector<std::pair<std::string, T>>;
  Codec<Pairs> codec;
  codec.schema = {{"type", "object"}, {"additionalProperties", item.schema}, {"maxProperties", most}};
  codec.children = children_of_items(item.children);
  codec.read = [item, most](Reader& r, const Node& n, Pairs& out) {
    if (n.kind != Node::Kind::map) return r.mismatch(n, "a map");
    if (n.entries.size() > most) return r.error(n.mark, "a map of more than " + std::to_string(most));
    Pairs values;
    bool good = true;
    for (const Entry& entry : n.entries) {
      const Reader::Scope scope(r, entry.key.substr(0, 64));
      r.seen(entry.value.mark);
      T value{};
      good = item.read(r, entry.value, value) && good;
      values.emplace_back(entry.key, std::move(value));
    }
    if (good) out = std::move(values);
    return good;
  };
  codec.write = [item](const Pairs& values, Show show) {
    Json out = Json::object();
    for (const auto& [key, value] : values)
      out[key] = item.write(value, show);
    return out;
  };
  return codec;
}

// A value that may be left open: `none`.
template <typename T>
Codec<std::optional<T>> optional_of(Codec<T> inner) {
  Codec<std::optional<T>> codec;
  codec.schema = {{"anyOf", Json::array({Json{{"const", "none"}}, inner.schema})}};
  codec.children = inner.children;
  codec.read = [inner](Reader& r, const Node& n, std::optional<T>& out) {
    if (n.kind == Node::Kind::scalar && n.text == "none") {
      out.reset();
      return true;
    }
    T value{};
    if (!inner.read(r, n, value)) return false;
    out = std::move(value);
    return true;
  };
  codec.write = [inner](const std::optional<T>& value, Show show) {
    return value ? inner.write(*value, show) : Json("none");
  };
  return codec;
}

}  // namespace perigee::config
