// Schema, parser and reference file say the same: they may not drift apart.
//
// The schema is applied by a small validator that knows just the words we use, and fails on any other.
#include <algorithm>
#include <regex>
#include <set>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "document.h"
#include "files.h"
#include "perigee/config/export.h"
#include "perigee/config/loader.h"
#include "tables.h"

namespace perigee::config {
namespace {

// One table for all tests of this program: building it is most of what a load of a small file costs.
const auto kept_table = root_table();

const Environment kNone;

bool is_type(const Json& value, const std::string& type) {
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "string") return value.is_string();
  if (type == "integer") return value.is_number_integer();
  if (type == "number") return value.is_number();
  if (type == "boolean") return value.is_boolean();
  if (type == "null") return value.is_null();
  throw std::runtime_error("type " + type);
}

class Validator {
 public:
  explicit Validator(Json root) : root_(std::move(root)) {}
  bool valid(const Json& value) const { return valid(root_, value); }

 private:
  bool valid(const Json& schema, const Json& value) const {
    return std::ranges::all_of(
        schema.items(), [&](const auto& rule) { return obeys(schema, rule.key(), rule.value(), value); });
  }

  bool obeys(const Json& schema, const std::string& word, const Json& rule, const Json& value) const {
    static const std::set<std::string> kSilent = {"$schema",     "$defs",   "title",
                                                  "description", "default", "examples"};
    if (kSilent.contains(word)) return true;
    if (word == "$ref") return valid(root_.at("$defs").at(rule.get<std::string>().substr(8)), value);
    if (word == "anyOf") return std::ranges::any_of(rule, [&](const Json& s) { return valid(s, value); });
    if (word == "enum") return std::ranges::find(rule, value) != rule.end();
    if (word == "const") return rule == value;
    if (word == "type") {
      if (rule.is_string()) return is_type(value, rule);
      return std::ranges::any_of(rule, [&](const Json& t) { return is_type(value, t); });
    }
    if (word == "minimum") return !value.is_number() || value.get<double>() >= rule.get<double>();
    if (word == "maximum") return !value.is_number() || value.get<double>() <= rule.get<double>();
    if (word == "pattern") {
      return !value.is_string() ||
             std::regex_search(value.get<std::string>(), std::regex(rule.get<std::string>()));
    }
    if (word == "maxLength") return !value.is_string() || value.get<std::string>().size() <= rule;
    if (word == "maxItems") return !value.is_array() || value.size() <= rule;
    if (word == "maxProperties") return !value.is_object() || value.size() <= rule;
    if (word == "items") {
      return !value.is_array() || std::ranges::all_of(value, [&](const Json& v) { return valid(rule, v); });
    }
    if (word == "required") {
      return !value.is_object() ||
             std::ranges::all_of(rule, [&](const Json& k) { return value.contains(std::string(k)); });
    }
    if (word == "properties") {
      return !value.is_object() || std::ranges::all_of(value.items(), [&](const auto& p) {
        return !rule.contains(p.key()) || valid(rule.at(p.key()), p.value());
      });
    }
    if (word == "additionalProperties") {
      return !value.is_object() || std::ranges::all_of(value.items(), [&](const auto& p) {
        if (schema.contains("properties") && schema.at("properties").contains(p.key())) return true;
        return rule.is_boolean() ? rule.get<bool>() : valid(rule, p.value());
      });
    }
    throw std::runtime_error("the validator does not know " + word);
  }

  Json root_;
};

// A file as JSON, scalars typed as YAML's core schema types them.
Json to_json(const Node& node) {
  if (node.kind == Node::Kind::null) return nullptr;
  if (node.kind == Node::Kind::scalar) {
    if (node.quoted) return node.text;
    if (node.text == "true" || node.text == "false") return node.text == "true";
    const Json number = Json::parse(node.text, nullptr, false);
    return number.is_number() ? number : Json(node.text);
  }
  Json out = node.kind == Node::Kind::list ? Json::array() : Json::object();
  for (const Node& item : node.items)
    out.push_back(to_json(item));
  for (const Entry& entry : node.entries)
    out[entry.key] = to_json(entry.value);
  return out;
}

Json read_json(const std::string& text) {
  std::size_t nodes = 0;
  const auto node = read_document(text, 0, nodes);
  REQUIRE(node);
  return to_json(*node);
}

std::string everything() {
  std::string text = test::slurp(test::source_root() + "/conf/reference.yaml");
  for (std::size_t at; (at = text.find("\n#:")) != std::string::npos;)
    text.erase(at + 1, 2);
  return text;
}

// Keys of the table that a file does not name. `*` stands for any key or item.
void find_missing(const std::vector<FieldInfo>& fields, const Json& file, const std::string& prefix,
                  std::vector<std::string>& out) {
  for (const FieldInfo& field : fields) {
    const std::string key = prefix + field.key;
    if (field.key == "*") {
      Json merged = Json::object();
      for (const Json& item : file) {
        if (item.is_object()) merged.update(item);
      }
      find_missing(field.children, merged, key + ".", out);
    } else if (!file.is_object() || !file.contains(field.key)) {
      out.push_back(key);
    } else {
      find_missing(field.children, file.at(field.key), key + ".", out);
    }
  }
}

}  // namespace

