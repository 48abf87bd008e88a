// Loop: one event loop: libuv below, an Executor of coroutines above, and a mailbox for other threads.
//
// The thread that calls run() owns it; only post() and the members that say so may be called by others.
// Everything a turn makes ready runs in the same turn, before the loop sleeps again.
#pragma once

#include <uv.h>

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "perigee/base/time.h"
#include "perigee/coro/executor.h"

namespace perigee::net {

class Loop {
 public:
  using Letter = std::move_only_function<void()>;

  // `clock` must outlive the loop.
  explicit Loop(const Clock& clock);
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  // Every handle made on the loop must be closed, or closing, by now; their last callbacks run here.
  ~Loop();

  [[nodiscard]] coro::Executor& executor() { return executor_; }
  [[nodiscard]] const Clock& clock() const { return clock_; }
  [[nodiscard]] TimePoint now() const { return executor_.now(); }

  // Runs until stop().
  void run();
  void stop();

  // Runs `letter` on this loop's thread, soon. Any thread; also before run().
  void post(Letter letter);
  // Wakes the loop and calls the function given to on_wake(), once for any number of calls meanwhile. Any
  // thread; no lock, no allocation.
  void wake() { uv_async_send(&wake_); }
  void on_wake(std::function<void()> callback) { on_wake_ = std::move(callback); }

  // Called at the end of each turn, before the loop sleeps; may arm timers and make things ready.
  void on_turn_end(std::function<void()> callback) { on_turn_end_ = std::move(callback); }

  // For the rest of this room ------------------------------------------------------------------------------
  [[nodiscard]] uv_loop_t* uv() { return &uv_; }
  static Loop& of(uv_loop_t* loop) { return *static_cast<Loop*>(loop->data); }
  // Every callback from libuv begins with this: it brings the turn's time up to date, once a turn.
  void enter() {
    if (fresh_) return;
    fresh_ = true;
    executor_.note_time(clock_.now());
  }
  // The one buffer all sockets read into; its bytes are gone at the next read.
  [[nodiscard]] std::span<char> read_buffer() { return {read_buffer_.get(), kReadBuffer}; }

 private:
  static constexpr std::size_t kReadBuffer = 64UL * 1024;

  void before_sleep();
  void after_poll();
  void deliver();

  const Clock& clock_;
  coro::Executor executor_;
  uv_loop_t uv_{};
  uv_prepare_t prepare_{};
  uv_check_t check_{};
  uv_timer_t timer_{};
  uv_async_t mail_{};
  uv_async_t wake_{};
  TimePoint timer_due_ = kNever;
  std::unique_ptr<char[]> read_buffer_;
  bool fresh_ = false;
  bool stopping_ = false;
  std::function<void()> on_wake_;
  std::function<void()> on_turn_end_;
  std::mutex mail_mutex_;
  std::vector<Letter> mail_box_;  // guarded by mail_mutex_
};

}  // namespace perigee::net
