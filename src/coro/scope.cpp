#include "perigee/coro/scope.h"

#include <cstdio>
#include <cstdlib>

namespace perigee::coro {

void Scope::spawn(Task<void> task, CancelSource& source) {
  ++live_;
  idle_.reset();
  std::move(task).detach(*this, executor_, source);
}

void Scope::child_ended(std::exception_ptr thrown) noexcept {
  if (thrown && !exception_) exception_ = std::move(thrown);
  if (--live_ == 0) idle_.set();  // wakes through the ready queue: not before the frame is gone
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
