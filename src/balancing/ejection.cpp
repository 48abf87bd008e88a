#include "perigee/balancing/ejection.h"

namespace perigee::balancing {

PoolStanding standing(std::span<const EjectionMember> pool) {
  PoolStanding s;
  std::size_t open = 0;
  for (const EjectionMember& member : pool) {
    if (member.draining) continue;
    ++s.members;
    if (!member.reachable) continue;
    if (member.breaker == Breaker::State::closed) ++s.eligible;
    else ++s.opened;
    if (member.breaker == Breaker::State::open) ++open;
  }
  const std::size_t cap = s.members / 2;
  s.panic = 2 * s.eligible < s.members;
  // Half-open ones count as opened here: they carry a trial or three, not their share.
  s.may_open = !s.panic && s.opened < cap && s.eligible > 1;
  s.may_reopen = !s.panic && open < cap;
  return s;
}

}  // namespace perigee::balancing
