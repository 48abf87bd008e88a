// What POSTs to the admin port may ask for, wrong ones first.
#include "changes.h"

#include <doctest/doctest.h>

#include <string>

#include "perigee/admin/events.h"

namespace perigee::admin::test {

namespace {

constexpr std::string_view kJson = "application/json; charset=utf-8";

int refused(std::string_view path, std::string_view body = {}, std::string_view type = kJson) {
  const auto change = read_change(path, type, body);
  return change ? 0 : change.error().status;
}
Change taken(std::string_view path, std::string_view body = {}) {
  const auto change = read_change(path, kJson, body);
  REQUIRE_MESSAGE(change.has_value(), std::string(path) << " " << std::string(body));
  return *change;
}

}  // namespace

TEST_CASE("what is no change is not found") {
  for (const char* path : {"/", "/api/v1/", "/api/v1/status", "/api/v1/backends", "/api/v1/backends/", "/api/v1/backends//drain",
                           "/api/v1/backends/w1", "/api/v1/backends/w1/", "/api/v1/backends/w1/restart", "/api/v1/backends/w1/drain/",
                           "/api/v1/Reload", "/api/v1/reload/", "/api/v2/reload", "api/v1/reload"}) {
    CAPTURE(path);
    CHECK_FALSE(is_change(path));
    CHECK(refused(path) == 404);
  }
}

TEST_CASE("wrong bodies") {
  CHECK(refused("/api/v1/pause", "{") == 400);
  CHECK(refused("/api/v1/pause", "[]") == 400);
  CHECK(refused("/api/v1/pause", "null") == 400);
  CHECK(refused("/api/v1/pause", R"({"pool": 1})") == 400);
  CHECK(refused("/api/v1/pause", R"({"pool": ""})") == 400);
  CHECK(refused("/api/v1/pause", R"({"pol": "default"})") == 400);
  CHECK(refused("/api/v1/reload", R"({"pool": "default"})") == 400);
  CHECK(refused("/api/v1/pause", R"({"pool": "default"})", "text/plain") == 415);
  CHECK(refused("/api/v1/pause", "pool=default", "application/x-www-form-urlencoded") == 415);
  CHECK(refused("/api/v1/backends/w1/drain", R"({"slots": 1})") == 400);
  for (const char* body : {"", "{}", R"({"slots": 0})", R"({"slots": -1})", R"({"slots": 1.5})", R"({"slots": "8"})",
                           R"({"slots": 1000001})", R"({"slots": 8, "x": 1})"}) {
    CAPTURE(body);
    CHECK(refused("/api/v1/backends/w1/limit", body) == 400);
  }
  CHECK(refused("/api/v1/backends/w1/eject", R"({"seconds": 0})") == 400);
  CHECK(refused("/api/v1/backends/w1/eject", R"({"seconds": 86401})") == 400);
  CHECK(refused("/api/v1/backends/w%1/drain") == 400);
  CHECK(refused("/api/v1/backends/w%zz/drain") == 400);
}

TEST_CASE("what they say") {
  CHECK(taken("/api/v1/reload").action == Action::reload);
  CHECK(taken("/api/v1/drain", "{}").action == Action::drain);
  CHECK(taken("/api/v1/pause").name.empty());
  CHECK(taken("/api/v1/resume", R"({"pool": "fast"})").name == "fast");
  const Change drain = taken("/api/v1/backends/%5B::1%5D:3001/drain");
  CHECK(drain.action == Action::drain_backend);
  CHECK(drain.name == "[::1]:3001");
  CHECK(taken("/api/v1/backends/w1/limit", R"({"slots": 8})").slots == 8);
  CHECK_FALSE(taken("/api/v1/backends/w1/limit", R"({"slots": null})").slots);
  CHECK_FALSE(taken("/api/v1/backends/w1/eject").time);
  CHECK(taken("/api/v1/backends/w1/eject", R"({"seconds": 30})").time == std::chrono::seconds(30));
  CHECK(taken("/api/v1/backends/w1/enable").action == Action::enable_backend);
}

TEST_CASE("events are bounded, in number and in length") {
  Events events;
  const std::string text(10'000, 'x');
  for (int i = 0; i < 1000; ++i) events.add(i, "operator", {{"action", "pause"}, {"result", text}});
  REQUIRE(events.all().size() == Events::kMost);
  CHECK(events.all().back().number == 1000);
  CHECK(events.all().front().number == 1000 - Events::kMost + 1);
  CHECK(events.all().back().fields[1].second.size() == Events::kTextMax);
}

}  // namespace perigee::admin::test
