// A growable run of bytes that is written at its end and reused: what a message is built in.
//
// One buffer serves many messages: `clear()` keeps the memory, `release()` gives it back. It sets no bound
// of its own; whoever owns it bounds what is appended (heads, bodies and queues each have a limit).
// One thread. Views into it live until the next append, prepare or release.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>

namespace perigee {

class ByteBuffer {
 public:
  ByteBuffer() = default;
  explicit ByteBuffer(std::size_t capacity) { grow(capacity); }
  ByteBuffer(ByteBuffer&& other) noexcept
      : bytes_(std::move(other.bytes_)),
        size_(std::exchange(other.size_, 0)),
        capacity_(std::exchange(other.capacity_, 0)) {}
  ByteBuffer& operator=(ByteBuffer&& other) noexcept {
    bytes_ = std::move(other.bytes_);
    size_ = std::exchange(other.size_, 0);
    capacity_ = std::exchange(other.capacity_, 0);
    return *this;
  }

  [[nodiscard]] std::string_view view() const { return {bytes_.get(), size_}; }
  [[nodiscard]] const char* data() const { return bytes_.get(); }
  [[nodiscard]] char* data() { return bytes_.get(); }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] std::size_t capacity() const { return capacity_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }

  // Room for `n` more bytes, to be written by the caller; `commit` then says how many were.
  char* prepare(std::size_t n) {
    if (capacity_ - size_ < n) grow(size_ + n);
    return bytes_.get() + size_;
  }
  void commit(std::size_t n) { size_ += n; }
  // The same for a writer that holds a pointer: `end` lies within what was prepared.
  void commit_to(const char* end) { size_ = static_cast<std::size_t>(end - bytes_.get()); }

  void append(std::string_view text) {
    if (text.empty()) return;
    std::memcpy(prepare(text.size()), text.data(), text.size());
    size_ += text.size();
  }
  void append(char c) {
    *prepare(1) = c;
    ++size_;
  }
  void append_u64(std::uint64_t value) {
    char* to = prepare(20);
    commit_to(std::to_chars(to, to + 20, value).ptr);
  }

  // Drops the first `n` bytes and moves the rest to the front.
  void consume(std::size_t n) {
    n = std::min(n, size_);
    if (n < size_) std::memmove(bytes_.get(), bytes_.get() + n, size_ - n);
    size_ -= n;
  }
  // Cuts back to the first `n` bytes.
  void truncate(std::size_t n) { size_ = std::min(size_, n); }
  void clear() { size_ = 0; }
  void release() {
    bytes_.reset();
    size_ = capacity_ = 0;
  }

 private:
  void grow(std::size_t needed) {
    const std::size_t capacity = std::max<std::size_t>({needed, capacity_ + capacity_ / 2, 256});
    auto bytes = std::make_unique_for_overwrite<char[]>(capacity);
    if (size_ != 0) std::memcpy(bytes.get(), bytes_.get(), size_);
    bytes_ = std::move(bytes);
    capacity_ = capacity;
  }

  std::unique_ptr<char[]> bytes_;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

}  // namespace perigee
