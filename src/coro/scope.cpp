#include "perigee/coro/scope.h"

#include <cstdio>
#include <cstdlib>

namespace perigee::coro {

// The outermost coroutine of a child: starts at once and destroys itself at its end.
struct Scope::Root {
  struct promise_type : PromiseBase {
    promise_type(Scope& scope, CancelSource& source, Task<void>&) {
      executor = &scope.executor_;
      cancel = &source;
    }
    Root get_return_object() noexcept { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() noexcept {}
    void unhandled_exception() noexcept { std::terminate(); }
  };
};

Scope::Root Scope::run(Scope& scope, CancelSource&, Task<void> task) {
  try {
    co_await task;
  } catch (...) {
    if (!scope.exception_) scope.exception_ = std::current_exception();
  }
  {
    Task<void> done = std::move(task);  // the child's frame goes before the scope can
  }
  scope.ended();
}

void Scope::spawn(Task<void> task, CancelSource& source) {
  ++live_;
  idle_.reset();
  run(*this, source, std::move(task));
}

void Scope::ended() {
  if (--live_ == 0) idle_.set();
}

Task<void> Scope::join() {
  while (live_ > 0) {
    const auto waited = co_await idle_.wait();
    if (!waited) break;
  }
  if (exception_) std::rethrow_exception(std::exchange(exception_, nullptr));
}

Scope::~Scope() {
  if (live_ == 0) return;
  std::fprintf(stderr, "perigee: a coroutine scope was left with %zu live children\n", live_);
  std::abort();
}

}  // namespace perigee::coro
