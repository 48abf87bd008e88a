// The thread that writes the access log: spdlog's asynchronous logger with its bounded queue, and a sink
// of ours that writes blocks as they are.
//
// A reader that does not read (a pipe nobody empties) must stall neither a request nor the end of the
// program. So the queue drops its oldest block when it is full, and the writer asks poll() before each
// write that could block, and gives up shortly after the end was asked for.
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <spdlog/async_logger.h>
#include <spdlog/details/thread_pool.h>
#include <spdlog/sinks/base_sink.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <mutex>

#include "perigee/telemetry/access_log.h"

namespace perigee::telemetry {
namespace {

constexpr int kSliceMs = 50;

int open_for_append(const std::string& path) {
  return ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
}

struct Tally {
  std::atomic<std::uint64_t> accepted{0};
  std::atomic<std::uint64_t> written{0};
  std::atomic<std::uint64_t> dropped{0};
  std::atomic<std::uint64_t> failed{0};
  std::atomic<std::uint64_t> reopen_failures{0};
};

// Runs on spdlog's thread, but for its atomics.
class BlockWriter final : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
 public:
  BlockWriter(int fd, std::string path, int last_slices)
      : fd_(fd), path_(std::move(path)), last_slices_(last_slices) {
    look_at_file();
  }
  ~BlockWriter() override {
    if (!path_.empty()) ::close(fd_);
  }
  BlockWriter(const BlockWriter&) = delete;
  BlockWriter& operator=(const BlockWriter&) = delete;

  std::atomic<bool> closing{false};
  std::atomic<bool> reopen{false};
  Tally tally;

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    const std::string_view block(message.payload.data(), message.payload.size());
    count_dropped(message, block);
    if (reopen.exchange(false)) reopen_file();
    if (torn_)
      torn_ = write_all("\n") != 1;  // a write failed within a line: end it, so that this one can be read
    const std::size_t done = write_all(block);
    torn_ = torn_ || (done > 0 && done < block.size() && block[done - 1] != '\n');
    const std::uint64_t lines = count_lines(block);
    const std::uint64_t whole = count_lines(block.substr(0, done));
    tally.written += whole;
    tally.failed += lines - whole;
  }
  void flush_() override {}

 private:
  static std::uint64_t count_lines(std::string_view text) {
    return static_cast<std::uint64_t>(std::count(text.begin(), text.end(), '\n'));
  }

  // The number of lines accepted before a block travels in the message's time, which nobody prints here:
  // a gap between blocks is what the full queue dropped.
  void count_dropped(const spdlog::details::log_msg& message, std::string_view block) {
    const auto before = static_cast<std::uint64_t>(message.time.time_since_epoch().count());
    tally.dropped += before - expected_;
    expected_ = before + count_lines(block);
  }

  void look_at_file() {
    struct stat about{};
    regular_ = ::fstat(fd_, &about) == 0 && S_ISREG(about.st_mode);
  }

  void reopen_file() {
    if (path_.empty()) return;
    const int fresh = open_for_append(path_);
    if (fresh < 0) {
      ++tally.reopen_failures;
      return;
    }
    ::close(fd_);
    fd_ = fresh;
    torn_ = false;
    look_at_file();
  }

  // How much was written; less than all after an error or when the end came first.
  std::size_t write_all(std::string_view bytes) {
    std::size_t done = 0;
    while (done < bytes.size()) {
      if (!regular_ && !wait_for_reader()) return done;
      // A pipe that polls writable takes PIPE_BUF bytes without blocking.
      const std::size_t piece =
          regular_ ? bytes.size() - done : std::min<std::size_t>(bytes.size() - done, PIPE_BUF);
      const ssize_t n = ::write(fd_, bytes.data() + done, piece);
      if (n > 0)
        done += static_cast<std::size_t>(n);
      else if (n < 0 && errno != EINTR && errno != EAGAIN)
        return done;
    }
    return done;
  }

  bool wait_for_reader() {
    for (;;) {
      pollfd ask{fd_, POLLOUT, 0};
      const int ready = ::poll(&ask, 1, last_slices_ > 0 ? kSliceMs : 0);
      if (ready > 0) return true;
      if (ready < 0 && errno != EINTR) return false;
      if (ready == 0 && closing.load() && --last_slices_ <= 0) return false;
    }
  }

  int fd_;
  std::string path_;  // empty: a standard stream, neither closed nor reopened
  int last_slices_;   // how often the end still waits for a reader
  bool regular_ = false;
  bool torn_ = false;
  std::uint64_t expected_ = 0;
};

}  // namespace

struct LogSink::Inner {
  std::mutex order;  // blocks enter the queue in the order of their numbers
  std::shared_ptr<BlockWriter> writer;
  std::shared_ptr<spdlog::details::thread_pool> thread;
  std::shared_ptr<spdlog::async_logger> logger;
};

Result<std::unique_ptr<LogSink>> LogSink::open(const Options& options) {
  auto inner = std::make_unique<Inner>();
  if (options.enabled) {
    const bool standard = options.destination == "stdout" || options.destination == "stderr";
    const int stream = options.destination == "stderr" ? STDERR_FILENO : STDOUT_FILENO;
    const int fd = standard ? stream : open_for_append(options.destination);
    if (fd < 0) return fail(ErrorKind::io, "access log cannot be opened", Side::internal, errno);
    const auto slices = static_cast<int>(options.last_words / std::chrono::milliseconds(kSliceMs)) + 1;
    inner->writer = std::make_shared<BlockWriter>(fd, standard ? std::string() : options.destination, slices);
    inner->thread =
        std::make_shared<spdlog::details::thread_pool>(std::max<std::size_t>(options.queue_blocks, 1), 1);
    inner->logger = std::make_shared<spdlog::async_logger>("access", inner->writer, inner->thread,
                                                           spdlog::async_overflow_policy::overrun_oldest);
  }
  return std::unique_ptr<LogSink>(new LogSink(std::move(inner)));
}

LogSink::LogSink(std::unique_ptr<Inner> inner) : inner_(std::move(inner)) {}

LogSink::~LogSink() {
  if (inner_->writer) inner_->writer->closing = true;
  inner_->logger.reset();
  inner_->thread.reset();  // writes what waits and joins
}

void LogSink::write_block(std::string_view block, std::uint32_t lines) {
  if (!inner_->logger) return;
  const std::lock_guard lock(inner_->order);
  const std::uint64_t before = inner_->writer->tally.accepted.fetch_add(lines);
  const spdlog::log_clock::time_point number{spdlog::log_clock::duration(static_cast<std::int64_t>(before))};
  inner_->logger->log(number, spdlog::source_loc{}, spdlog::level::info, {block.data(), block.size()});
}

void LogSink::reopen() {
  if (inner_->writer) inner_->writer->reopen = true;
}

LogSink::Counters LogSink::counters() const {
  Counters c;
  if (!inner_->writer) return c;
  const Tally& tally = inner_->writer->tally;
  c.lines_written = tally.written;
  c.lines_dropped = tally.dropped;
  c.lines_failed = tally.failed;
  c.reopen_failures = tally.reopen_failures;
  c.lines_accepted = tally.accepted;
  return c;
}

}  // namespace perigee::telemetry
