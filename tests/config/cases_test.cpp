// The cases of tests/data/config/cases: files above, expectations below.
//
// A case is a story, then sections that begin with `=== NAME`: files (names that end in .yaml), `env A=b`,
// and one or more expectations: `errors` (all of them, in order), `warnings` (the same), `settings` (`key =
// JSON` of the redacted JSON), `not_yet` (written ones, `key = JSON`, in order). `main.yaml` is what is
// loaded.
#include <map>
#include <sstream>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "files.h"
#include "perigee/config/export.h"
#include "perigee/config/loader.h"

namespace perigee::config {
namespace {

struct Case {
  std::map<std::string, std::string> files;
  std::map<std::string, std::string> environment;
  std::map<std::string, std::vector<std::string>> expected;
};

Case read_case(const std::string& text) {
  Case out;
  std::string section;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("=== ")) {
      section = line.substr(4);
      if (section.ends_with(".yaml")) {
        out.files[section];
      } else if (section.starts_with("env ")) {
        const std::size_t equals = section.find('=');
        out.environment[section.substr(4, equals - 4)] = section.substr(equals + 1);
      } else {
        out.expected[section];
      }
    } else if (section.ends_with(".yaml")) {
      out.files[section] += line + "\n";
    } else if (out.expected.contains(section)) {
      out.expected[section].push_back(line);
    }
  }
  return out;
}

std::string without(std::string text, const std::string& part) {
  for (std::size_t at; (at = text.find(part)) != std::string::npos;)
    text.erase(at, part.size());
  return text;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string out;
  for (const std::string& line : lines)
    out += line + "\n";
  return out;
}

std::string lines_of(const std::vector<Diagnostic>& diagnostics, const std::string& directory) {
  std::vector<std::string> out;
  for (const Diagnostic& d : diagnostics)
    out.push_back(without(to_string(d), directory + "/"));
  return joined(out);
}

// `a.0.b` in a document; throws if it is not there.
const nlohmann::ordered_json& at_key(const nlohmann::ordered_json& json, const std::string& key) {
  const nlohmann::ordered_json* here = &json;
  std::istringstream parts(key);
  for (std::string part; std::getline(parts, part, '.');) {
    here = here->is_array() ? &here->at(std::stoul(part)) : &here->at(part);
  }
  return *here;
}

void check_settings(const Config& config, const std::vector<std::string>& expected) {
  const auto json = to_redacted_json(config);
  for (const std::string& line : expected) {
    const std::size_t equals = line.find(" = ");
    REQUIRE(equals != std::string::npos);
    CAPTURE(line);
    CHECK(at_key(json, line.substr(0, equals)).dump() == line.substr(equals + 3));
  }
}

std::string written_not_yet(const Config& config) {
  std::vector<std::string> out;
  for (const NotYet& n : config.not_yet) {
    if (!n.where.empty()) out.push_back(n.key + " = " + n.value);
  }
  return joined(out);
}

void run_case(const Case& c) {
  const test::TempDirectory directory;
  for (const auto& [name, text] : c.files)
    directory.write(name, text);
  const Environment environment = [&](std::string_view name) -> std::optional<std::string> {
    const auto found = c.environment.find(std::string(name));
    if (found == c.environment.end()) return std::nullopt;
    return found->second;
  };
  const LoadResult result = load(directory.path() + "/main.yaml", environment);
  if (c.expected.contains("errors")) {
    REQUIRE_FALSE(result);
    CHECK(lines_of(result.error(), directory.path()) == joined(c.expected.at("errors")));
    return;
  }
  if (!result) FAIL(format_diagnostics(result.error()));
  if (c.expected.contains("settings")) check_settings(*result->config, c.expected.at("settings"));
  if (c.expected.contains("warnings")) {
    CHECK(lines_of(result->warnings, directory.path()) == joined(c.expected.at("warnings")));
  }
  if (c.expected.contains("not_yet"))
    CHECK(written_not_yet(*result->config) == joined(c.expected.at("not_yet")));
}

}  // namespace

TEST_CASE("cases as text") {
  std::size_t count = 0;
  for (const auto& file :
       std::filesystem::directory_iterator(test::source_root() + "/tests/data/config/cases")) {
    const std::string name = file.path().filename().string();
    CAPTURE(name);
    const Case c = read_case(test::slurp(file.path().string()));
    REQUIRE(c.files.contains("main.yaml"));
    REQUIRE_FALSE(c.expected.empty());
    run_case(c);
    ++count;
  }
  CHECK(count >= 25);
}

}  // namespace perigee::config
