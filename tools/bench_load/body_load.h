// What body_origin and body_client share: large bodies whose every byte is known from its place, blocking sockets.
#pragma once

#include "common.h"

namespace bench {

// The byte at each place of a body. A prime as period, so that a piece that is lost, doubled or moved shows at
// its edges unless it is a multiple of it; the length catches those.
constexpr std::size_t kPeriod = 251;
constexpr char byte_at(std::uint64_t place) {
  return static_cast<char>(place % kPeriod);
}

constexpr std::size_t kReceive = 1 << 18;
constexpr std::size_t kPiece = kPeriod * 1024;  // 251 KiB
constexpr std::size_t kChunk = kPeriod * 64;    // 16 KiB less a little, a usual size of a chunk

inline bool send_all(int fd, std::string_view data) {
  while (!data.empty()) {
    const ssize_t sent = send(fd, data.data(), data.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    data.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

// A body of `size` bytes; in chunks the framing is made once, so that it costs the sender nothing.
inline bool send_body(int fd, std::uint64_t size, bool chunked) {
  std::string piece;
  for (std::size_t i = 0; i < kPiece; ++i)
    piece.push_back(byte_at(i));
  if (!chunked) {
    for (std::uint64_t left = size; left > 0;) {
      const std::size_t now = static_cast<std::size_t>(std::min<std::uint64_t>(left, kPiece));
      if (!send_all(fd, std::string_view(piece).substr(0, now))) return false;
      left -= now;
    }
    return true;
  }
  const auto chunk = [&](std::size_t bytes) {
    char head[32];
    std::snprintf(head, sizeof head, "%zx\r\n", bytes);
    return head + piece.substr(0, bytes) + "\r\n";
  };
  std::string many;
  constexpr std::size_t kMany = kPiece / kChunk;
  for (std::size_t i = 0; i < kMany; ++i)
    many += chunk(kChunk);
  std::uint64_t left = size;
  for (; left >= kMany * kChunk; left -= kMany * kChunk) {
    if (!send_all(fd, many)) return false;
  }
  for (; left >= kChunk; left -= kChunk) {
    if (!send_all(fd, chunk(kChunk))) return false;
  }
  return (left == 0 || send_all(fd, chunk(static_cast<std::size_t>(left)))) && send_all(fd, "0\r\n\r\n");
}

// Counts what comes and looks at the first and last byte of each piece.
struct Received {
  std::uint64_t bytes = 0;
  bool right = true;
  void operator()(std::string_view part) {
    if (part.empty()) return;
    right = right && part.front() == byte_at(bytes) && part.back() == byte_at(bytes + part.size() - 1);
    bytes += part.size();
  }
};

// Reads until the answer (or the body that was made one) is over; false where it broke.
inline bool receive(int fd, Answer& answer, Received& received) {
  std::vector<char> data(kReceive);
  while (answer.state() == Answer::State::head || answer.state() == Answer::State::body) {
    const ssize_t size = recv(fd, data.data(), data.size(), 0);
    if (size <= 0) {
      answer.end();
      break;
    }
    answer.feed({data.data(), static_cast<std::size_t>(size)},
                [&](std::string_view part) { received(part); });
  }
  return answer.state() == Answer::State::complete;
}

}  // namespace bench
