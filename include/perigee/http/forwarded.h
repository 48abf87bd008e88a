// Who a request comes from, as the proxies in front of us tell it: `X-Forwarded-For`, or where there is none
// `Forwarded` (RFC 7239).
//
// Each proxy appends the address it was spoken to from, so that the right end is the nearest to us and the most
// believable. HopWalk hands the addresses out from there; the caller goes on while it trusts them (RFC 7239,
// section 8.1: nothing to the left of the first one who is not trusted means anything).
//
//   HopWalk hops(table);
//   while (hop = hops.next(), !hop.empty()) …
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

#include "perigee/http/message.h"

namespace perigee::http {

// Views into the table's bytes, used in the turn in which the head was parsed. No allocation.
class HopWalk {
 public:
  // More than these from the right are not looked at.
  static constexpr std::size_t kHopsMax = 32;

  explicit HopWalk(const HeaderTable& table);
  // The next address to the left, without port and brackets; whether it is one the caller finds out. Empty at the
  // end, and for a hop that says nothing (`unknown`, `_hidden`, an empty element): behind it nothing is certain.
  [[nodiscard]] std::string_view next();

 private:
  void add(std::string_view node);
  void take_list(std::string_view line);
  std::array<std::string_view, kHopsMax> nodes_;  // a ring: the last ones
  std::size_t count_ = 0;                         // added in all
  std::size_t left_ = 0;                          // still to be handed out
};

// All of a `Forwarded` line as RFC 7239 writes it. Lines that are not are never passed on.
[[nodiscard]] bool valid_forwarded(std::string_view line);

}  // namespace perigee::http
