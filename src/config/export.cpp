// See perigee/config/export.h. JSON, schema and differences, all walks over the root table.
#include "perigee/config/export.h"

#include <algorithm>
#include <set>

#include "tables.h"

namespace perigee::config {
namespace {

Json write(const Config& config, Show show) {
  Draft draft{config, {}};
  // pools[0] is always there; only the others were written.
  for (std::size_t i = 1; i < config.pools.size(); ++i) {
    Draft::WrittenPool pool;
    pool.overload = config.pools[i].overload;
    for (const std::uint32_t worker : config.pools[i].workers)
      pool.workers.push_back(config.workers[worker].name);
    pool.batch = config.pools[i].batch;
    draft.pools.emplace_back(config.pools[i].name, std::move(pool));
  }
  return root_table()->write(draft, show);
}

void collect_restarts(const std::vector<FieldInfo>& fields, const std::string& prefix,
                      std::set<std::string>& out) {
  for (const FieldInfo& field : fields) {
    const std::string key = prefix.empty() ? field.key : prefix + "." + field.key;
    if (field.needs_restart) out.insert(key);
    collect_restarts(field.children, key, out);
  }
}

// Both configurations twice: compared as they are, told as they may be shown.
struct Pair {
  const Json* plain = nullptr;
  const Json* shown = nullptr;
};

class Differ {
 public:
  Differ() { collect_restarts(root_table()->infos(), {}, restarts_); }

  void compare(const std::string& key, Pair before, Pair after) {
    if (before.plain != nullptr && after.plain != nullptr) {
      if (*before.plain == *after.plain) return;
      if (before.plain->is_object() && after.plain->is_object()) return compare_objects(key, before, after);
      if (key == "workers") return compare_workers(before, after);
      if (key == "listen" && same_places(*before.plain, *after.plain)) return compare_certificates(before, after);
    }
    changes.push_back({key, dump(before.shown), dump(after.shown), needs_restart(key)});
  }

  std::vector<Change> changes;

 private:
  static std::string dump(const Json* json) { return json == nullptr ? std::string() : json->dump(); }

  static Pair member(Pair object, const std::string& name) {
    if (!object.plain->contains(name)) return {};
    return {&object.plain->at(name), &object.shown->at(name)};
  }

  static Pair worker(Pair list, const Json& name) {
    for (std::size_t i = 0; i < list.plain->size(); ++i) {
      if (list.plain->at(i).at("name") == name) return {&list.plain->at(i), &list.shown->at(i)};
    }
    return {};
  }

  void compare_objects(const std::string& prefix, Pair before, Pair after) {
    const auto path = [&](const std::string& name) { return prefix.empty() ? name : prefix + "." + name; };
    for (const auto& item : before.plain->items()) {
      compare(path(item.key()), member(before, item.key()), member(after, item.key()));
    }
    for (const auto& item : after.plain->items()) {
      if (!before.plain->contains(item.key())) compare(path(item.key()), {}, member(after, item.key()));
    }
  }

  void compare_workers(Pair before, Pair after) {
    const auto path = [](const Json& w) { return "workers[" + w.at("name").get<std::string>() + "]"; };
    for (std::size_t i = 0; i < before.plain->size(); ++i) {
      const Json& w = before.plain->at(i);
      compare(path(w), {&w, &before.shown->at(i)}, worker(after, w.at("name")));
    }
    for (std::size_t i = 0; i < after.plain->size(); ++i) {
      const Json& w = after.plain->at(i);
      if (worker(before, w.at("name")).plain == nullptr) compare(path(w), {}, {&w, &after.shown->at(i)});
    }
  }

  // A listener without its `tls`, which a reload puts in place; the rest waits for a restart. One that is written
  // as a map says its defaults, one written as an address does not.
  static Json place(Json listener) {
    if (!listener.is_object()) return Json{{"address", listener}};
    listener.erase("tls");
    if (listener.at("mode") == "none") listener.erase("mode");
    if (listener.at("proxy_protocol").at("from").empty()) listener.erase("proxy_protocol");
    return listener;
  }
  static bool same_places(const Json& before, const Json& after) {
    return std::equal(before.begin(), before.end(), after.begin(), after.end(),
                      [](const Json& a, const Json& b) { return place(a) == place(b); });
  }
  void compare_certificates(Pair before, Pair after) {
    const auto tls = [](const Json& l) { return l.is_object() && l.contains("tls") ? l.at("tls") : Json("none"); };
    for (std::size_t i = 0; i < before.plain->size(); ++i) {
      if (tls(before.plain->at(i)) == tls(after.plain->at(i))) continue;
      changes.push_back({"listen[" + std::to_string(i) + "].tls", tls(before.shown->at(i)).dump(),
                         tls(after.shown->at(i)).dump(), false});
    }
  }

  [[nodiscard]] bool needs_restart(const std::string& key) const { return restarts_.contains(key); }

  std::set<std::string> restarts_;
};

}  // namespace

nlohmann::ordered_json to_redacted_json(const Config& config) {
  return write(config, Show::redacted);
}

std::vector<Change> diff(const Config& before, const Config& after) {
  const Json plain_before = write(before, Show::plain);
  const Json plain_after = write(after, Show::plain);
  const Json shown_before = write(before, Show::redacted);
  const Json shown_after = write(after, Show::redacted);
  Differ differ;
  differ.compare({}, {&plain_before, &shown_before}, {&plain_after, &shown_after});
  return std::move(differ.changes);
}

std::string schema_text() {
  Json schema = {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
                 {"title", "Perigee configuration"},
                 {"description", "Every value may be a variable: ${NAME} or ${NAME:-default}."}};
  schema["$defs"]["variable"] = {{"type", "string"},
                                 {"pattern", "\\$\\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\\}"}};
  schema["$defs"]["import"] = {
      {"description", "Files to merge in, relative to this one"},
      {"anyOf",
       Json::array({Json{{"type", "string"}}, Json{{"type", "array"}, {"items", {{"type", "string"}}}}})}};
  schema.update(root_table()->schema());
  return schema.dump(2) + "\n";
}

}  // namespace perigee::config
