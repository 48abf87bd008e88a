// The words after `perigee`, understood. Pure: no environment, no files, no printing.
#pragma once

#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "perigee/config/loader.h"

namespace perigee::config {

// The last ones talk to a sidecar that runs, through its admin port.
enum class Command : std::uint8_t { run, check, schema, version, help, status, reload, drain, pause, resume, enable, eject, limit };
constexpr bool is_remote(Command c) { return c >= Command::status; }

struct CommandLine {
  Command command = Command::run;
  std::string file;                 // run: --config; check: FILE
  std::vector<std::string> listen;  // run without a file, as written
  std::vector<std::string> workers;
  std::string admin;  // as written: an address, `off`, or empty = default
  std::string token;  // of a remote command
  std::string name;   // of its worker or pool; empty = the whole
  std::string slots;  // limit: a number, or `none`
};

// `arguments` without the program's name. The error is one line for a person, with the nearest known option.
std::expected<CommandLine, std::string> parse_command_line(std::span<const std::string_view> arguments);

std::string_view help_text();

// The configuration of a run without a file, through the same checks as a file.
LoadResult config_from(const CommandLine& line);

}  // namespace perigee::config
