// `perigee status`, `reload`, `drain` …: one question to the admin port of a sidecar that runs, asked by another process.
// Blocking: nothing else goes on here.
#pragma once

#include <string>

#include "perigee/config/command_line.h"
#include "perigee/config/config.h"

namespace perigee::app {

struct Told {
  bool reached = false;  // else `text` says why
  int status = 0;
  std::string text;      // the answer's body
};

// `admin`: where it listens and its token.
[[nodiscard]] Told ask_admin(const config::Admin& admin, const config::CommandLine& line);

}  // namespace perigee::app
