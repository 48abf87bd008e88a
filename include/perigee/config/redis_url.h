// A Redis URL taken apart: redis://[USER:PASSWORD@]HOST[:PORT][/DB], and `unix:/PATH` behind the scheme for a socket.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "perigee/config/address.h"

namespace perigee::config {

struct RedisPlace {
  Address address;
  std::string user;      // escapes undone; empty = Redis' default user
  std::string password;  // secret; empty = none
  std::uint32_t database = 0;
  bool tls = false;  // rediss://
};

// Nothing if the text is no such URL.
[[nodiscard]] std::optional<RedisPlace> parse_redis_url(std::string_view url);

}  // namespace perigee::config
