// What the http room makes of a client's bytes and of a worker's: read a request, judge its path, write what goes
// on; read an answer, write what the client gets. The proxy does the same between sockets; tests and fuzz targets
// do it here, cut in any way.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace perigee::test {

inline constexpr std::string_view kPeer = "192.0.2.7";
inline constexpr std::string_view kOurId = "ours-1";

struct Forwarded {
  std::string bytes;   // to the worker
  int status = 0;      // refused with it
  bool unfinished = false;  // bytes of another request are there
  bool closed = false;
  bool continues = false;
  bool operator==(const Forwarded&) const = default;
};
// What comes of a client's connection whose reads end at `ends`, the last of which is bytes.size().
Forwarded forward_requests(std::string_view bytes, std::span<const std::size_t> ends);

struct Delivered {
  std::string bytes;  // to the client
  bool refused = false;
  bool cut = false;
  bool kept = false;
  bool incomplete = false;
  bool operator==(const Delivered&) const = default;
};
// What comes of one answer. `asked`: GET, HEAD, websocket (an upgrade to it), or `1.0` and `1.0 kept` from
// HTTP/1.0 clients. `closes`: the worker closes behind it. `skip` bytes before it were another answer on the same
// connection.
Delivered deliver_answer(std::string_view asked, bool closes, std::string_view bytes,
                         std::span<const std::size_t> ends, std::size_t skip = 0);

}  // namespace perigee::test
