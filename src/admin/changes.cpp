#include "changes.h"

#include <algorithm>
#include <array>
#include <optional>

#include <nlohmann/json.hpp>

namespace perigee::admin {

namespace {

using Json = nlohmann::json;

constexpr std::string_view kRoot = "/api/v1/";
constexpr std::string_view kBackends = "backends/";

struct Word {
  std::string_view word;
  Action action;
};
constexpr std::array<Word, 4> kWhole = {
    {{"reload", Action::reload}, {"drain", Action::drain}, {"pause", Action::pause}, {"resume", Action::resume}}};
constexpr std::array<Word, 4> kOfBackend = {{{"drain", Action::drain_backend},
                                             {"enable", Action::enable_backend},
                                             {"eject", Action::eject_backend},
                                             {"limit", Action::limit_backend}}};

template <std::size_t N>
std::optional<Action> find(const std::array<Word, N>& words, std::string_view word) {
  const auto at = std::find_if(words.begin(), words.end(), [&](const Word& w) { return w.word == word; });
  return at == words.end() ? std::nullopt : std::optional(at->action);
}

int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::optional<std::string> decoded(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    const int high = i + 2 < text.size() ? digit(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? digit(text[i + 2]) : -1;
    if (high < 0 || low < 0) return std::nullopt;
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

// The change that a path stands for, with the name of its worker still encoded.
struct Asked {
  Action action;
  std::string_view name;
};
std::optional<Asked> asked(std::string_view path) {
  if (!path.starts_with(kRoot)) return std::nullopt;
  path.remove_prefix(kRoot.size());
  if (const auto action = find(kWhole, path)) return Asked{*action, {}};
  if (!path.starts_with(kBackends)) return std::nullopt;
  path.remove_prefix(kBackends.size());
  const std::size_t slash = path.find('/');
  if (slash == std::string_view::npos || slash == 0) return std::nullopt;
  const auto action = find(kOfBackend, path.substr(slash + 1));
  return action ? std::optional(Asked{*action, path.substr(0, slash)}) : std::nullopt;
}

std::string_view field_of(Action action) {
  switch (action) {
    case Action::pause:
    case Action::resume: return "pool";
    case Action::limit_backend: return "slots";
    case Action::eject_backend: return "seconds";
    case Action::reload:
    case Action::drain:
    case Action::drain_backend:
    case Action::enable_backend: break;
  }
  return {};
}

// Nothing, or what is wrong with the value of the action's one field.
std::string take(Change& change, const Json& value) {
  switch (change.action) {
    case Action::limit_backend:
      if (value.is_null()) return {};
      if (!value.is_number_unsigned() || value.get<std::uint64_t>() < 1 || value.get<std::uint64_t>() > 1'000'000) {
        return "`slots`: a whole number from 1 to 1000000, or null";
      }
      change.slots = value.get<std::uint32_t>();
      return {};
    case Action::eject_backend:
      if (!value.is_number_unsigned() || value.get<std::uint64_t>() < 1 || value.get<std::uint64_t>() > 86'400) {
        return "`seconds`: a whole number from 1 to 86400";
      }
      change.time = std::chrono::seconds(value.get<std::uint32_t>());
      return {};
    default:
      if (!value.is_string() || value.get<std::string>().empty()) return "`pool`: a name";
      change.name = value.get<std::string>();
      return {};
  }
}

}  // namespace

bool is_change(std::string_view path) { return asked(path).has_value(); }

std::expected<Change, Wrong> read_change(std::string_view path, std::string_view content_type, std::string_view body) {
  const auto what = asked(path);
  if (!what) return std::unexpected(Wrong{404, "no such change; / lists them"});
  Change change;
  change.action = what->action;
  auto name = decoded(what->name);
  if (!name) return std::unexpected(Wrong{400, "a broken escape in the name"});
  change.name = std::move(*name);

  const std::string_view field = field_of(change.action);
  Json json = Json::object();
  if (!body.empty()) {
    // A form that a browser sends without asking has another type.
    if (!content_type.starts_with("application/json")) return std::unexpected(Wrong{415, "a body is application/json"});
    json = Json::parse(body, nullptr, false);
    if (!json.is_object()) return std::unexpected(Wrong{400, "the body is no JSON object"});
  }
  for (const auto& [key, value] : json.items()) {
    if (field.empty()) return std::unexpected(Wrong{400, "this takes no fields"});
    if (key != field) return std::unexpected(Wrong{400, "the only field here is `" + std::string(field) + "`"});
    if (auto wrong = take(change, value); !wrong.empty()) return std::unexpected(Wrong{400, std::move(wrong)});
  }
  if (change.action == Action::limit_backend && !json.contains("slots")) {
    return std::unexpected(Wrong{400, "`slots` is needed: a number, or null to take the limit back"});
  }
  return change;
}

}  // namespace perigee::admin
