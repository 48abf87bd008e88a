// perigee: a sidecar in front of ORBIT workers. The command line and nothing else.
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <malloc.h>

#include "admin_client.h"
#include "application.h"
#include "perigee/config/command_line.h"
#include "perigee/config/export.h"
#include "perigee/config/loader.h"
#include "tls_setup.h"
#include "version.h"

namespace {

using namespace perigee;

void print(std::FILE* to, std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), to);
  if (!text.ends_with('\n')) std::fputc('\n', to);
}

std::optional<std::string> environment(std::string_view name) {
  const char* value = std::getenv(std::string(name).c_str());
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

// Reads what systemd says, and takes it out of the environment: it is for this process alone.
app::ServiceEnvironment service_environment() {
  app::ServiceEnvironment said;
  for (auto& [name, value] : said.variables()) {
    value = environment(name).value_or(std::string());
    unsetenv(name);
  }
  return said;
}

int check(const config::CommandLine& line) {
  const config::LoadResult loaded = config::load(line.file, environment);
  if (!loaded) {
    print(stderr, config::format_diagnostics(loaded.error()));
    return 1;
  }
  // Certificates and keys too: a reload would fail on them as it does on the file itself.
  const auto tls = app::load_tls(*loaded->config, {nullptr, nullptr, SystemClock().wall_ms()});
  if (!tls) {
    print(stderr, config::format_diagnostics(tls.error()));
    return 1;
  }
  config::Loaded all = *loaded;
  for (const std::string& warning : tls->notes.warnings) all.warnings.push_back({{}, {}, warning, {}});
  print(stdout, config::format_check_report(all));
  return 0;
}

int run(const config::CommandLine& line) {
  const auto read = [line] { return line.file.empty() ? config::config_from(line) : config::load(line.file, environment); };
  const config::LoadResult loaded = read();
  if (!loaded) {
    print(stderr, config::format_diagnostics(loaded.error()));
    return 1;
  }
  for (const config::Diagnostic& warning : loaded->warnings) print(stderr, "warning: " + config::to_string(warning));
  if (const auto why = config::why_not_startable(*loaded->config)) {
    print(stderr, "perigee: " + *why);
    return 1;
  }
  malloc_trim(0);  // some megabytes of trees and tables, of which the settings are all that stays
  return app::run({loaded->config, read, service_environment()});
}

// Where to ask: as the file says, or the command line.
int ask(const config::CommandLine& line) {
  config::Admin admin;
  if (!line.file.empty()) {
    const config::LoadResult loaded = config::load(line.file, environment);
    if (!loaded) {
      print(stderr, config::format_diagnostics(loaded.error()));
      return 1;
    }
    admin = loaded->config->admin;
  } else if (!line.admin.empty()) {
    const auto address = config::parse_address(line.admin);
    if (!address) {
      print(stderr, "perigee: `" + line.admin + "` is no address");
      return 2;
    }
    admin.address = *address;
  }
  if (!line.token.empty()) admin.token = line.token;
  const app::Told told = app::ask_admin(admin, line);
  if (!told.reached) {
    print(stderr, "perigee: " + told.text);
    return 3;
  }
  const bool good = told.status < 300;
  print(good ? stdout : stderr, told.text);
  return good ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string_view> words(argv + 1, argv + argc);
  const auto line = config::parse_command_line(words);
  if (!line) {
    print(stderr, "perigee: " + line.error());
    return 2;
  }
  switch (line->command) {
    case config::Command::run: return run(*line);
    case config::Command::check: return check(*line);
    case config::Command::schema: print(stdout, config::schema_text()); return 0;
    case config::Command::version: print(stdout, "perigee " + std::string(app::kVersion)); return 0;
    case config::Command::help: print(stdout, config::help_text()); return 0;
    default: return ask(*line);
  }
  return 2;
}
