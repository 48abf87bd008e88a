#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "worlds.h"

namespace perigee::test {
namespace {

using coro::Task;

net::Endpoint loopback(std::uint16_t port = 0) {
  config::Address a;
  a.kind = config::Address::Kind::tcp;
  a.host = "127.0.0.1";
  a.port = port;
  return *net::to_endpoint(a);
}
net::Endpoint unix_at(const std::string& path) {
  config::Address a;
  a.kind = config::Address::Kind::unix_socket;
  a.path = path;
  return *net::to_endpoint(a);
}
// A directory that goes with the test.
struct TemporaryDirectory {
  TemporaryDirectory() { REQUIRE(::mkdtemp(name) != nullptr); }
  ~TemporaryDirectory() {
    ::unlink(file().c_str());
    ::rmdir(name);
  }
  [[nodiscard]] std::string file() const { return std::string(name) + "/p.sock"; }
  char name[32] = "/tmp/perigee-test-XXXXXX";
};

// A bound port that is free again.
std::uint16_t free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  net::Endpoint at = loopback();
  (void)::bind(fd, at.raw(), at.length);
  (void)::getsockname(fd, reinterpret_cast<sockaddr*>(&at.storage), &at.length);
  ::close(fd);
  return ntohs(reinterpret_cast<const sockaddr_in*>(at.raw())->sin_port);
}
int dial(const net::Endpoint& to) {
  const int fd = ::socket(to.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
  (void)::connect(fd, to.raw(), to.length);
  return fd;
}

struct Accepted {
  ~Accepted() {
    for (const int fd : fds)
      ::close(fd);
  }
  std::vector<int> fds;
  bool is_unix = false;
};

// Opens a listener that keeps what it accepts.
std::unique_ptr<net::Listener> listen(net::Loop& loop, const net::Endpoint& at, Accepted& accepted) {
  auto l = net::Listener::open(loop, at, [&accepted](int fd, bool is_unix) {
    accepted.fds.push_back(fd);
    accepted.is_unix = is_unix;
  });
  REQUIRE(l.has_value());
  return std::move(*l);
}

TEST_CASE("listener: accepts, over TCP and over a Unix socket") {
  struct Body {
    static Task<void> run(RealLoop& r) {
      const TemporaryDirectory dir;
      const net::Endpoint places[] = {loopback(free_port()), unix_at(dir.file())};
      for (const net::Endpoint& at : places) {
        Accepted accepted;
        auto listener = listen(r.loop(), at, accepted);
        CHECK(listener->text() == at.text());
        std::vector<int> clients;
        for (int i = 0; i < 100; ++i)
          clients.push_back(dial(at));
        co_await nap(50ms);
        CHECK(accepted.fds.size() == 100);
        CHECK(accepted.is_unix == at.is_unix());
        for (const int fd : clients)
          ::close(fd);
        if (!accepted.fds.empty())
          CHECK(std::string(net::peer_of(accepted.fds[0]).text.data()) ==
                (at.is_unix() ? "unix" : "127.0.0.1"));
      }
      struct stat st{};
      CHECK(::stat(dir.file().c_str(), &st) != 0);  // the listener took its file with it
    }
  };
  RealLoop r;
  r.run(Body::run(r));
}

TEST_CASE("listener: paused, connections wait in the system; resumed, they are taken") {
  struct Body {
    static Task<void> run(RealLoop& r) {
      const net::Endpoint at = loopback(free_port());
      Accepted accepted;
      auto listener = listen(r.loop(), at, accepted);
      listener->pause(true);
      listener->pause(true);
      const int client = dial(at);
      co_await nap(30ms);
      CHECK(accepted.fds.empty());
      listener->pause(false);
      co_await nap(30ms);
      CHECK(accepted.fds.size() == 1);
      ::close(client);
    }
  };
  RealLoop r;
  r.run(Body::run(r));
}

TEST_CASE("listener: out of descriptors it waits, cuts nobody and goes on") {
  struct Body {
    static Task<void> run(RealLoop& r) {
      const net::Endpoint at = loopback(free_port());
      Accepted accepted;
      auto listener = listen(r.loop(), at, accepted);
      int clients[3];
      for (int& fd : clients)
        fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
      rlimit before{};
      REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
      const int next = ::dup(0);
      ::close(next);
      rlimit low = before;
      low.rlim_cur = static_cast<rlim_t>(next + 1);  // room for one
      REQUIRE(::setrlimit(RLIMIT_NOFILE, &low) == 0);
      for (const int fd : clients)
        (void)::connect(fd, at.raw(), at.length);
      co_await nap(250ms);
      const std::size_t while_low = accepted.fds.size();
      REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
      CHECK(while_low == 1);
      co_await nap(250ms);
      CHECK(accepted.fds.size() == 3);
      for (const int fd : clients) {
        char byte = 0;
        CHECK(::recv(fd, &byte, 1, MSG_DONTWAIT) == -1);
        CHECK((errno == EAGAIN || errno == EWOULDBLOCK));  // alive
        ::close(fd);
      }
    }
  };
  RealLoop r;
  r.run(Body::run(r));
}

TEST_CASE(
    "listener: an address in use is refused; a stale Unix socket file is taken over, a live one is not") {
  RealLoop r;
  const TemporaryDirectory dir;
  const net::Endpoint tcp = loopback(free_port());
  Accepted accepted;
  {
    auto first = listen(r.loop(), tcp, accepted);
    auto second = net::Listener::open(r.loop(), tcp, [](int, bool) {});
    REQUIRE_FALSE(second.has_value());
    CHECK(second.error().code == EADDRINUSE);
    CHECK(std::string(second.error().detail) == "the address is in use");
  }
  const net::Endpoint at = unix_at(dir.file());
  {
    const int stale = ::socket(AF_UNIX, SOCK_STREAM, 0);
    REQUIRE(::bind(stale, at.raw(), at.length) == 0);
    ::close(stale);  // the file stays
  }
  auto taken = listen(r.loop(), at, accepted);
  auto again = net::Listener::open(r.loop(), at, [](int, bool) {});
  REQUIRE_FALSE(again.has_value());
  CHECK(again.error().code == EADDRINUSE);
}

mode_t permissions(const std::string& path) {
  struct stat st{};
  return ::stat(path.c_str(), &st) == 0 ? st.st_mode & 0777U : 0;
}

TEST_CASE("listener: a file that is no socket is nobody's to replace") {
  RealLoop r;
  const TemporaryDirectory dir;
  const int fd = ::open(dir.file().c_str(), O_CREAT | O_WRONLY, 0600);
  ::close(fd);
  auto opened = net::Listener::open(r.loop(), unix_at(dir.file()), [](int, bool) {});
  REQUIRE_FALSE(opened.has_value());
  CHECK(opened.error().code == EADDRINUSE);
  struct stat st{};
  CHECK(::stat(dir.file().c_str(), &st) == 0);
}

TEST_CASE("listener: a Unix socket has its permissions, and its file goes only if it is still ours") {
  RealLoop r;
  const TemporaryDirectory dir;
  for (const unsigned mode : {0600U, 0666U, 0770U}) {
    auto opened = net::Listener::open(r.loop(), unix_at(dir.file()), [](int, bool) {}, mode);
    REQUIRE(opened.has_value());
    CHECK(permissions(dir.file()) == mode);
  }
  {
    auto opened = net::Listener::open(r.loop(), unix_at(dir.file()), [](int, bool) {});
    REQUIRE(opened.has_value());
    ::unlink(dir.file().c_str());
    const int other = ::socket(AF_UNIX, SOCK_STREAM, 0);
    const net::Endpoint at = unix_at(dir.file());
    REQUIRE(::bind(other, at.raw(), at.length) == 0);
    ::close(other);
  }
  struct stat st{};
  CHECK(::stat(dir.file().c_str(), &st) == 0);  // somebody else's
}

TEST_CASE("listener: a socket that was passed is taken over, and its file stays") {
  struct Body {
    static Task<void> run(RealLoop& r) {
      const TemporaryDirectory dir;
      const net::Endpoint places[] = {loopback(free_port()), unix_at(dir.file())};
      for (const net::Endpoint& at : places) {
        const int fd = ::socket(at.storage.ss_family, SOCK_STREAM, 0);
        REQUIRE(::bind(fd, at.raw(), at.length) == 0);
        Accepted accepted;
        const auto on_accept = [&accepted](int taken, bool is_unix) {
          accepted.fds.push_back(taken);
          accepted.is_unix = is_unix;
        };
        CHECK(net::local_endpoint(fd).text() == at.text());
        auto early = net::Listener::adopt(r.loop(), fd, on_accept);
        REQUIRE_FALSE(early.has_value());  // bound, but nobody listens
        REQUIRE(::listen(fd, 8) == 0);
        auto listener = net::Listener::adopt(r.loop(), fd, on_accept);
        REQUIRE(listener.has_value());
        const int client = dial(at);
        co_await nap(50ms);
        CHECK(accepted.fds.size() == 1);
        CHECK(accepted.is_unix == at.is_unix());
        ::close(client);
      }
      struct stat st{};
      CHECK(::stat(dir.file().c_str(), &st) == 0);
      const int datagrams = ::socket(AF_INET, SOCK_DGRAM, 0);
      CHECK_FALSE(net::Listener::adopt(r.loop(), datagrams, [](int, bool) {}).has_value());
      CHECK_FALSE(net::Listener::adopt(r.loop(), 9999, [](int, bool) {}).has_value());
      ::close(datagrams);
    }
  };
  RealLoop r;
  r.run(Body::run(r));
}

TEST_CASE("peer: whom a PROXY header speaks for") {
  net::Peer sender;
  sender.ip = *config::parse_ip("10.0.0.1");
  sender.port = 4000;
  std::memcpy(sender.text.data(), "10.0.0.1", 9);
  net::ProxyHeader header;
  header.state = net::ProxyHeader::State::complete;
  const net::Peer unknown = net::peer_behind(sender, header);
  CHECK(std::string(unknown.text.data()) == "10.0.0.1");
  CHECK(unknown.ip == *config::parse_ip("0.0.0.0"));  // in nobody's trust list
  header.has_addresses = true;
  header.source = {*config::parse_ip("2001:db8::7"), 99};
  header.destination = {*config::parse_ip("192.0.2.1"), 443};
  const net::Peer named = net::peer_behind(sender, header);
  CHECK(std::string(named.text.data()) == "2001:db8::7");
  CHECK(named.ip == header.source.ip);
  CHECK(named.port == 99);
  CHECK(named.local == header.destination);
}

TEST_CASE("listener: paused from inside on_accept") {
  struct Body {
    static Task<void> run(RealLoop& r) {
      const net::Endpoint at = loopback(free_port());
      std::unique_ptr<net::Listener> listener;
      int taken = 0;
      auto opened = net::Listener::open(r.loop(), at, [&](int fd, bool) {
        ::close(fd);
        ++taken;
        listener->pause(true);
      });
      REQUIRE(opened.has_value());
      listener = std::move(*opened);
      const int a = dial(at);
      const int b = dial(at);
      co_await nap(50ms);
      CHECK(taken == 1);  // paused by the first
      listener.reset();
      ::close(a);
      ::close(b);
    }
  };
  RealLoop r;
  r.run(Body::run(r));
}

}  // namespace
}  // namespace perigee::test
