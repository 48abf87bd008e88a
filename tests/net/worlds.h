// One test body, three worlds: memory streams on a clock moved by hand, TCP over loopback, Unix sockets.
//
//   W world;
//   world.run(body(world));      // a coroutine; fails if it does not end
//   auto p = world.pair();       // p.a and p.b are connected
#pragma once

#include <doctest/doctest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "../coro/coro_test.h"
#include "perigee/coro/timeout.h"
#include "perigee/net/loop.h"
#include "perigee/net/memory_stream.h"
#include "perigee/net/socket.h"

namespace perigee::test {

struct Pair {
  net::StreamPtr a;
  net::StreamPtr b;
};

class MemoryWorld {
 public:
  static constexpr bool kReal = false;
  static constexpr bool kResets = true;
  [[nodiscard]] coro::Executor& executor() { return loop_.executor(); }
  Pair pair() {
    net::MemoryLink link(loop_.executor());
    return {link.take(0), link.take(1)};
  }
  void run(coro::Task<void> body) {
    CHECK(loop_.run_task(std::move(body)));
    loop_.run();
  }

 private:
  FrameCheck frames_;
  coro::ManualLoop loop_;
};

// A loop of libuv that runs until a coroutine ends, twenty seconds at most.
class RealLoop {
 public:
  RealLoop() { ::signal(SIGPIPE, SIG_IGN); }
  [[nodiscard]] net::Loop& loop() { return loop_; }
  [[nodiscard]] coro::Executor& executor() { return loop_.executor(); }
  void run(coro::Task<void> body) {
    coro::Scope scope(loop_.executor());
    scope.spawn(until_end(std::move(body), loop_, scope));
    if (scope.live() > 0) loop_.run();
    CHECK(scope.live() == 0);
    if (auto thrown = scope.take_exception()) std::rethrow_exception(thrown);
  }

 private:
  struct Watchdog : coro::Timer {
    explicit Watchdog(coro::Scope& s)
        : Timer([](coro::Timer& t) {
            FAIL_CHECK("a test on a real loop took too long");
            static_cast<Watchdog&>(t).scope.cancel(kStop);
          }),
          scope(s) {}
    coro::Scope& scope;
  };
  static coro::Task<void> until_end(coro::Task<void> body, net::Loop& loop, coro::Scope& scope) {
    Watchdog dog(scope);
    loop.executor().arm(dog, loop.now() + 20s);
    std::exception_ptr thrown;
    try {
      co_await body;
    } catch (...) {
      thrown = std::current_exception();
    }
    loop.stop();
    if (thrown) std::rethrow_exception(thrown);
  }
  FrameCheck frames_;
  SystemClock clock_;
  net::Loop loop_{clock_};
};

class TcpWorld : public RealLoop {
 public:
  static constexpr bool kReal = true;
  static constexpr bool kResets = true;
  Pair pair() {
    const int listening = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof at;
    REQUIRE(::bind(listening, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
    REQUIRE(::listen(listening, 1) == 0);
    REQUIRE(::getsockname(listening, reinterpret_cast<sockaddr*>(&at), &length) == 0);
    const int out = ::socket(AF_INET, SOCK_STREAM, 0);
    REQUIRE(::connect(out, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
    const int in = ::accept(listening, nullptr, nullptr);
    ::close(listening);
    return {*net::adopt(loop(), out, false), *net::adopt(loop(), in, false)};
  }
};

class UnixWorld : public RealLoop {
 public:
  static constexpr bool kReal = true;
  static constexpr bool kResets = false;  // the system has no reset for them
  Pair pair() {
    int fds[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    return {*net::adopt(loop(), fds[0], true), *net::adopt(loop(), fds[1], true)};
  }
};

// Time enough for everything that is on its way to arrive.
template <typename World>
coro::Task<void> settle(World& w) {
  (void)w;
  if (World::kReal) {
    co_await nap(30ms);
  } else {
    co_await nap(1ms);
  }
}

// Reads exactly `n` bytes; fewer when the stream ends before.
inline coro::Task<std::string> read_bytes(net::Stream& s, std::size_t n) {
  std::string got;
  while (got.size() < n) {
    auto r = co_await s.read();
    if (!r) break;
    const std::size_t use = std::min(n - got.size(), r->size());
    got.append(r->data(), use);
    s.unread(r->subspan(use));
  }
  co_return got;
}

// Reads to the end; the kind of end in `end`.
inline coro::Task<std::string> read_all(net::Stream& s, ErrorKind& end) {
  std::string got;
  for (;;) {
    auto r = co_await s.read();
    if (!r) {
      end = r.error().kind;
      co_return got;
    }
    got.append(r->data(), r->size());
  }
}

}  // namespace perigee::test
