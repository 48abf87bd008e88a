#include "guard.h"

#include <doctest/doctest.h>

using perigee::admin::bearer_matches;
using perigee::admin::host_is_local;

TEST_CASE("addresses and localhost are ours, names that a browser could be lured by are not") {
  for (const char* ours : {"127.0.0.1", "127.0.0.1:9300", "10.1.2.3:9300", "[::1]:9300", "[::1]", "localhost",
                           "localhost:9300", "perigee.localhost:9300"}) {
    CAPTURE(ours);
    CHECK(host_is_local(ours));
  }
  for (const char* foreign : {"", "evil.example", "evil.example:9300", "localhost.evil.example", "127.0.0.1.evil.example",
                              "[evil]:9300", "[::1", "notlocalhost", "127.0.0.1x:9300"}) {
    CAPTURE(foreign);
    CHECK_FALSE(host_is_local(foreign));
  }
}

TEST_CASE("a bearer token matches whole or not at all") {
  CHECK(bearer_matches("Bearer s3cret", "s3cret"));
  for (const char* wrong : {"", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3crets", "Bearer S3CRET", "bearer s3cret",
                            "Basic s3cret", "s3cret", "Bearer  s3cret", "Bearer s3crets3cret"}) {
    CAPTURE(wrong);
    CHECK_FALSE(bearer_matches(wrong, "s3cret"));
  }
  CHECK_FALSE(bearer_matches("Bearer ", ""));
}

TEST_CASE("a change that another site's page sends is told by its origin") {
  using perigee::admin::origin_is_ours;
  CHECK_FALSE(origin_is_ours("https://evil.example", "127.0.0.1:9300"));
  CHECK_FALSE(origin_is_ours("null", "127.0.0.1:9300"));
  CHECK_FALSE(origin_is_ours("http://127.0.0.1:9301", "127.0.0.1:9300"));
  CHECK_FALSE(origin_is_ours("http://127.0.0.1:9300.evil.example", "127.0.0.1:9300"));
  CHECK(origin_is_ours("", "127.0.0.1:9300"));
  CHECK(origin_is_ours("http://127.0.0.1:9300", "127.0.0.1:9300"));
}
