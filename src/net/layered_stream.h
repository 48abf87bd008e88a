// A stream that is made of another one, as TLS is of TCP. It takes everything that arrives below from inside
// the lower stream's own callbacks: no coroutine of its own, no buffer between the two.
//
// The lower stream belongs to it. Any of the three news from below may end both streams' lives before it returns.
#pragma once

#include <utility>

#include "perigee/net/stream.h"

namespace perigee::net {

class LayeredStream : public Stream {
 protected:
  friend class Stream;

  // Nobody may be reading `below`. What it holds already is handed on by catch_up().
  explicit LayeredStream(StreamPtr below) : below_(std::move(below)) { below_->above_ = this; }
  ~LayeredStream() override = default;

  // Bytes came; they need not outlive the call.
  virtual void below_received(Bytes bytes) = 0;
  // The peer's side ended or the connection broke, perhaps one after the other; nothing is received afterwards.
  virtual void below_ended(const Error& error) = 0;
  virtual void below_writable() = 0;

  [[nodiscard]] Stream& below() { return *below_; }
  [[nodiscard]] const Stream& below() const { return *below_; }
  void hold_below(bool hold) { below_->pause_reading(hold); }

  // What came and happened below before this stream was there. To be called once, by whoever has just made it.
  void catch_up() {
    if (below_->has_pending()) {
      const std::unique_ptr<std::string> held = std::move(below_->pending_);
      if (below_->paused_) {
        below_->paused_ = false;
        if (!below_->ended_) below_->pause_reading(false);
      }
      below_received(Bytes(*held));
    }
    if (below_->ended_) below_ended(below_->end_error_);
  }
  // Closes the lower stream; nothing more is heard of it.
  void drop_below() {
    below_->above_ = nullptr;
    below_.reset();
  }

 private:
  StreamPtr below_;
};

}  // namespace perigee::net
