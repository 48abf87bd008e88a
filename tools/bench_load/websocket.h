// What ws_origin and ws_client share: one handshake and frames of less than 126 bytes (RFC 6455).
//
// Both know only the key of RFC 6455, section 1.3, whose answer stands there: an instrument needs no SHA-1.
#pragma once

#include <optional>

#include "common.h"

namespace bench {

constexpr std::string_view kWebSocketKey = "dGhlIHNhbXBsZSBub25jZQ==";
constexpr std::string_view kWebSocketAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

enum class Opcode : std::uint8_t { text = 1, close = 8 };

// A whole message in one frame; what a client sends is masked (here always by the same four bytes).
inline std::string frame(Opcode opcode, std::string_view text, bool masked) {
  constexpr std::string_view kMask = "\x12\x34\x56\x78";
  std::string all;
  all.push_back(static_cast<char>(0x80 | static_cast<int>(opcode)));
  all.push_back(static_cast<char>((masked ? 0x80 : 0) | static_cast<int>(text.size())));
  if (masked) all.append(kMask);
  for (std::size_t i = 0; i < text.size(); ++i)
    all.push_back(masked ? static_cast<char>(text[i] ^ kMask[i % 4]) : text[i]);
  return all;
}

struct Frame {
  Opcode opcode;
  bool masked;
  std::string text;
};

// Takes the first whole frame off `held`. A frame of a kind that neither program sends has opcode 0 and ends the
// connection.
inline std::optional<Frame> take_frame(std::string& held) {
  if (held.size() < 2) return std::nullopt;
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(held[i]); };
  const bool masked = (byte(1) & 0x80) != 0;
  const std::size_t size = byte(1) & 0x7F;
  const bool known = (byte(0) & 0xF0) == 0x80 && size < 126;
  const std::size_t head = masked ? 6 : 2;
  if (!known) {
    held.clear();
    return Frame{Opcode{}, masked, {}};
  }
  if (held.size() < head + size) return std::nullopt;
  Frame found{static_cast<Opcode>(byte(0) & 0x0F), masked, held.substr(head, size)};
  for (std::size_t i = 0; masked && i < size; ++i)
    found.text[i] = static_cast<char>(found.text[i] ^ held[2 + i % 4]);
  held.erase(0, head + size);
  if (held.empty()) held = {};
  return found;
}

}  // namespace bench
