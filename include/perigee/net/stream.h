// Stream: a byte connection as a coroutine sees it: read, write, end. TCP and Unix sockets, TLS and the
// memory pairs of the tests all look like this.
//
// Reading is always armed. Bytes that come while a coroutine waits in read() are lent to it directly from
// the loop's one read buffer, so that a waiting stream owns no buffer; bytes that come while nobody reads
// are kept, and past kPendingMax reading stops until somebody does.
// Writing never waits: what the peer does not take at once is queued and the backlog grows; whoever
// produces bytes looks at backlog() and waits in drained(). One thread: its loop's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "perigee/base/result.h"
#include "perigee/coro/wait.h"

namespace perigee::net {

using Bytes = std::span<const char>;

// Bytes kept for a reader that does not come; then the peer is held back. One read may exceed it.
inline constexpr std::size_t kPendingMax = 16UL * 1024;
// drained() wakes when the backlog has fallen to this.
inline constexpr std::size_t kBacklogLow = 16UL * 1024;
// Producers wait above this.
inline constexpr std::size_t kBacklogHigh = 64UL * 1024;

class LayeredStream;

// Received by all streams of this thread so far: what they keep cannot have grown by more.
inline constinit thread_local std::uint64_t received_by_thread = 0;

class Stream {
 public:
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // `auto bytes = co_await stream.read();` At least one byte, valid until the coroutine next waits for
  // anything; what was not used must be given back with unread() before. Fails with `eof` when the peer has
  // ended its side in good order, else with what broke. One reader at a time.
  class Read;
  [[nodiscard]] Read read();
  // Puts bytes back in front, to be read again first. Copies them.
  void unread(Bytes rest);
  // Bytes are waiting that read() would return at once.
  [[nodiscard]] bool has_pending() const { return pending_ != nullptr && !pending_->empty(); }

  [[nodiscard]] std::size_t pending() const { return pending_ == nullptr ? 0 : pending_->size(); }

  // When the peer ends or breaks while nobody reads, `source` is cancelled with {eof or reset, side}.
  // nullptr ends the watch. An end that was seen earlier fires at once.
  void watch_end(coro::CancelSource* source, Side side);
  // The peer has ended its side, or the connection is broken.
  [[nodiscard]] bool ended() const { return ended_; }

  // Asks the system whether the peer has ended its side, also behind bytes that nobody has read yet. For
  // rare moments: it costs a system call.
  [[nodiscard]] virtual bool peer_has_left() const { return ended_; }

  // Sends all parts in order, in one system call where the peer takes them. What is left over is copied.
  // Fails only when the connection is known to be broken or ended by us.
  Result<void> write(std::span<const Bytes> parts);
  Result<void> write(Bytes bytes) { return write(std::span<const Bytes>(&bytes, 1)); }
  // Bytes written but not yet taken by the system.
  [[nodiscard]] virtual std::size_t backlog() const = 0;
  // `auto r = co_await stream.drained();`: until the backlog is at most `low`. One waiter at a time.
  class Drained;
  [[nodiscard]] Drained drained(std::size_t low = kBacklogLow);

  // Ends our side once everything written is out (FIN). Reading goes on.
  virtual void shutdown() = 0;
  // Makes the close that follows a hard one (RST): for an answer that must not pass for complete.
  virtual void reset_on_close() = 0;
  // Total bytes handed to write(), and received.
  [[nodiscard]] std::uint64_t bytes_out() const { return bytes_out_; }
  [[nodiscard]] std::uint64_t bytes_in() const { return bytes_in_; }

  struct Closer {
    void operator()(Stream* stream) const { stream->close(); }
  };

 protected:
  Stream() = default;
  virtual ~Stream() = default;

  // For the kinds of stream ------------------------------------------------------------------------------
  // Bytes arrived; they need not outlive the call.
  void received(Bytes bytes);
  // The peer ended its side (kind eof), or the connection broke. Nothing is received afterwards, but that a
  // connection broke after its peer's end.
  void received_end(const Error& error);
  // The backlog fell.
  void writable();
  // Writes what goes out without waiting and queues a copy of the rest.
  virtual Result<void> send(std::span<const Bytes> parts, std::size_t total) = 0;
  // Holds the peer back, or lets it go on.
  virtual void pause_reading(bool pause) = 0;
  // Ends the object's life: closes at once and deletes it when the system allows.
  virtual void close() = 0;

 private:
  friend class LayeredStream;
  void hold_back();

  Read* reader_ = nullptr;
  Drained* drainer_ = nullptr;
  LayeredStream* above_ = nullptr;  // a stream made of this one; then nobody else reads or waits here
  std::unique_ptr<std::string> pending_;  // came while nobody read
  std::unique_ptr<std::string> lent_;     // was pending, is now in the reader's hands
  coro::CancelSource* end_watcher_ = nullptr;
  Error end_error_{};
  std::uint64_t bytes_in_ = 0;
  std::uint64_t bytes_out_ = 0;
  Side end_side_ = Side::internal;
  bool ended_ = false;
  bool broken_ = false;  // nothing can be written any longer; also after an end in good order
  bool paused_ = false;
};

// Owning a stream; letting go closes it (FIN after what the system already took, unless reset_on_close()).
using StreamPtr = std::unique_ptr<Stream, Stream::Closer>;

class Stream::Read : public coro::Wait {
 public:
  explicit Read(Stream& stream) : Wait(&on_cancel), stream_(stream) {}
  bool await_ready();
  template <typename P>
  bool await_suspend(std::coroutine_handle<P> h) {
    stream_.lent_.reset();
    if (!suspend(h)) return false;
    stream_.reader_ = this;
    return true;
  }
  Result<Bytes> await_resume() { return result_; }

 protected:
  [[nodiscard]] const Result<Bytes>& result() const { return result_; }

 private:
  friend class Stream;
  static void on_cancel(Wait& w, const Error& reason);
  void complete(Result<Bytes> result) {
    result_ = result;
    resume_now();
  }
  Stream& stream_;
  Result<Bytes> result_;
};

class Stream::Drained : public coro::Wait {
 public:
  Drained(Stream& stream, std::size_t low) : Wait(&on_cancel), stream_(stream), low_(low) {}
  bool await_ready();
  template <typename P>
  bool await_suspend(std::coroutine_handle<P> h) {
    if (!suspend(h)) return false;
    stream_.drainer_ = this;
    return true;
  }
  Result<void> await_resume() { return result_; }

 private:
  friend class Stream;
  static void on_cancel(Wait& w, const Error& reason);
  void complete(Result<void> result) {
    result_ = result;
    wake();
  }
  Stream& stream_;
  std::size_t low_;
  Result<void> result_;
};

inline Stream::Read Stream::read() { return Read(*this); }
inline Stream::Drained Stream::drained(std::size_t low) { return Drained(*this, low); }

}  // namespace perigee::net
