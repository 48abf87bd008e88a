// See proxy_protocol.h. Two readers, one for each version: the first six bytes, or the first twelve, tell them
// apart from each other and from everything that is no PROXY header (no HTTP request begins like either).
#include "perigee/net/proxy_protocol.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <string_view>

namespace perigee::net {
namespace {

using State = ProxyHeader::State;
using namespace std::string_view_literals;

constexpr std::string_view kV1Prefix = "PROXY "sv;
constexpr std::string_view kV2Signature = "\r\n\r\n\0\r\nQUIT\n"sv;
constexpr std::size_t kV2Fixed = 16;
constexpr std::array<std::uint8_t, 12> kMapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

ProxyHeader refused(const char* reason) {
  ProxyHeader header;
  header.state = State::refused;
  header.reason = reason;
  return header;
}

ProxyHeader complete(ProxyVersion version, std::size_t consumed) {
  ProxyHeader header;
  header.state = State::complete;
  header.version = version;
  header.consumed = consumed;
  return header;
}

// What came agrees with `wanted` as far as it goes.
bool agrees(std::string_view text, std::string_view wanted) {
  const std::size_t n = std::min(text.size(), wanted.size());
  return text.substr(0, n) == wanted.substr(0, n);
}

bool is_ipv4(const ProxyEnd& end) {
  return std::equal(kMapped.begin(), kMapped.end(), end.ip.begin());
}

// --- version 1: one line of text -------------------------------------------------------------------------

// The next word of a line; exactly one blank stands between two.
std::string_view next_word(std::string_view& line) {
  const std::size_t blank = line.find(' ');
  const std::string_view word = line.substr(0, blank);
  line.remove_prefix(blank == std::string_view::npos ? line.size() : blank + 1);
  return word;
}

bool read_ip(std::string_view word, bool v6, ProxyEnd& end) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (word.empty() || word.size() >= text.size()) return false;
  std::memcpy(text.data(), word.data(), word.size());
  if (v6) return inet_pton(AF_INET6, text.data(), end.ip.data()) == 1;
  std::copy(kMapped.begin(), kMapped.end(), end.ip.begin());
  return inet_pton(AF_INET, text.data(), end.ip.data() + kMapped.size()) == 1;
}

bool read_port(std::string_view word, ProxyEnd& end) {
  if (word.empty() || (word.size() > 1 && word.front() == '0')) return false;
  const auto [stop, error] = std::from_chars(word.data(), word.data() + word.size(), end.port);
  return error == std::errc{} && stop == word.data() + word.size();
}

// `line`: behind the prefix, without its end.
ProxyHeader judge_v1(std::string_view line, std::size_t consumed) {
  ProxyHeader header = complete(ProxyVersion::v1, consumed);
  const std::string_view protocol = next_word(line);
  if (protocol == "UNKNOWN") return header;  // what else it says means nothing
  const bool v6 = protocol == "TCP6";
  if (!v6 && protocol != "TCP4") return refused("a PROXY line of an unknown protocol");
  const bool addresses = read_ip(next_word(line), v6, header.source) && read_ip(next_word(line), v6, header.destination);
  if (!addresses) return refused("a PROXY line with a malformed address");
  const std::string_view from = next_word(line);
  const bool last = line.find(' ') == std::string_view::npos;
  const bool ports = last && read_port(from, header.source) && read_port(line, header.destination);
  if (!ports) return refused("a PROXY line with a malformed port");
  header.has_addresses = true;
  return header;
}

ProxyHeader parse_v1(std::string_view text) {
  const std::string_view line = text.substr(0, kProxyV1Max);
  for (std::size_t i = kV1Prefix.size(); i < line.size(); ++i) {
    if (line[i] == '\r') {
      if (i + 1 == line.size()) break;
      if (line[i + 1] != '\n') return refused("a PROXY line that does not end in CR LF");
      return judge_v1(line.substr(kV1Prefix.size(), i - kV1Prefix.size()), i + 2);
    }
    if (line[i] < 0x20 || line[i] > 0x7e) return refused("a PROXY line with a control character");
  }
  return line.size() == kProxyV1Max ? refused("a PROXY line that is too long") : ProxyHeader{};
}

// --- version 2: a block of bytes -------------------------------------------------------------------------

std::uint8_t byte_at(std::string_view text, std::size_t at) {
  return static_cast<std::uint8_t>(text[at]);
}
std::uint16_t short_at(std::string_view text, std::size_t at) {
  return static_cast<std::uint16_t>(byte_at(text, at) << 8U | byte_at(text, at + 1));
}

// Bytes of a family's two addresses and ports.
constexpr std::size_t kInetBytes = 12;
constexpr std::size_t kInet6Bytes = 36;
constexpr std::size_t kUnixBytes = 216;

void read_ends(std::string_view block, std::size_t ip_bytes, ProxyHeader& header) {
  const auto read = [&](ProxyEnd& end, std::size_t ip, std::size_t port) {
    std::copy(kMapped.begin(), kMapped.end(), end.ip.begin());
    std::memcpy(end.ip.data() + (end.ip.size() - ip_bytes), block.data() + ip, ip_bytes);
    end.port = short_at(block, port);
  };
  read(header.source, 0, 2 * ip_bytes);
  read(header.destination, ip_bytes, 2 * ip_bytes + 2);
  header.has_addresses = true;
}

// `block`: what follows the fixed part, extensions included; those are skipped.
ProxyHeader judge_v2(std::uint8_t family, std::string_view block, std::size_t consumed) {
  ProxyHeader header = complete(ProxyVersion::v2, consumed);
  switch (family) {
    case 0x00: return header;  // unspecified: nothing is known of the client
    case 0x11:
      if (block.size() < kInetBytes) break;
      read_ends(block, 4, header);
      return header;
    case 0x21:
      if (block.size() < kInet6Bytes) break;
      read_ends(block, 16, header);
      return header;
    case 0x31:
      if (block.size() < kUnixBytes) break;
      return header;
    default: return refused("a PROXY block of a family that carries no HTTP");
  }
  return refused("a PROXY block too short for its addresses");
}

ProxyHeader parse_v2(std::string_view text) {
  if (text.size() > 12 && byte_at(text, 12) != 0x20 && byte_at(text, 12) != 0x21) {
    return refused("a PROXY block of an unknown version or command");
  }
  if (text.size() < kV2Fixed) return {};
  const std::size_t whole = kV2Fixed + short_at(text, 14);
  if (whole > kProxyHeaderMax) return refused("a PROXY block that is too long");
  if (text.size() < whole) return {};
  const bool local = byte_at(text, 12) == 0x20;  // whatever family it names means nothing
  if (local) return complete(ProxyVersion::v2, whole);
  return judge_v2(byte_at(text, 13), text.substr(kV2Fixed, whole - kV2Fixed), whole);
}

// --- writing -----------------------------------------------------------------------------------------------

class Pen {
 public:
  explicit Pen(std::span<char, kProxyWrittenMax> out) : out_(out) {}
  void text(std::string_view text) {
    std::memcpy(out_.data() + used_, text.data(), text.size());
    used_ += text.size();
  }
  void byte(unsigned value) { out_[used_++] = static_cast<char>(value); }
  void bytes(const std::uint8_t* from, std::size_t n) {
    std::memcpy(out_.data() + used_, from, n);
    used_ += n;
  }
  void number(std::uint16_t value) {
    used_ = static_cast<std::size_t>(std::to_chars(out_.data() + used_, out_.data() + out_.size(), value).ptr - out_.data());
  }
  void address(const ProxyEnd& end, bool v4) {
    std::array<char, INET6_ADDRSTRLEN> ip{};
    inet_ntop(v4 ? AF_INET : AF_INET6, end.ip.data() + (v4 ? kMapped.size() : 0), ip.data(), ip.size());
    text(ip.data());
  }
  [[nodiscard]] std::size_t used() const { return used_; }

