#include "perigee/coro/frame_pool.h"

#include <utility>

namespace perigee::coro::detail {

constinit thread_local FramePool frame_pool;

namespace {

// Frees at a thread's end what its lists hold.
struct Companion {
  bool alive = false;
  ~Companion() {
    for (FramePool::Free*& head : frame_pool.free) {
      while (head != nullptr) ::operator delete(std::exchange(head, head->next));
    }
    frame_pool.kept_bytes = FramePool::kKeptBytesMax;  // nothing is kept any longer
  }
};
thread_local Companion companion;

}  // namespace

void* allocate_slow(std::size_t bytes) {
  companion.alive = true;
  if (bytes > FramePool::kLargest) return ::operator new(bytes);
  return ::operator new(FramePool::bytes_of(FramePool::size_class(bytes)));
}

void release_slow(void* frame) noexcept { ::operator delete(frame); }

}  // namespace perigee::coro::detail
