// Channel<T>: a bounded queue between coroutines of one thread. A full channel makes its senders wait, an
// empty one its receivers; closing lets receivers drain what is there and then fails them with `eof`.
#pragma once

#include <cstddef>
#include <deque>
#include <utility>

#include "perigee/coro/event.h"
#include "perigee/coro/task.h"

namespace perigee::coro {

template <typename T>
class Channel {
 public:
  explicit Channel(std::size_t capacity) : capacity_(capacity) {}

  [[nodiscard]] std::size_t size() const { return items_.size(); }
  [[nodiscard]] bool closed() const { return closed_; }

  // False when full or closed; `item` is then untouched.
  bool try_send(T& item) {
    if (closed_ || items_.size() >= capacity_) return false;
    items_.push_back(std::move(item));
    readable_.set();
    return true;
  }
  // Waits for room. Fails when cancelled, or with `eof` when closed.
  Task<Result<void>> send(T item) {
    for (;;) {
      if (closed_) co_return fail(ErrorKind::eof, "channel closed");
      if (try_send(item)) co_return Result<void>{};
      writable_.reset();
      auto room = co_await writable_.wait();
      if (!room) co_return room;
    }
  }
  // Waits for an item. Fails when cancelled, or with `eof` when closed and empty.
  Task<Result<T>> receive() {
    for (;;) {
      if (!items_.empty()) {
        T item = std::move(items_.front());
        items_.pop_front();
        writable_.set();
        co_return item;
      }
      if (closed_) co_return fail(ErrorKind::eof, "channel closed");
      readable_.reset();
      auto some = co_await readable_.wait();
      if (!some) co_return std::unexpected(some.error());
    }
  }
  void close() {
    closed_ = true;
    readable_.set();
    writable_.set();
  }

 private:
  std::size_t capacity_;
  std::deque<T> items_;
  Event readable_;
  Event writable_;
  bool closed_ = false;
};

}  // namespace perigee::coro