 private:
  std::span<char, kProxyWrittenMax> out_;
  std::size_t used_ = 0;
};

}  // namespace

ProxyHeader parse_proxy_header(std::span<const char> bytes) {
  const std::string_view text(bytes.data(), bytes.size());
  if (agrees(text, kV2Signature)) return text.size() < kV2Signature.size() ? ProxyHeader{} : parse_v2(text);
  if (agrees(text, kV1Prefix)) return text.size() < kV1Prefix.size() ? ProxyHeader{} : parse_v1(text);
  return refused("a connection that does not begin with a PROXY header");
}

std::size_t write_proxy_header(ProxyVersion version, const ProxyEnd& source, const ProxyEnd& destination,
                               std::span<char, kProxyWrittenMax> out) {
  const bool v4 = is_ipv4(source) && is_ipv4(destination);
  Pen pen(out);
  if (version == ProxyVersion::v1) {
    pen.text(v4 ? "PROXY TCP4 " : "PROXY TCP6 ");
    pen.address(source, v4);
    pen.text(" ");
    pen.address(destination, v4);
    pen.text(" ");
    pen.number(source.port);
    pen.text(" ");
    pen.number(destination.port);
    pen.text("\r\n");
    return pen.used();
  }
  pen.text(kV2Signature);
  pen.byte(0x21);
  pen.byte(v4 ? 0x11 : 0x21);
  pen.byte(0);
  pen.byte(static_cast<unsigned>(v4 ? kInetBytes : kInet6Bytes));
  const std::size_t skip = v4 ? kMapped.size() : 0;
  for (const ProxyEnd* end : {&source, &destination}) pen.bytes(end->ip.data() + skip, end->ip.size() - skip);
  for (const ProxyEnd* end : {&source, &destination}) {
    const unsigned port = end->port;
    pen.byte(port >> 8U);
    pen.byte(port & 0xffU);
  }
  return pen.used();
}

std::size_t write_proxy_header_local(ProxyVersion version, std::span<char, kProxyWrittenMax> out) {
  Pen pen(out);
  if (version == ProxyVersion::v1) {
    pen.text("PROXY UNKNOWN\r\n");
    return pen.used();
  }
  pen.text(kV2Signature);
  for (const unsigned byte : {0x20U, 0x00U, 0x00U, 0x00U}) pen.byte(byte);
  return pen.used();
}

}  // namespace perigee::net
