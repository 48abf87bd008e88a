#include "perigee/coro/frame_pool.h"

#include <cstring>
#include <vector>

#include "coro_test.h"

namespace perigee::coro {
namespace {

TEST_CASE("frame pool: counts what is alive, for every size") {
  const auto before = live_frames();
  std::vector<void*> frames;
  for (std::size_t size = 1; size <= 4096; size += 37) {
    void* frame = allocate_frame(size);
    std::memset(frame, 0x5a, size);
    frames.push_back(frame);
  }
  CHECK(live_frames() - before == static_cast<std::int64_t>(frames.size()));
  std::size_t size = 1;
  for (void* frame : frames) {
    release_frame(frame, size);
    size += 37;
  }
  CHECK(live_frames() == before);
}

TEST_CASE("frame pool: a burst of 16 MiB does not break it, nor a second one") {
  const auto before = live_frames();
  for (int round = 0; round < 2; ++round) {
    std::vector<void*> frames;
    for (int i = 0; i < 8192; ++i) {
      frames.push_back(allocate_frame(2048));
      std::memset(frames.back(), round, 2048);
    }
    for (void* frame : frames)
      release_frame(frame, 2048);
  }
  CHECK(live_frames() == before);
}

}  // namespace
}  // namespace perigee::coro
