// The program's own log: what an operator should know, one line of text each on standard error.
//
// For start, stop, reload, health and admin, from any thread; never from the path of a request. A
// line is  `2026-11-23T08:31:45.123Z warning backend is down backend=worker-2 failures=3`. Control
// characters in texts are escaped, so nobody can forge a line. What may repeat without end goes
// through repeated(): one line in ten seconds for each subject, with the number of those left out.
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>

#include "perigee/base/time.h"
#include "perigee/config/config.h"

namespace perigee::telemetry {

using config::LogLevel;

// One `key=value` of a line. Borrows its texts for the length of the call.
class LogField {
 public:
  LogField(std::string_view key, std::string_view value) : key_(key), text_(value) {}
  LogField(std::string_view key, const char* value) : key_(key), text_(value) {}
  LogField(std::string_view key, const std::string& value) : key_(key), text_(value) {}
  LogField(std::string_view key, bool value) : key_(key), text_(value ? "true" : "false") {}
  template <typename Number>
    requires(std::is_arithmetic_v<Number> && !std::is_same_v<Number, bool>)
  LogField(std::string_view key, Number value) : key_(key) {
    digits_ = static_cast<std::uint8_t>(std::to_chars(number_, number_ + sizeof number_, value).ptr - number_);
  }

  [[nodiscard]] std::string_view key() const { return key_; }
  [[nodiscard]] std::string_view value() const { return digits_ > 0 ? std::string_view(number_, digits_) : text_; }

 private:
  std::string_view key_;
  std::string_view text_;
  char number_[32] = {};
  std::uint8_t digits_ = 0;
};

class Log {
 public:
  static constexpr Duration kQuiet = std::chrono::seconds(10);
  static constexpr std::size_t kSubjects = 64;
  static constexpr std::size_t kTextMax = 1024;  // of a text or value; longer ones are cut

  // `write` gets each finished line with its newline; without it lines go to standard error.
  // `clock` outlives the log.
  Log(const Clock& clock, LogLevel level, std::function<void(std::string_view)> write = {});
  ~Log();
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  void set_level(LogLevel level);
  void debug(std::string_view text, std::initializer_list<LogField> fields = {});
  void info(std::string_view text, std::initializer_list<LogField> fields = {});
  void warn(std::string_view text, std::initializer_list<LogField> fields = {});
  void error(std::string_view text, std::initializer_list<LogField> fields = {});

  // At most one line in kQuiet for each `subject` (such as "probe worker-2"); the next one that is written
  // says how many were not. kSubjects are remembered; beyond them the one that is longest quiet is forgotten.
  void repeated(LogLevel level, std::string_view subject, std::string_view text,
                std::initializer_list<LogField> fields = {});

 private:
  struct Inner;
  std::unique_ptr<Inner> inner_;
};

}  // namespace perigee::telemetry
