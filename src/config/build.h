// The step from a tree to a Config, for the loader and the command line.
#pragma once

#include <string>
#include <vector>

#include "document.h"
#include "perigee/config/loader.h"

namespace perigee::config {

LoadResult build(const Node& tree, const std::vector<std::string>& files, const std::string& source);

}  // namespace perigee::config
