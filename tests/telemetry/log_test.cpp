// The program's own log: one line whatever the text, levels, and repeated warnings that stay few.
#include "perigee/telemetry/log.h"

#include <doctest/doctest.h>

#include <vector>

using namespace perigee;
using namespace perigee::telemetry;
using std::chrono::seconds;

namespace {

struct Fixture {
  ManualClock clock;
  std::vector<std::string> lines;
  Log log{clock, LogLevel::info, [this](std::string_view line) { lines.emplace_back(line); }};
};

}  // namespace

TEST_CASE("a line has time, level, text and fields") {
  Fixture f;
  f.log.warn("backend is down", {{"backend", "worker-2"}, {"failures", 3}, {"ratio", .5}, {"refused", true}});
  REQUIRE(f.lines.size() == 1);
  CHECK(f.lines[0] ==
        "2023-11-14T22:30:00.000Z warning backend is down backend=worker-2 failures=3 ratio=0.5 "
        "refused=true\n");
}

TEST_CASE("nobody can forge a line or an escape sequence") {
  Fixture f;
  const std::string evil = "x\n2023-11-14T22:30:00.000Z error all is lost\x1b[2J";
  f.log.error(evil, {{"path", evil}, {"empty", ""}, {"pair", "a=b"}, {"format", "{} %s %v"}});
  REQUIRE(f.lines.size() == 1);
  CHECK(std::count(f.lines[0].begin(), f.lines[0].end(), '\n') == 1);
  CHECK(f.lines[0].find('\x1b') == std::string::npos);
  CHECK(f.lines[0].find("empty=\"\" pair=\"a=b\" format=\"{} %s %v\"\n") != std::string::npos);
}

TEST_CASE("a long text is cut") {
  Fixture f;
  f.log.info(std::string(100'000, 'x'));
  REQUIRE(f.lines.size() == 1);
  CHECK(f.lines[0].size() < Log::kTextMax + 60);
}

TEST_CASE("levels") {
  Fixture f;
  f.log.debug("no");
  CHECK(f.lines.empty());
  f.log.set_level(LogLevel::debug);
  f.log.debug("yes");
  CHECK(f.lines.size() == 1);
  f.log.set_level(LogLevel::error);
  f.log.warn("no");
  f.log.repeated(LogLevel::warning, "s", "no");
  CHECK(f.lines.size() == 1);
}

TEST_CASE("a repeated warning is written once in ten seconds, with the number of those left out") {
  Fixture f;
  for (int i = 0; i < 100; ++i)
    f.log.repeated(LogLevel::warning, "probe w1", "no answer");
  f.log.repeated(LogLevel::warning, "probe w2", "no answer");
  CHECK(f.lines.size() == 2);
  f.clock.advance(seconds(9));
  f.log.repeated(LogLevel::warning, "probe w1", "no answer");
  CHECK(f.lines.size() == 2);
  f.clock.advance(seconds(1));
  f.log.repeated(LogLevel::warning, "probe w1", "no answer", {{"for", "10s"}});
  REQUIRE(f.lines.size() == 3);
  CHECK(f.lines[2].find("no answer for=10s repeated=100\n") != std::string::npos);
}

TEST_CASE("the table of subjects is bounded") {
  Fixture f;
  for (int i = 0; i < 1000; ++i) {
    f.log.repeated(LogLevel::warning, "subject " + std::to_string(i), "x");
    f.clock.advance(std::chrono::milliseconds(1));
  }
  CHECK(f.lines.size() == 1000);
  // The newest 64 are remembered, the older ones forgotten.
  f.log.repeated(LogLevel::warning, "subject 999", "x");
  f.log.repeated(LogLevel::warning, "subject 936", "x");
  CHECK(f.lines.size() == 1000);
  f.log.repeated(LogLevel::warning, "subject 0", "x");
  CHECK(f.lines.size() == 1001);
}
