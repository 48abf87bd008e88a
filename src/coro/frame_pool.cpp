// Size classes of 64 bytes up to 2 KiB; larger frames go to malloc. At most 256 KiB wait in the lists of
// a thread, so that a burst does not pin its memory for ever.
#include "perigee/coro/frame_pool.h"

#include <array>
#include <new>

namespace perigee::coro {
namespace {

// Under the address sanitizer every frame goes back to the allocator, so that its end is seen.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kPooled = false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool kPooled = false;
#else
constexpr bool kPooled = true;
#endif
#else
constexpr bool kPooled = true;
#endif

constexpr std::size_t kStep = 64;
constexpr std::size_t kLargest = 2048;
constexpr std::size_t kKeptBytesMax = 256UL * 1024;

struct FreeFrame {
  FreeFrame* next;
};

struct Pool {
  std::array<FreeFrame*, kLargest / kStep + 1> free{};
  std::size_t kept_bytes = 0;
  std::int64_t live = 0;
  ~Pool() {
    for (FreeFrame*& head : free) {
      while (head != nullptr) {
        FreeFrame* next = head->next;
        ::operator delete(head);
        head = next;
      }
    }
  }
};

thread_local Pool pool;

constexpr std::size_t size_class(std::size_t bytes) { return (bytes + kStep - 1) / kStep; }

}  // namespace

void* allocate_frame(std::size_t bytes) {
  ++pool.live;
  const std::size_t index = size_class(bytes);
  if (!kPooled || bytes > kLargest) return ::operator new(bytes);
  if (FreeFrame* frame = pool.free[index]; frame != nullptr) {
    pool.free[index] = frame->next;
    pool.kept_bytes -= index * kStep;
    return frame;
  }
  return ::operator new(index * kStep);
}

void release_frame(void* frame, std::size_t bytes) noexcept {
  --pool.live;
  const std::size_t index = size_class(bytes);
  if (kPooled && bytes <= kLargest && pool.kept_bytes + index * kStep <= kKeptBytesMax) {
    pool.free[index] = new (frame) FreeFrame{pool.free[index]};
    pool.kept_bytes += index * kStep;
    return;
  }
  ::operator delete(frame);
}

std::int64_t live_frames() noexcept { return pool.live; }

}  // namespace perigee::coro
