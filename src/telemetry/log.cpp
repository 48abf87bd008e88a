// The program's own log on spdlog: levels, time and the one lock are its work, the text is ours.
// See log.h.
#include "perigee/telemetry/log.h"

#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <vector>

#include "escape.h"

namespace perigee::telemetry {
namespace {

void to_standard_error(std::string_view line) {
  while (!line.empty()) {
    const ssize_t n = ::write(STDERR_FILENO, line.data(), line.size());
    if (n <= 0) return;  // there is no place left to complain in
    line.remove_prefix(static_cast<std::size_t>(n));
  }
}

class LineSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit LineSink(std::function<void(std::string_view)> write) : write_(std::move(write)) {}

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    write_({line.data(), line.size()});
  }
  void flush_() override {}

 private:
  std::function<void(std::string_view)> write_;
};

spdlog::level::level_enum level_of(LogLevel level) {
  switch (level) {
    case LogLevel::debug: return spdlog::level::debug;
    case LogLevel::info: return spdlog::level::info;
    case LogLevel::warning: return spdlog::level::warn;
    case LogLevel::error: return spdlog::level::err;
  }
  return spdlog::level::info;
}

void put_text(std::string& line, std::string_view text) {
  const std::string_view cut = cut_text(text, Log::kTextMax);
  const std::size_t before = line.size();
  line.resize(before + kEscapeGrowth * cut.size());
  const char* const end = escape_json(cut, line.data() + before);
  line.resize(static_cast<std::size_t>(end - line.data()));
  if (cut.size() < text.size()) line += "...";
}

std::string line_of(std::string_view text, std::initializer_list<LogField> fields) {
  std::string line;
  put_text(line, text);
  for (const LogField& field : fields) {
    const std::string_view value = field.value();
    const bool quote = value.empty() || value.find_first_of(" =\"\\") != value.npos;
    line += ' ';
    line += field.key();
    line += quote ? "=\"" : "=";
    put_text(line, value);
    if (quote) line += '"';
  }
  return line;
}

struct Subject {
  std::string name;
  TimePoint written;
  std::uint64_t left_out = 0;
};

}  // namespace

struct Log::Inner {
  const Clock& clock;
  spdlog::logger logger;
  std::mutex mutex;  // of the subjects
  std::vector<Subject> subjects;

  void write(LogLevel level, std::string_view text, std::initializer_list<LogField> fields) {
    if (!logger.should_log(level_of(level))) return;
    write_line(level, line_of(text, fields));
  }
  void write_line(LogLevel level, const std::string& line) {
    const spdlog::log_clock::time_point when{std::chrono::milliseconds(clock.wall_ms())};
    logger.log(when, spdlog::source_loc{}, level_of(level), {line.data(), line.size()});
  }

  // True if a line about `subject` may be written now; `left_out` = those kept back since the last one.
  bool may_write(std::string_view subject, std::uint64_t& left_out) {
    const TimePoint now = clock.now();
    const std::lock_guard lock(mutex);
    auto found =
        std::find_if(subjects.begin(), subjects.end(), [&](const Subject& s) { return s.name == subject; });
    if (found != subjects.end() && now - found->written < kQuiet) {
      ++found->left_out;
      return false;
    }
    if (found == subjects.end() && subjects.size() < kSubjects) {
      subjects.push_back({std::string(subject), now, 0});
      return true;
    }
    if (found == subjects.end()) {
      found = std::min_element(subjects.begin(), subjects.end(),
                               [](const Subject& a, const Subject& b) { return a.written < b.written; });
      *found = {std::string(subject), now, 0};
      return true;
    }
    left_out = found->left_out;
    found->written = now;
    found->left_out = 0;
    return true;
  }
};

Log::Log(const Clock& clock, LogLevel level, std::function<void(std::string_view)> write) {
  auto sink = std::make_shared<LineSink>(write ? std::move(write) : to_standard_error);
  sink->set_formatter(std::make_unique<spdlog::pattern_formatter>("%Y-%m-%dT%H:%M:%S.%eZ %l %v",
                                                                  spdlog::pattern_time_type::utc, "\n"));
  inner_.reset(new Inner{clock, spdlog::logger("perigee", std::move(sink)), {}, {}});
  set_level(level);
}

Log::~Log() = default;

void Log::set_level(LogLevel level) {
  inner_->logger.set_level(level_of(level));
}

void Log::debug(std::string_view text, std::initializer_list<LogField> fields) {
  inner_->write(LogLevel::debug, text, fields);
}
void Log::info(std::string_view text, std::initializer_list<LogField> fields) {
  inner_->write(LogLevel::info, text, fields);
}
void Log::warn(std::string_view text, std::initializer_list<LogField> fields) {
  inner_->write(LogLevel::warning, text, fields);
}
void Log::error(std::string_view text, std::initializer_list<LogField> fields) {
  inner_->write(LogLevel::error, text, fields);
}

void Log::repeated(LogLevel level, std::string_view subject, std::string_view text,
                   std::initializer_list<LogField> fields) {
  if (!inner_->logger.should_log(level_of(level))) return;
  std::uint64_t left_out = 0;
  if (!inner_->may_write(subject, left_out)) return;
  std::string line = line_of(text, fields);
  if (left_out > 0) line += " repeated=" + std::to_string(left_out);
  inner_->write_line(level, line);
}

}  // namespace perigee::telemetry
