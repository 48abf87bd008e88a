// Numbers with units.
#include "units.h"

#include <doctest/doctest.h>

namespace perigee::config {

using namespace std::chrono_literals;

TEST_CASE("durations that are none") {
  for (const char* text : {"", "s", "-1", "-1s", "1x", "1 ", "1s ", " 1", "1.2.3", "1e3", "0x10", "nan",
                           "inf", "1 s s", "11000d", "99999999999999999999", "1ss"}) {
    CAPTURE(text);
    CHECK_FALSE(read_duration(text));
  }
}

TEST_CASE("durations") {
  CHECK(read_duration("2") == 2s);
  CHECK(read_duration("0.1") == 100ms);
  CHECK(read_duration("250ms") == 250ms);
  CHECK(read_duration("2 s") == 2s);
  CHECK(read_duration("5m") == 5min);
  CHECK(read_duration("1.5h") == 90min);
  CHECK(read_duration("1d") == 24h);
  CHECK(read_duration("7us") == 7us);
  for (const Duration d : {Duration(0s), Duration(1ns), Duration(1500us), Duration(90s), Duration(24h)}) {
    CHECK(read_duration(write_duration(d)) == d);
  }
}

TEST_CASE("sizes") {
  for (const char* text : {"", "-1", "1.5", "KiB", "1 TiB", "1kib", "1e3", "9999999GiB", "1 "}) {
    CAPTURE(text);
    CHECK_FALSE(read_bytes(text));
  }
  CHECK(read_bytes("0") == 0);
  CHECK(read_bytes("64KiB") == 65536);
  CHECK(read_bytes("1MB") == 1'000'000);
  CHECK(read_bytes("1.5 MiB") == 1'572'864);
  for (const std::uint64_t n : {0ULL, 1ULL, 1000ULL, 1024ULL, 8388608ULL, 8388609ULL, 3ULL << 30}) {
    CHECK(read_bytes(write_bytes(n)) == n);
  }
}

TEST_CASE("shares and numbers") {
  CHECK(read_share("10%") == doctest::Approx(0.1));
  CHECK(read_share("0.25") == 0.25);
  for (const char* text : {"", "%", "1%%", "x"})
    CHECK_FALSE(read_share(text));
  for (const char* text : {"nan", "inf", "0x1", "1_000", "1,5", "+1"})
    CHECK_FALSE(read_number(text));
  CHECK_FALSE(read_integer("9223372036854775808"));
  CHECK(read_number(write_number(0.1)) == 0.1);
}

}  // namespace perigee::config
