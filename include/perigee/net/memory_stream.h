// Connections in memory that behave as sockets do, and misbehave on demand. For tests and simulations: they
// need an executor and nothing else, so that a whole proxy runs on a clock moved by hand.
//
//   MemoryLink link(executor);                    // the wire: bounds, splits, stalls, resets
//   StreamPtr ours = link.take(0), theirs = link.take(1);
//
// What a socket does, these do: a write goes out as far as the pipe has room and the rest is backlog; closing
// with bytes unread, or after reset_on_close(), resets the peer, and then what was on its way is lost;
// closing drops the backlog; writing to a closed peer succeeds once and brings the reset back. Everything
// moves through the executor's ready queue, never inside write() or close(). One thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "perigee/coro/executor.h"
#include "perigee/net/socket.h"
#include "perigee/net/stream.h"

namespace perigee::net {

// Counts operations (connects, writes, deliveries) and lets the n-th one fail; 0 = none.
class FailPoint {
 public:
  explicit FailPoint(std::uint64_t fail_at = 0) : fail_at_(fail_at) {}
  // Asked once an operation.
  [[nodiscard]] bool fails() { return ++count_ == fail_at_; }
  [[nodiscard]] std::uint64_t count() const { return count_; }
  [[nodiscard]] bool reached() const { return fail_at_ != 0 && count_ >= fail_at_; }

 private:
  std::uint64_t fail_at_;
  std::uint64_t count_ = 0;
};

// Calls `body` with a fail point at operation 1, 2, 3 … until one is not reached. Returns how many there were.
template <typename Body>
std::uint64_t for_each_failure(Body&& body) {
  for (std::uint64_t n = 1;; ++n) {
    FailPoint point(n);
    body(point);
    if (!point.reached()) return n - 1;
  }
}

// How a link treats what passes over it, each direction alike.
struct LinkRules {
  std::size_t capacity = 64UL * 1024;  // bytes on their way at once; the rest is the writer's backlog
  // How many of the `available` bytes the next read gets, 1 … available; empty = all.
  std::function<std::size_t(std::size_t available)> split;
  FailPoint* fail = nullptr;  // outlives the link
};

// Rules that hand bytes over one by one.
[[nodiscard]] LinkRules byte_by_byte();

class MemoryStream;

// The wire between two ends. The ends share it: it may be let go before them.
class MemoryLink {
 public:
  explicit MemoryLink(coro::Executor& executor, LinkRules rules = {});

  // Each end once.
  [[nodiscard]] StreamPtr take(std::size_t end);

  // Nothing more arrives at `end` until it is let go on.
  void stall(std::size_t end, bool stalled);
  // Breaks the connection for both ends, as a lost peer does.
  void break_off();
  // The end's stream was closed, or the connection is broken.
  [[nodiscard]] bool closed(std::size_t end) const;
  // Bytes on their way to `end`, and the backlog of its peer.
  [[nodiscard]] std::size_t in_flight(std::size_t end) const;

 private:
  friend class MemoryNetwork;
  friend class MemoryStream;
  struct Wire;
  std::shared_ptr<Wire> wire_;
};

// Connections to named endpoints, accepted by functions of the test.
class MemoryNetwork final : public Connector {
 public:
  explicit MemoryNetwork(coro::Executor& executor) : executor_(executor) {}

  enum class Answer : std::uint8_t { accept, refuse, hang };
  struct Host {
    Answer answer = Answer::refuse;
    Duration delay{};  // before the answer
    LinkRules rules;
    // Gets the far end. Called before connect() returns; the link may be kept to disturb the connection.
    std::function<void(StreamPtr, MemoryLink)> on_accept;
    std::uint64_t connects = 0;  // asked for, whatever came of it
  };
  // Refuses until it is told otherwise.
  [[nodiscard]] Host& host(const Endpoint& at) { return hosts_[at.text()]; }
  // Fails connects too.
  void fail_with(FailPoint* fail) { fail_ = fail; }

  coro::Task<Result<StreamPtr>> connect(const Endpoint& to) override;

 private:
  coro::Executor& executor_;
  std::map<std::string, Host> hosts_;
  FailPoint* fail_ = nullptr;
};

}  // namespace perigee::net
