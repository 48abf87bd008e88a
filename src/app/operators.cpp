#include "operators.h"

namespace perigee::app {

namespace {

using admin::Action;
using admin::Done;

std::string_view word_of(Action action) {
  switch (action) {
    case Action::reload: return "reload";
    case Action::drain: return "drain";
    case Action::pause: return "pause";
    case Action::resume: return "resume";
    case Action::drain_backend: return "backend drain";
    case Action::enable_backend: return "backend enable";
    case Action::eject_backend: return "backend eject";
    case Action::limit_backend: return "backend limit";
  }
  return "reload";
}

Done set_paused(dispatch::Dispatcher& dispatcher, const std::string& name, bool paused, TimePoint now) {
  const std::string done = paused ? "paused" : "resumed";
  if (!name.empty()) {
    const auto pool = dispatcher.pool(name);
    if (!pool || !dispatcher.set_paused(*pool, paused, now)) return {404, "no pool has this name"};
    return {200, done + ": pool " + name};
  }
  for (const dispatch::PoolStatus& pool : dispatcher.snapshot().pools) dispatcher.set_paused(pool.id, paused, now);
  return {200, done + ": all pools"};
}

Done change_backend(dispatch::Dispatcher& dispatcher, const admin::Change& what, TimePoint now) {
  const dispatch::BackendRef ref = dispatcher.backend(what.name);
  bool known = ref.exists();
  std::string done;
  switch (what.action) {
    case Action::drain_backend:
      known = known && dispatcher.drain_backend(ref, true, now);
      done = "draining: no new exchanges";
      break;
    case Action::enable_backend:
      known = known && dispatcher.enable_backend(ref, now);
      done = "enabled: no drain, no ejection, no limit";
      break;
    case Action::eject_backend:
      known = known && dispatcher.eject_backend(ref, what.time.value_or(Duration::zero()), now);
      done = "ejected: its breaker is open";
      break;
    default:
      known = known && dispatcher.limit_backend(ref, what.slots.value_or(0), now);
      done = what.slots ? "limited to " + std::to_string(*what.slots) + " slots" : "no limit at run time";
      break;
  }
  if (!known) return {404, "no worker has this name"};
  return {200, done};
}

}  // namespace

Done apply_change(dispatch::Dispatcher& dispatcher, const admin::Change& what, TimePoint now) {
  switch (what.action) {
    case Action::reload:
    case Action::drain: return {202, "draining: what runs and waits is finished, then it ends"};
    case Action::pause: return set_paused(dispatcher, what.name, true, now);
    case Action::resume: return set_paused(dispatcher, what.name, false, now);
    default: return change_backend(dispatcher, what, now);
  }
}

void write_audit(telemetry::Log& log, FleetView& view, const admin::Change& what, const Done& done, const std::string& peer) {
  const std::string status = std::to_string(done.status);
  log.info("audit", {{"action", word_of(what.action)}, {"name", what.name}, {"peer", peer}, {"status", done.status}, {"result", done.text}});
  view.note("operator", {{"action", word_of(what.action)}, {"name", what.name}, {"peer", peer}, {"status", status}, {"result", done.text}});
}

}  // namespace perigee::app
