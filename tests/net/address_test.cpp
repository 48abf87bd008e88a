#include "perigee/net/address.h"

#include "worlds.h"

namespace perigee::test {
namespace {

config::Address address(const std::string& host, std::uint16_t port) {
  config::Address a;
  a.kind = config::Address::Kind::tcp;
  a.host = host;
  a.port = port;
  return a;
}

TEST_CASE("address: literals, and what is none") {
  CHECK(net::to_endpoint(address("127.0.0.1", 3000))->text() == "127.0.0.1:3000");
  CHECK(net::to_endpoint(address("::1", 65535))->text() == "[::1]:65535");
  CHECK(net::to_endpoint(address("localhost", 1)).error().kind == ErrorKind::invalid);
  CHECK(net::to_endpoint(address("127.0.0.256", 1)).error().kind == ErrorKind::invalid);
  config::Address path;
  path.kind = config::Address::Kind::unix_socket;
  path.path = "/run/p.sock";
  CHECK(net::to_endpoint(path)->text() == "unix:/run/p.sock");
  CHECK(net::to_endpoint(path)->is_unix());
  path.path = std::string(200, 'x');
  CHECK(net::to_endpoint(path).error().kind == ErrorKind::invalid);
}

TEST_CASE("address: names are looked up, off the loop; a look-up may be cancelled") {
  struct Body {
    static coro::Task<void> run(RealLoop& r) {
      auto literal = co_await net::resolve(r.loop(), address("127.0.0.1", 80));
      CHECK(literal.has_value());
      auto name = co_await net::resolve(r.loop(), address("localhost", 80));
      REQUIRE(name.has_value());
      CHECK((name->text() == "127.0.0.1:80" || name->text() == "[::1]:80"));
      coro::CancelSource stopped;
      stopped.cancel(kStop);
      auto never = co_await coro::under(stopped, net::resolve(r.loop(), address("localhost", 80)));
      REQUIRE_FALSE(never.has_value());
      CHECK(never.error().kind == ErrorKind::cancelled);
    }
  };
  RealLoop r;
  r.run(Body::run(r));
}

}  // namespace
}  // namespace perigee::test
