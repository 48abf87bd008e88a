#include "perigee/admission/class_limits.h"

#include <doctest/doctest.h>

#include <vector>

#include "perigee/base/random.h"

using namespace perigee;
using namespace perigee::admission;

TEST_CASE("the partition rule: shares .6 and .4 of ten") {
  for (std::uint32_t busy = 0; busy < 10; ++busy) CHECK(partition_admits(busy, 10, busy, 0.6));
  CHECK_FALSE(partition_admits(10, 10, 10, 0.6));
  for (std::uint32_t b = 0; b < 4; ++b) CHECK(partition_admits(10 + b, 10, b, 0.4));
  CHECK_FALSE(partition_admits(14, 10, 4, 0.4));
  CHECK_FALSE(partition_admits(14, 10, 6, 0.6));
  CHECK(partition_admits(13, 10, 5, 0.6));
  CHECK(floor_of(10, 0) == 0);
  CHECK(floor_of(3, 0.01) == 1);
  CHECK(floor_of(48, 0.1) == 5);
}

TEST_CASE("defaults are ORBIT's classes, and streams alone elsewhere") {
  const auto orbit = ClassLimitValues::defaults(WorkerKind::orbit);
  CHECK(orbit[RequestClass::chat] == 2000);
  CHECK(orbit[RequestClass::embeddings] == 1000);
  CHECK(orbit[RequestClass::search] == 1500);
  CHECK(orbit[RequestClass::admin] == kNoLimit);
  CHECK(orbit.streams == 5000);
  const auto http = ClassLimitValues::defaults(WorkerKind::http);
  CHECK(http[RequestClass::chat] == kNoLimit);
  CHECK(http.streams == 5000);
}

TEST_CASE("a chat leaves its class at the first event and then counts as a stream") {
  ClassLimitValues values;
  values.streams = 3;
  values[RequestClass::chat] = 2;
  ClassLimits limits(values);
  std::vector<LimitHold> holds(4);
  limits.start(holds[0], RequestClass::chat, true);
  limits.start(holds[1], RequestClass::chat, true);
  CHECK_FALSE(limits.may_start(RequestClass::chat, true));
  CHECK(limits.may_start(RequestClass::search, false));
  CHECK(limits.first_event(holds[0]));
  CHECK_FALSE(limits.first_event(holds[0]));
  CHECK(limits.streams() == 1);
  CHECK(limits.may_start(RequestClass::chat, true));
  limits.start(holds[2], RequestClass::chat, true);
  CHECK(limits.first_event(holds[1]));
  // One before its first event and two after it: the fourth would be one stream too many.
  CHECK_FALSE(limits.may_start(RequestClass::chat, true));
  CHECK(limits.may_start(RequestClass::chat, false));
  limits.end(holds[0]);
  limits.end(holds[0]);
  CHECK(limits.may_start(RequestClass::chat, true));
  limits.end(holds[1]);
  limits.end(holds[2]);
  CHECK(limits.streams() == 0);
  CHECK(limits.before_first_event(RequestClass::chat) == 0);
}

TEST_CASE("what does not stream counts until its end, unless its answer turns out to be a stream") {
  ClassLimitValues values;
  values[RequestClass::search] = 1;
  ClassLimits limits(values);
  LimitHold search;
  limits.start(search, RequestClass::search, false);
  CHECK_FALSE(limits.first_event(search));
  CHECK_FALSE(limits.may_start(RequestClass::search, false));
  limits.became_stream(search);
  CHECK(limits.first_event(search));
  CHECK(limits.may_start(RequestClass::search, false));
  CHECK(limits.streams() == 1);
  limits.end(search);
  CHECK(limits.streams() == 0);
}

TEST_CASE("limits change at run time and revoke nothing") {
  ClassLimitValues values;
  ClassLimits limits(values);
  LimitHold a;
  LimitHold b;
  limits.start(a, RequestClass::chat, true);
  limits.start(b, RequestClass::chat, true);
  values[RequestClass::chat] = 1;
  values.streams = 1;
  limits.set(values);
  CHECK_FALSE(limits.may_start(RequestClass::chat, false));
  limits.end(a);
  CHECK_FALSE(limits.may_start(RequestClass::chat, false));
  limits.first_event(b);
  CHECK(limits.may_start(RequestClass::chat, false));
  CHECK_FALSE(limits.may_start(RequestClass::chat, true));
  limits.end(b);
  CHECK(limits.may_start(RequestClass::chat, true));
}

TEST_CASE("after any order of events every counter is in bounds and returns to zero") {
  Rng rng(1);
  ClassLimitValues values;
  values.streams = 20;
  values.before_first_event.fill(7);
  ClassLimits limits(values);
  std::vector<LimitHold> holds(200);
  for (int step = 0; step < 100'000; ++step) {
    LimitHold& h = holds[rng.below(200)];
    const auto c = static_cast<RequestClass>(rng.below(kClassCount));
    switch (rng.below(3)) {
      case 0:
        if (const bool streamed = rng.below(2) == 0;
            h.phase == LimitHold::Phase::none && limits.may_start(c, streamed)) {
          limits.start(h, c, streamed);
        }
        break;
      case 1: limits.first_event(h); break;
      default: limits.end(h); break;
    }
    REQUIRE(limits.streams() <= 20);
    REQUIRE(limits.before_first_event(c) <= 7);
  }
  for (LimitHold& h : holds)
    limits.end(h);
  CHECK(limits.streams() == 0);
  for (std::size_t c = 0; c < kClassCount; ++c) {
    CHECK(limits.before_first_event(static_cast<RequestClass>(c)) == 0);
  }
  CHECK(limits.may_start(RequestClass::chat, true));
}
