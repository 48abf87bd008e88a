// Connecting and adopting real sockets.
#include "perigee/net/socket.h"

#include <fcntl.h>
#include <sys/resource.h>

#include <cstdlib>

#include "worlds.h"

namespace perigee::test {
namespace {

using coro::Task;

net::Endpoint tcp(std::uint16_t port) {
  config::Address a;
  a.kind = config::Address::Kind::tcp;
  a.host = "127.0.0.1";
  a.port = port;
  return *net::to_endpoint(a);
}
net::Endpoint unix_path(const std::string& path) {
  config::Address a;
  a.kind = config::Address::Kind::unix_socket;
  a.path = path;
  return *net::to_endpoint(a);
}
// A port on which nobody listens.
std::uint16_t dead_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof at;
  (void)::bind(fd, reinterpret_cast<sockaddr*>(&at), sizeof at);
  (void)::getsockname(fd, reinterpret_cast<sockaddr*>(&at), &length);
  ::close(fd);
  return ntohs(at.sin_port);
}

Task<void> fails(RealLoop& r, net::Endpoint to, ErrorKind expected) {
  net::SocketConnector connector(r.loop());
  auto s = co_await connector.connect(to);
  REQUIRE_FALSE(s.has_value());
  CHECK(s.error().kind == expected);
  CHECK(s.error().sent == Sent::nothing);
}

TEST_CASE("connect: refused by a dead port, by a path without a socket, by no address at all") {
  RealLoop r;
  r.run(fails(r, tcp(dead_port()), ErrorKind::refused));
  r.run(fails(r, unix_path("/nonexistent/perigee.sock"), ErrorKind::refused));
  r.run(fails(r, net::Endpoint{}, ErrorKind::io));
}

TEST_CASE("connect: cancelled while it waits; the socket is gone") {
  struct Body {
    static Task<Result<net::StreamPtr>> connect(net::Loop& loop, net::Endpoint to) {
      net::SocketConnector connector(loop);
      co_return co_await connector.connect(to);
    }
    // A listener whose queue is full answers no connect.
    static Task<void> run(RealLoop& r) {
      const int listening = ::socket(AF_INET, SOCK_STREAM, 0);
      sockaddr_in at{};
      at.sin_family = AF_INET;
      at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      socklen_t length = sizeof at;
      REQUIRE(::bind(listening, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
      REQUIRE(::listen(listening, 0) == 0);
      REQUIRE(::getsockname(listening, reinterpret_cast<sockaddr*>(&at), &length) == 0);
      const net::Endpoint to = tcp(ntohs(at.sin_port));
      int filling[4];
      for (int& fd : filling) {
        fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)::connect(fd, reinterpret_cast<sockaddr*>(&at), sizeof at);
      }
      co_await nap(20ms);
      auto s = co_await coro::with_timeout(50ms, kLate, Body::connect(r.loop(), to));
      CHECK_FALSE(s.has_value());
      if (!s) CHECK(s.error().kind == ErrorKind::timeout);
      if (!s) CHECK(s.error().sent == Sent::nothing);
      // Cancelled before it begins.
      coro::CancelSource stopped;
      stopped.cancel(kStop);
      auto never = co_await coro::under(stopped, Body::connect(r.loop(), to));
      CHECK_FALSE(never.has_value());
      for (const int fd : filling)
        ::close(fd);
      ::close(listening);
    }
  };
  RealLoop r;
  r.run(Body::run(r));
}

TEST_CASE("connect: out of descriptors says so, and works again afterwards") {
  struct Body {
    static Task<void> run(RealLoop& r) {
      rlimit before{};
      REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
      rlimit low = before;
      const int next = ::dup(0);
      ::close(next);
      low.rlim_cur = static_cast<rlim_t>(next);
      REQUIRE(::setrlimit(RLIMIT_NOFILE, &low) == 0);
      net::SocketConnector connector(r.loop());
      const net::Endpoint tcp_to = tcp(1);
      const net::Endpoint unix_to = unix_path("/tmp/none");
      auto a = co_await connector.connect(tcp_to);
      auto b = co_await connector.connect(unix_to);
      REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
      REQUIRE_FALSE(a.has_value());
      CHECK(a.error().kind == ErrorKind::exhausted);
      REQUIRE_FALSE(b.has_value());
      CHECK(b.error().kind == ErrorKind::exhausted);
    }
  };
  RealLoop r;
  r.run(Body::run(r));
}

TEST_CASE("adopt: what is no socket is refused and closed") {
  RealLoop r;
  int fds[2];
  REQUIRE(::pipe(fds) == 0);
  ::close(fds[0]);
  ::close(fds[1]);
  CHECK_FALSE(net::adopt(r.loop(), fds[1], false).has_value());
}

TEST_CASE("teardown: a loop with streams open, half-written and being read") {
  // The streams go first, as their owners do; their last callbacks run in the loop's destructor.
  const FrameCheck frames;
  SystemClock clock;
  ::signal(SIGPIPE, SIG_IGN);
  net::Loop loop(clock);
  int fds[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
  auto a = net::adopt(loop, fds[0], true);
  auto b = net::adopt(loop, fds[1], true);
  REQUIRE(a.has_value());
  REQUIRE(b.has_value());
  (void)(*a)->write(net::Bytes(std::string(5'000'000, 'x')));
  CHECK((*a)->backlog() > 0);
  (*a)->shutdown();
  struct Reading {
    static Task<void> run(net::Stream& s) {
      for (;;) {
        auto r = co_await s.read();
        if (!r) co_return;
      }
    }
  };
  coro::Scope scope(loop.executor());
  scope.spawn(Reading::run(**b));
  scope.cancel(kStop);
  loop.executor().run_ready();
  CHECK(scope.live() == 0);
}

}  // namespace
}  // namespace perigee::test
