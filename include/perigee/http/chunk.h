// The chunked coding, writing side: a size line before the data, CRLF after it, the last chunk at the end.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace perigee::http {

inline constexpr std::string_view kChunkEnd = "\r\n";
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";
inline constexpr std::size_t kChunkHeadMax = 18;

// "1f\r\n". `bytes` > 0: a chunk of nothing would end the body. 18 bytes and no heap.
class ChunkHead {
 public:
  explicit constexpr ChunkHead(std::uint64_t bytes) {
    text_[16] = '\r';
    text_[17] = '\n';
    do {
      text_[--begin_] = "0123456789abcdef"[bytes & 15];
      bytes >>= 4;
    } while (bytes != 0);
  }
  [[nodiscard]] constexpr std::string_view view() const {
    return {text_.data() + begin_, text_.size() - begin_};
  }

 private:
  std::array<char, kChunkHeadMax> text_{};
  std::uint8_t begin_ = 16;
};

}  // namespace perigee::http
