#include "perigee/net/loop.h"

#include <utility>

namespace perigee::net {

Loop::Loop(const Clock& clock)
    : clock_(clock), executor_(clock.now()), read_buffer_(std::make_unique_for_overwrite<char[]>(kReadBuffer)) {
  uv_loop_init(&uv_);
  uv_.data = this;
  uv_prepare_init(&uv_, &prepare_);
  uv_check_init(&uv_, &check_);
  uv_timer_init(&uv_, &timer_);
  uv_async_init(&uv_, &mail_, [](uv_async_t* a) { of(a->loop).deliver(); });
  uv_async_init(&uv_, &wake_, [](uv_async_t* a) {
    Loop& self = of(a->loop);
    self.enter();
    if (self.on_wake_) self.on_wake_();
  });
  uv_prepare_start(&prepare_, [](uv_prepare_t* p) { of(p->loop).before_sleep(); });
  uv_check_start(&check_, [](uv_check_t* c) { of(c->loop).after_poll(); });
}

Loop::~Loop() {
  executor_.run_ready();
  for (auto* handle : {reinterpret_cast<uv_handle_t*>(&prepare_), reinterpret_cast<uv_handle_t*>(&check_),
                       reinterpret_cast<uv_handle_t*>(&timer_), reinterpret_cast<uv_handle_t*>(&mail_),
                       reinterpret_cast<uv_handle_t*>(&wake_)}) {
    uv_close(handle, nullptr);
  }
  // A stop() that came while the loop did not run ends the first of these at once.
  while (uv_run(&uv_, UV_RUN_DEFAULT) != 0) {
  }
  uv_loop_close(&uv_);
}

void Loop::run() {
  // A stop that came before the run counts.
  while (!stopping_) uv_run(&uv_, UV_RUN_ONCE);
  stopping_ = false;
}

void Loop::stop() {
  stopping_ = true;
  uv_stop(&uv_);
}

void Loop::post(Letter letter) {
  bool first = false;
  {
    const std::lock_guard lock(mail_mutex_);
    first = mail_box_.empty();
    mail_box_.push_back(std::move(letter));
  }
  if (first) uv_async_send(&mail_);
}

void Loop::deliver() {
  enter();
  std::vector<Letter> letters;
  {
    const std::lock_guard lock(mail_mutex_);
    letters.swap(mail_box_);
  }
  for (Letter& letter : letters) letter();
}

// Runs what timers and closings made ready, then tells libuv how long it may sleep.
void Loop::before_sleep() {
  enter();
  executor_.run_ready();
  if (on_turn_end_) {
    on_turn_end_();
    executor_.run_ready();
  }
  const TimePoint due = executor_.next_due();
  if (due != timer_due_) {
    timer_due_ = due;
    if (due == kNever) {
      uv_timer_stop(&timer_);
    } else {
      // libuv counts milliseconds from its own (coarser) idea of now; after_poll() does the exact part.
      const auto wait = std::chrono::ceil<std::chrono::milliseconds>(due - executor_.now()).count();
      uv_timer_start(&timer_, [](uv_timer_t* t) { of(t->loop).timer_due_ = kNever; },
                     static_cast<std::uint64_t>(wait < 0 ? 0 : wait), 0);
    }
  }
  fresh_ = false;
}

void Loop::after_poll() {
  enter();
  executor_.advance(executor_.now());
  executor_.run_ready();
}

}  // namespace perigee::net
