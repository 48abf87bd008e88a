// Scope: owns the coroutines it starts, and is not left before they have ended.
//
//   Scope scope(executor);
//   scope.spawn(serve(connection));       // runs at once, up to its first wait
//   scope.cancel(reason);                 // asks all of them to stop
//   co_await scope.join();                // returns when the last one has
//
// Destroying a scope with live children is a bug and aborts. One thread.
#pragma once

#include <cstddef>
#include <exception>
#include <utility>

#include "perigee/coro/event.h"
#include "perigee/coro/task.h"

namespace perigee::coro {

class Scope final : private TaskOwner {
 public:
  // `parent`: a source whose cancelling also cancels this scope; may be null.
  explicit Scope(Executor& executor, CancelSource* parent = nullptr) : executor_(executor), source_(parent) {}
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;
  ~Scope();

  void spawn(Task<void> task) { spawn(std::move(task), source_); }
  // Under a source of the caller's choice, which must outlive it and be cancelled with this scope's own.
  void spawn(Task<void> task, CancelSource& source);
  void cancel(const Error& reason) { source_.cancel(reason); }
  [[nodiscard]] CancelSource& source() { return source_; }
  [[nodiscard]] Executor& executor() { return executor_; }
  [[nodiscard]] std::size_t live() const { return live_; }

  // Waits for all children, those spawned meanwhile included. Rethrows what a child threw (a bug, or a
  // failed check of a test). Join under a source that outlives the children's, or shielded.
  [[nodiscard]] Task<void> join();
  // The first exception of a child, taken out; for drivers that cannot await.
  [[nodiscard]] std::exception_ptr take_exception() { return std::exchange(exception_, nullptr); }

 private:
  void child_ended(std::exception_ptr thrown) noexcept override;

  Executor& executor_;
  ChildCancelSource source_;
  Event idle_;
  std::size_t live_ = 0;
  std::exception_ptr exception_;
};

}  // namespace perigee::coro
