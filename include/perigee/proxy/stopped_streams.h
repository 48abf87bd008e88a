// The request ids that clients asked to stop, so that a stream which ends without its terminal event for
// that reason is told apart from one that failed.
//
// A ring of hashes, shared by all loops, lock-free: it may forget the oldest of 1024, and a false match
// needs a collision of 64 bits; either only mislabels one line of the log.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace perigee::proxy {

// FNV-1a; never 0, which stands for "no id".
constexpr std::uint64_t stream_id_hash(std::string_view id) {
  std::uint64_t h = 0xcbf29ce484222325ULL;
  for (const char c : id) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return h == 0 ? 1 : h;
}

class StoppedStreams {
 public:
  // Any thread.
  void note(std::uint64_t id_hash) {
    const auto at = next_.fetch_add(1, std::memory_order_relaxed) % kKept;
    ids_[at].store(id_hash, std::memory_order_relaxed);
  }
  [[nodiscard]] bool contains(std::uint64_t id_hash) const {
    if (id_hash == 0) return false;
    for (const auto& id : ids_) {
      if (id.load(std::memory_order_relaxed) == id_hash) return true;
    }
    return false;
  }

 private:
  static constexpr std::size_t kKept = 1024;
  std::array<std::atomic<std::uint64_t>, kKept> ids_{};
  std::atomic<std::uint64_t> next_{0};
};

}  // namespace perigee::proxy
