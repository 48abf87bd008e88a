// Memory for coroutine frames: per-thread free lists by size, last in first out so that a hot frame comes
// back in the cache. A frame may die on another thread than it was born on; it then joins that thread's list.
#pragma once

#include <cstddef>
#include <cstdint>

namespace perigee::coro {

void* allocate_frame(std::size_t bytes);
void release_frame(void* frame, std::size_t bytes) noexcept;

// Frames of this thread that are alive now; for leak checks in tests.
[[nodiscard]] std::int64_t live_frames() noexcept;

}  // namespace perigee::coro
