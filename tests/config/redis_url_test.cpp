#include "perigee/config/redis_url.h"

#include <doctest/doctest.h>

using namespace perigee::config;

TEST_CASE("Redis URLs that are none") {
  for (const char* text : {"", "redis://", "http://h:1", "redis://h:port", "redis://:@h", "redis://bob@h", "redis://h/x", "redis://h/-1",
                           "redis://h:6379/0?x=1", "redis://h#a", "redis://:%zz@h", "rediss://unix:/run/r.sock", "redis://*:1"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_redis_url(text));
  }
}

TEST_CASE("Redis URLs taken apart") {
  const auto plain = parse_redis_url("redis://127.0.0.1");
  REQUIRE(plain);
  CHECK(plain->address.text() == "127.0.0.1:6379");
  CHECK(plain->password.empty());
  CHECK(plain->database == 0);
  CHECK_FALSE(plain->tls);
  const auto full = parse_redis_url("rediss://bob:p%40ss:w@[::1]:7000/3");
  REQUIRE(full);
  CHECK(full->user == "bob");
  CHECK(full->password == "p@ss:w");
  CHECK(full->address.text() == "[::1]:7000");
  CHECK(full->database == 3);
  CHECK(full->tls);
  const auto anybody = parse_redis_url("redis://:secret@h:1/");
  REQUIRE(anybody);
  CHECK(anybody->user.empty());
  CHECK(anybody->password == "secret");
  const auto socket = parse_redis_url("redis://unix:/run/redis.sock");
  REQUIRE(socket);
  CHECK(socket->address.path == "/run/redis.sock");
}
