// The bound on what all connections of a loop keep in buffers: answers that slow clients do not take, bodies
// that wait, halves of heads. Each is bounded by itself (about 200 KiB); thousands of them together are bounded
// here.
//
// Buffers grow by no more than what is received. So a look at everybody, which would cost thousands of token
// streams dearly, is only taken when what was held at the last look and twice what came since (heads grow on their
// way) could be too much; then four times a second. Over the bound those who hold the most and make no headway
// are ended, one after the other, until it is kept; a request that can still be answered gets 503.
#pragma once

#include <cstdint>
#include <limits>

#include "perigee/base/time.h"
#include "perigee/coro/timer_wheel.h"
#include "perigee/proxy/loop_proxy.h"

namespace perigee::proxy {

class MemoryWatch : private coro::Timer {
 public:
  explicit MemoryWatch(LoopProxy::Inner& proxy);
  // For all connections of this loop together.
  void set_limit(std::uint64_t bytes) { limit_ = bytes; }
  // A connection came.
  void begin();

 private:
  void check();
  void look();
  void shed(std::uint64_t total);

  LoopProxy::Inner& proxy_;
  std::uint64_t limit_ = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t held_ = 0;      // at the last look …
  std::uint64_t received_ = 0;  // … when so much had been received
  TimePoint looked_at_{};
};

}  // namespace perigee::proxy
