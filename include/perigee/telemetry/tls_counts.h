// How many TLS handshakes ended how, over all threads: handshakes are rare and dear beside an atomic addition, so
// that one table serves all.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "perigee/base/tls_result.h"

namespace perigee::telemetry {

// As read at one moment.
struct TlsCounts {
  std::array<std::array<std::uint64_t, kTlsResultCount>, kTlsSideCount> handshakes{};
  std::optional<std::int64_t> earliest_expiry;  // of our own certificates, in seconds since 1970

  [[nodiscard]] std::uint64_t of(TlsSide side, TlsResult result) const {
    return handshakes[static_cast<std::size_t>(side)][static_cast<std::size_t>(result)];
  }
};

// Any thread.
class TlsMetrics {
 public:
  void count(TlsSide side, TlsResult result) noexcept {
    cells_[static_cast<std::size_t>(side)][static_cast<std::size_t>(result)].fetch_add(1, std::memory_order_relaxed);
  }
  [[nodiscard]] TlsCounts read() const {
    TlsCounts counts;
    for (std::size_t s = 0; s < kTlsSideCount; ++s) {
      for (std::size_t r = 0; r < kTlsResultCount; ++r)
        counts.handshakes[s][r] = cells_[s][r].load(std::memory_order_relaxed);
    }
    return counts;
  }

 private:
  std::array<std::array<std::atomic<std::uint64_t>, kTlsResultCount>, kTlsSideCount> cells_{};
};

}  // namespace perigee::telemetry
