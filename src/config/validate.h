// What no single key can know: settings that do not go together.
#pragma once

#include "reader.h"
#include "tables.h"

namespace perigee::config {

// Fills Config::pools, and reports errors and warnings to the reader.
void finish(Draft& draft, Reader& reader);

}  // namespace perigee::config
