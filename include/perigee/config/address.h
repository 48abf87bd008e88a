// Where to listen and where to connect, as the operator writes it.
//
// `0.0.0.0:3000`, `3000` (a bare port means 0.0.0.0), `[::1]:9300`, `localhost:3001`, `unix:/run/orbit.sock`.
// Names are kept as text: resolving is the network room's work. Nothing here touches a socket.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace perigee::config {

struct Address {
  enum class Kind : std::uint8_t { tcp, unix_socket };

  Kind kind = Kind::tcp;
  std::string host;        // tcp: an IPv4 or IPv6 literal without brackets, or a name
  std::uint16_t port = 0;  // tcp; never 0 after parsing
  std::string path;        // unix_socket: absolute, at most 107 bytes

  bool operator==(const Address&) const = default;
  // The form that parse_address reads; an IPv6 host stands in brackets.
  [[nodiscard]] std::string text() const;
  // Reachable from this machine alone: 127.0.0.0/8, ::1, `localhost`, a Unix socket.
  [[nodiscard]] bool is_loopback() const;
};

// Nothing if the text is no address.
std::optional<Address> parse_address(std::string_view text);

// A set of peers: `10.0.0.0/8`, `::1`, `fd00::/8`. IPv4 is kept as IPv4-mapped IPv6, so one test serves both. `unix`
// stands for whoever comes over a Unix socket: such a peer has the address `::`, which no other can have.
struct Cidr {
  std::array<std::uint8_t, 16> network{};  // network byte order, host bits zero
  std::uint8_t prefix = 128;               // 0 … 128, counted on the mapped form

  bool operator==(const Cidr&) const = default;
  // `peer`: an address in network byte order, IPv4 in mapped form (::ffff:a.b.c.d).
  [[nodiscard]] bool contains(const std::array<std::uint8_t, 16>& peer) const;
  [[nodiscard]] std::string text() const;
};

std::optional<Cidr> parse_cidr(std::string_view text);
// An address literal as 16 bytes, IPv4 mapped; nothing for a name.
std::optional<std::array<std::uint8_t, 16>> parse_ip(std::string_view text);

}  // namespace perigee::config
