// PROXY headers: a verdict does not depend on what follows or on how the bytes were cut; what was read can be written
// and read again.
#include <algorithm>

#include "fuzz.h"
#include "perigee/net/proxy_protocol.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace perigee;
  using State = net::ProxyHeader::State;
  const fuzz::Exact input(fuzz::text_of(data, size));
  const net::ProxyHeader whole = net::parse_proxy_header(input.span());
  fuzz::demand(size < net::kProxyHeaderMax || whole.state != State::more, "a header without an end is waited for");
  fuzz::demand(whole.state != State::refused || whole.reason != nullptr, "refused without a word");
  if (whole.state == State::complete) fuzz::demand(whole.consumed >= 1 && whole.consumed <= size, "consumed");

  // Every prefix, in memory of its own: first `more`, then the same verdict for good.
  bool decided = false;
  const std::size_t longest = std::min<std::size_t>(size, 600);
  for (std::size_t n = 0; n <= longest; ++n) {
    const fuzz::Exact prefix(input.view().substr(0, n));
    const net::ProxyHeader part = net::parse_proxy_header(prefix.span());
    if (part.state == State::more) {
      fuzz::demand(!decided, "a verdict was taken back");
      continue;
    }
    decided = true;
    fuzz::demand(part.state == whole.state && part.consumed == whole.consumed && part.version == whole.version &&
                     part.has_addresses == whole.has_addresses && part.source == whole.source &&
                     part.destination == whole.destination,
                 "the verdict depends on what follows");
  }
  if (whole.state != State::complete || !whole.has_addresses) return 0;

  for (const net::ProxyVersion version : {net::ProxyVersion::v1, net::ProxyVersion::v2}) {
    std::array<char, net::kProxyWrittenMax> out{};
    const std::size_t written = net::write_proxy_header(version, whole.source, whole.destination, out);
    const net::ProxyHeader again = net::parse_proxy_header(std::span<const char>(out).first(written));
    fuzz::demand(again.state == State::complete && again.consumed == written && again.version == version &&
                     again.source == whole.source && again.destination == whole.destination,
                 "what was written is not what was read");
  }
  return 0;
}
