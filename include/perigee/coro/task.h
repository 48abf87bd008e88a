// Task<T>: a lazy coroutine that is awaited exactly once by its parent.
//
// It starts when awaited, on the awaiting coroutine's executor and under its cancel source, and its frame
// dies with the Task object. A child that finishes at once costs no suspension: it is started with a plain
// resume() and the parent goes on (no stack grows, whatever the compiler makes of symmetric transfer).
// Write `co_await` only alone in a statement: `auto x = co_await f();` (docs/architecture.md says why).
#pragma once

#include <coroutine>
#include <cstdint>
#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

#include "perigee/coro/cancel.h"
#include "perigee/coro/executor.h"
#include "perigee/coro/frame_pool.h"

namespace perigee::coro {

// What every coroutine of ours knows. The continuation comes first, so that a debugger can walk from a
// frame to whoever awaits it.
struct PromiseBase {
  std::coroutine_handle<> continuation;
  Executor* executor = nullptr;
  CancelSource* cancel = nullptr;
  std::exception_ptr exception;

  static void* operator new(std::size_t bytes) { return allocate_frame(bytes); }
  static void operator delete(void* frame, std::size_t bytes) noexcept { release_frame(frame, bytes); }

  std::suspend_always initial_suspend() noexcept { return {}; }

  struct FinalAwaiter {
    bool await_ready() noexcept { return false; }
    template <typename P>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<P> h) noexcept {
      const auto next = h.promise().continuation;
      return next ? next : std::noop_coroutine();
    }
    void await_resume() noexcept {}
  };
  FinalAwaiter final_suspend() noexcept { return {}; }
  void unhandled_exception() noexcept { exception = std::current_exception(); }
};

// Of coroutines that nobody awaits: see Scope.
class TaskOwner {
 public:
  // The coroutine is over, its locals are gone; the frame goes when this returns. Must resume nothing.
  virtual void child_ended(std::exception_ptr thrown) noexcept = 0;

 protected:
  TaskOwner() = default;
  ~TaskOwner() = default;
};

template <typename T = void>
class Task;

namespace detail {

template <typename T>
class UnderAwaitable;

template <typename T>
struct Promise : PromiseBase {
  std::optional<T> value;
  Task<T> get_return_object() noexcept;
  template <typename U>
  void return_value(U&& v) {
    value.emplace(std::forward<U>(v));
  }
  T take() {
    if (exception) std::rethrow_exception(exception);
    return std::move(*value);
  }
};

// One that is spawned has nobody who awaits it: it frees its own frame, and tells its owner instead. The owner's
// address is in the continuation's place, odd. A coroutine around it would cost each connection a frame.
template <>
struct Promise<void> : PromiseBase {
  Promise() noexcept = default;
  Promise(const Promise&) = delete;
  Promise& operator=(const Promise&) = delete;
  ~Promise() {
    if (owned()) owner().child_ended(std::move(exception));
  }
  Task<void> get_return_object() noexcept;
  void return_void() noexcept {}

  struct Final : FinalAwaiter {
    bool owned;
    bool await_ready() const noexcept { return owned; }  // then the coroutine goes on to its end
  };
  Final final_suspend() const noexcept { return {{}, owned()}; }

  void set_owner(TaskOwner& owner) noexcept {
    continuation = std::coroutine_handle<>::from_address(reinterpret_cast<char*>(&owner) + 1);
  }
  [[nodiscard]] bool owned() const noexcept {
    return (reinterpret_cast<std::uintptr_t>(continuation.address()) & 1U) != 0;
  }
  [[nodiscard]] TaskOwner& owner() const noexcept {
    return *reinterpret_cast<TaskOwner*>(static_cast<char*>(continuation.address()) - 1);
  }
  void take() const {
    if (exception) std::rethrow_exception(exception);
  }
};

}  // namespace detail

template <typename T>
class [[nodiscard]] Task {
 public:
  using promise_type = detail::Promise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      if (handle_) handle_.destroy();
      handle_ = std::exchange(other.handle_, {});
    }
    return *this;
  }
  ~Task() {
    if (handle_) handle_.destroy();
  }

  // A task is its own awaiter: a frame that awaits one keeps a handle for it and nothing else.
  bool await_ready() const noexcept { return false; }
  template <typename P>
  bool await_suspend(std::coroutine_handle<P> parent) const {
    return start(parent, parent.promise().executor, parent.promise().cancel);
  }
  T await_resume() const { return handle_.promise().take(); }

  // Runs at once, up to its first wait, and belongs to itself; `owner` outlives it.
  void detach(TaskOwner& owner, Executor& executor, CancelSource& source) &&
    requires std::is_void_v<T>
  {
    const Handle handle = std::exchange(handle_, {});
    promise_type& promise = handle.promise();
    promise.executor = &executor;
    promise.cancel = &source;
    promise.set_owner(owner);
    handle.resume();
  }

 private:
  friend promise_type;
  friend class detail::UnderAwaitable<T>;
  explicit Task(Handle h) noexcept : handle_(h) {}

  bool start(std::coroutine_handle<> parent, Executor* executor, CancelSource* source) const {
    promise_type& promise = handle_.promise();
    promise.executor = executor;
    promise.cancel = source;
    handle_.resume();
    if (handle_.done()) return false;
    promise.continuation = parent;
    return true;
  }

  Handle handle_;
};

namespace detail {
template <typename T>
Task<T> Promise<T>::get_return_object() noexcept {
  return Task<T>(std::coroutine_handle<Promise<T>>::from_promise(*this));
}
inline Task<void> Promise<void>::get_return_object() noexcept {
  return Task<void>(std::coroutine_handle<Promise<void>>::from_promise(*this));
}

// Awaits a task under a cancel source of the caller's choice.
template <typename T>
class UnderAwaitable {
 public:
  UnderAwaitable(Task<T> task, CancelSource* source) : task_(std::move(task)), source_(source) {}
  bool await_ready() const noexcept { return false; }
  template <typename P>
  bool await_suspend(std::coroutine_handle<P> parent) const {
    return task_.start(parent, parent.promise().executor, source_);
  }
  T await_resume() const { return task_.await_resume(); }

 private:
  Task<T> task_;
  CancelSource* source_;  // null = cannot be cancelled
};
}  // namespace detail

// `auto r = co_await under(source, task());`: the task is cancelled by `source` instead of by the caller's.
template <typename T>
[[nodiscard]] detail::UnderAwaitable<T> under(CancelSource& source, Task<T> task) {
  return detail::UnderAwaitable<T>(std::move(task), &source);
}

// Runs to its end even when the caller has been cancelled: for clean-up that must wait. Bound it yourself.
template <typename T>
[[nodiscard]] detail::UnderAwaitable<T> shielded(Task<T> task) {
  return detail::UnderAwaitable<T>(std::move(task), nullptr);
}

}  // namespace perigee::coro
