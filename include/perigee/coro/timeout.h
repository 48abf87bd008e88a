// A bound in time on one task. The task is asked to stop and waited for; nothing is left running.
//
//   auto answer = co_await with_timeout(2s, kProbeTimeout, ask(worker));
//
// The task's own result comes back: when time ran out that is usually `error`, handed up from the wait it
// was in, but a task that had just succeeded keeps its success. Deadlines nest; the earlier one wins.
#pragma once

#include "perigee/coro/deadline.h"
#include "perigee/coro/sleep.h"
#include "perigee/coro/task.h"

namespace perigee::coro {

inline constexpr Error kTimedOut{ErrorKind::timeout, Side::internal, Sent::maybe, 0, "timed out"};

template <typename T>
Task<T> with_timeout(Duration limit, Error error, Task<T> task) {
  const auto me = co_await here();
  ChildCancelSource source(me.cancel);
  Deadline deadline(*me.executor, source);
  deadline.set_after(limit, error);
  auto bounded = under(source, std::move(task));
  co_return co_await bounded;
}

}  // namespace perigee::coro
