// Days to calendar by Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms" (civil_from_days).
#include "perigee/http/date.h"

#include <cstring>

namespace perigee::http {
namespace {

void two_digits(char* to, std::int64_t value) {
  to[0] = static_cast<char>('0' + value / 10);
  to[1] = static_cast<char>('0' + value % 10);
}

}  // namespace

void format_http_date(std::int64_t wall_ms, std::span<char, kHttpDateBytes> out) {
  const std::int64_t seconds = wall_ms / 1000;
  const std::int64_t days = seconds / 86400;
  const std::int64_t of_day = seconds % 86400;

  const std::int64_t shifted = days + 719468;  // days since 0000-03-01
  const std::int64_t era = shifted / 146097;
  const std::int64_t of_era = shifted % 146097;
  const std::int64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
  const std::int64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const std::int64_t month_from_march = (5 * of_year + 2) / 153;
  const std::int64_t day = of_year - (153 * month_from_march + 2) / 5 + 1;
  const std::int64_t month =
      month_from_march < 10 ? month_from_march + 2 : month_from_march - 10;  // 0 = January
  const std::int64_t year = year_of_era + era * 400 + (month < 2 ? 1 : 0);

  char* to = out.data();
  std::memcpy(to, "Thu, 00 Jan 0000 00:00:00 GMT", kHttpDateBytes);
  std::memcpy(to, &"ThuFriSatSunMonTueWed"[3 * (days % 7)], 3);  // day 0 was a Thursday
  two_digits(to + 5, day);
  std::memcpy(to + 8, &"JanFebMarAprMayJunJulAugSepOctNovDec"[3 * month], 3);
  two_digits(to + 12, year / 100);
  two_digits(to + 14, year % 100);
  two_digits(to + 17, of_day / 3600);
  two_digits(to + 20, of_day / 60 % 60);
  two_digits(to + 23, of_day % 60);
}

}  // namespace perigee::http
