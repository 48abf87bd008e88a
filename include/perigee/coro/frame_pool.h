// Memory for coroutine frames: per-thread free lists by size, last in first out so that a hot frame comes
// back in the cache. A frame may die on another thread than it was born on; it then joins that thread's list.
//
// Size classes of 16 bytes up to 2 KiB; larger frames go to malloc. A frame may live as long as a stream, so
// the classes are the sizes that malloc hands out without waste (a multiple of 16 less its own word). At most
// 256 KiB wait in the lists of a thread, so that a burst does not pin its memory for ever.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <new>

#include "perigee/base/sanitizer.h"

namespace perigee::coro {

namespace detail {

struct FramePool {
  static constexpr std::size_t kStep = 16;
  static constexpr std::size_t kLargest = 2048 - 8;
  static constexpr std::size_t kKeptBytesMax = 256UL * 1024;

  struct Free {
    Free* next;
  };
  static constexpr std::size_t size_class(std::size_t bytes) { return (bytes + 7) / kStep; }
  static constexpr std::size_t bytes_of(std::size_t index) { return index * kStep + 8; }

  std::array<Free*, kLargest / kStep + 1> free{};
  std::size_t kept_bytes = 0;
  std::int64_t live = 0;
};

// Without a destructor, so that reaching it is one instruction; what it keeps is freed by a companion of the
// thread that the first slow allocation brings to life.
extern constinit thread_local FramePool frame_pool;
[[nodiscard]] void* allocate_slow(std::size_t bytes);
void release_slow(void* frame) noexcept;

}  // namespace detail

inline void* allocate_frame(std::size_t bytes) {
  using Pool = detail::FramePool;
  Pool& pool = detail::frame_pool;
  ++pool.live;
  const std::size_t index = Pool::size_class(bytes);
  if (bytes > Pool::kLargest || pool.free[index] == nullptr) return detail::allocate_slow(bytes);
  Pool::Free* const frame = pool.free[index];
  pool.free[index] = frame->next;
  pool.kept_bytes -= Pool::bytes_of(index);
  return frame;
}

inline void release_frame(void* frame, std::size_t bytes) noexcept {
  using Pool = detail::FramePool;
  Pool& pool = detail::frame_pool;
  --pool.live;
  const std::size_t index = Pool::size_class(bytes);
  const std::size_t size = Pool::bytes_of(index);
  // The address sanitizer is to see the end of every frame.
  if (kAddressSanitizer || bytes > Pool::kLargest || pool.kept_bytes + size > Pool::kKeptBytesMax) {
    detail::release_slow(frame);
    return;
  }
  Pool::Free*& head = pool.free[index];
  head = new (frame) Pool::Free{head};
  pool.kept_bytes += size;
}

// Frames of this thread that are alive now; for leak checks in tests.
[[nodiscard]] inline std::int64_t live_frames() noexcept { return detail::frame_pool.live; }

}  // namespace perigee::coro
