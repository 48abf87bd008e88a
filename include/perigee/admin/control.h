// What an operator may change while the sidecar runs, as the app carries it out. Control loop only.
//
// Nothing here is written to the configuration file. What is changed about a pool or a worker is kept by a reload
// as long as its name (and a worker's address) stays, and forgotten by a restart.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "perigee/base/time.h"
#include "perigee/coro/task.h"

namespace perigee::admin {

enum class Action : std::uint8_t {
  reload,          // as SIGHUP
  drain,           // as SIGTERM: finishes what runs and waits, then ends
  pause,           // of one pool or all: requests wait, but for critical and pinned ones
  resume,
  drain_backend,   // no new exchanges but those of work under way
  enable_backend,  // takes drain, eject and limit back
  eject_backend,   // opens its breaker for a time, then trials
  limit_backend,   // a ceiling of slots below the written one; none: takes it back
};

struct Change {
  Action action = Action::reload;
  std::string name;                    // of the pool (empty: all) or worker
  std::optional<std::uint32_t> slots;  // limit_backend
  std::optional<Duration> time;        // eject_backend; absent: the breaker's usual time
};

struct Done {
  int status = 200;  // 202 begun, 404 no such pool or worker, 409 not now, 422 tried and failed
  std::string text;  // for a person
};

class Control {
 public:
  virtual ~Control() = default;
  // Tries it, and writes into log and events who asked for what and what came of it. `peer`: the operator's address.
  [[nodiscard]] virtual coro::Task<Done> change(Change what, std::string peer) = 0;
};

}  // namespace perigee::admin
