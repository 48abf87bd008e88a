// From the configuration to what the rooms below take: plain translations, no state.
#pragma once

#include "perigee/config/config.h"
#include "perigee/dispatch/types.h"

namespace perigee::app {

[[nodiscard]] dispatch::Setup dispatch_setup(const config::Config& config);

// Event loops of the data plane: what is written, else 1 on up to 2 cores, else up to 4.
[[nodiscard]] unsigned io_threads(const config::Config& config, unsigned cores);

}  // namespace perigee::app