TEST_CASE("the reference names every key there is") {
  const Json file = read_json(everything());
  std::vector<std::string> missing;
  find_missing(root_table()->infos(), file, "", missing);
  CHECK(missing == std::vector<std::string>{});
  const LoadResult result = parse(everything(), "reference.yaml", kNone);
  if (!result) FAIL(format_diagnostics(result.error()));
}

TEST_CASE("the guide names every top-level key and every key of the performance block") {
  const std::string guide = test::slurp(test::source_root() + "/docs/configuration.md");
  const auto named = [&](const std::string& key) { return guide.find("`" + key + "`") != std::string::npos; };
  std::function<void(const FieldInfo&)> leaves = [&](const FieldInfo& field) {
    CAPTURE(field.key);
    if (field.children.empty()) CHECK(named(field.key));
    for (const FieldInfo& child : field.children)
      leaves(child);
  };
  for (const FieldInfo& field : root_table()->infos()) {
    CAPTURE(field.key);
    CHECK(named(field.key));
    if (field.key == "performance") leaves(field);
  }
}

TEST_CASE("every field says what it is") {
  std::function<void(const std::vector<FieldInfo>&)> walk = [&](const std::vector<FieldInfo>& fields) {
    std::set<std::string> keys;
    for (const FieldInfo& field : fields) {
      CAPTURE(field.key);
      CHECK((field.key == "*" || field.doc.size() > 4));
      CHECK(keys.insert(field.key).second);
      walk(field.children);
    }
  };
  walk(root_table()->infos());
}

TEST_CASE("schema and parser agree on good files") {
  const Json schema = Json::parse(schema_text());
  CHECK(schema.at("$schema") == "https://json-schema.org/draft/2020-12/schema");
  const Validator validator(schema);
  for (const char* name : {"perigee", "small", "medium", "large", "reference"}) {
    CAPTURE(name);
    CHECK(validator.valid(read_json(test::slurp(test::source_root() + "/conf/" + name + ".yaml"))));
  }
  CHECK(validator.valid(read_json(everything())));
  CHECK(validator.valid(
      read_json(test::slurp(test::source_root() + "/tests/data/config/roadmap-performance.yaml"))));
  CHECK(validator.valid(to_redacted_json(Config{})));
  for (const char* text :
       {"import: a.yaml", "limits: {import: [a.yaml]}", "limits:", "admin: off", "access_log: on",
        "io_threads: ${N:-2}", "queue_wait: 5s", "listen: 3000", "cors: off"}) {
    CAPTURE(text);
    CHECK(validator.valid(read_json(text)));
  }
}

TEST_CASE("schema and parser agree on bad files") {
  const Validator validator(Json::parse(schema_text()));
  for (const char* text :
       {"lisen: 3000", "limits: {straems: 1}", "limits: {streams: 0}", "limits: 5", "io_threads: many",
        "workers: http://127.0.0.1:3001", "workers: [{name: a}]", "workers: [{url: 'http://a:1', kind: b}]",
        "clocks: {head: soon}", "queue: {bytes: 1TB}", "routes: [{path: v1}]", "balancing: {picker: best}",
        "performance: {workers: 0}", "admin: {port: 1}", "access_log: 7", "trusted: {a: b}",
        "retries: {budget: 2}"}) {
    CAPTURE(text);
    CHECK_FALSE(parse(text, "main.yaml", kNone));
    CHECK_FALSE(validator.valid(read_json(text)));
  }
}

}  // namespace perigee::config
