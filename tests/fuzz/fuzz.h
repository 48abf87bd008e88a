// What the fuzz targets share. Each target is one file with LLVMFuzzerTestOneInput: libFuzzer calls it (tools/fuzz),
// and so does corpus_main.cpp with every file of the kept corpus, as a plain test under any compiler.
//
// A target does more than not crash: it states what must hold of every input, and `demand` ends the program where
// it does not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace perigee::fuzz {

inline void demand(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

// The same, and shows the two that should be one.
inline void demand_same(std::string_view a, std::string_view b, const char* what) {
  if (a == b) return;
  std::fprintf(stderr, "not the same: %s\n--- one\n%.*s\n--- other\n%.*s\n", what, static_cast<int>(a.size()), a.data(),
               static_cast<int>(b.size()), b.data());
  std::abort();
}

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Something to choose by that depends on every byte, so that an input always does the same.
inline std::uint64_t hash_of(std::string_view bytes) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char c : bytes)
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return hash ^ (hash >> 29);
}

// Ways to cut an input into reads: whole, byte by byte (in longer steps where it is long), and in two or three.
inline std::vector<std::vector<std::size_t>> cuts_of(std::string_view bytes) {
  const std::size_t size = bytes.size();
  std::vector<std::vector<std::size_t>> cuts{{size}};
  std::vector<std::size_t> ends;
  const std::size_t step = 1 + size / 512;
  for (std::size_t at = step; at < size; at += step)
    ends.push_back(at);
  ends.push_back(size);
  cuts.push_back(ends);
  if (size < 3) return cuts;
  const std::uint64_t hash = hash_of(bytes);
  const std::size_t one = 1 + static_cast<std::size_t>(hash % (size - 1));
  cuts.push_back({one, size});
  const std::size_t two = one + static_cast<std::size_t>((hash >> 32) % (size - one));
  if (two > one) cuts.push_back({one, two, size});
  return cuts;
}

// A copy in memory of exactly its size: the sanitizer sees every byte read too far.
class Exact {
 public:
  explicit Exact(std::string_view bytes)
      : copy_(std::make_unique<char[]>(bytes.size() + (bytes.empty() ? 1 : 0))), size_(bytes.size()) {
    if (size_ != 0) std::memcpy(copy_.get(), bytes.data(), size_);
  }
  [[nodiscard]] std::string_view view() const { return {copy_.get(), size_}; }
  [[nodiscard]] std::span<const char> span() const { return {copy_.get(), size_}; }

 private:
  std::unique_ptr<char[]> copy_;
  std::size_t size_;
};

}  // namespace perigee::fuzz
