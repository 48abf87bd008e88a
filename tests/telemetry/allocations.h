// Counts what this program allocates, so that a test can say "nothing".
#pragma once

#include <cstddef>

// Calls of operator new by the calling thread so far.
std::size_t allocations();
