// The access log: one line of JSON for each request, made by us and written by somebody else's thread.
//
// A loop formats into a buffer of its own (AccessLogBuffer) and hands over blocks of 32 KiB, or what there
// is after a second, to the LogSink, whose thread writes them. A logger's own call per line would cost as
// much as the rest of the request. What may be said is fixed by AccessRecord: header values, queries and
// bodies have no place in it, so keys and prompts cannot leak.
//
// A line: {"time","id","worker_id","trace_id","client","method","path","class","priority","backend","reason","attempts",
// "status","bytes_in","bytes_out","read_ms","queue_ms","connect_ms","head_ms","first_event_ms","total_ms",
// "stream","client_gone","detached"}. What does not apply is left out.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "perigee/base/result.h"
#include "perigee/base/time.h"
#include "perigee/base/vocabulary.h"
#include "perigee/telemetry/reason.h"

namespace perigee::telemetry {

inline constexpr Duration kNotReached = Duration(-1);

// All text is borrowed for the length of the call that formats it.
struct AccessRecord {
  std::int64_t wall_ms = 0;  // when the request began, since 1970
  std::string_view request_id;
  std::string_view worker_request_id;  // what the worker sent in x-request-id; empty: nothing
  const std::array<std::uint8_t, 16>* trace_id = nullptr;  // W3C; null or all zero: none
  std::string_view client;  // its address, or `unix`; as a trusted peer tells it
  std::string_view method;
  std::string_view path;  // a query or fragment, if any, is cut off
  RequestClass request_class = RequestClass::other;
  Priority priority = Priority::normal;
  Reason reason = Reason::served;
  StreamVerdict stream = StreamVerdict::none;
  std::string_view backend;  // of the last attempt; empty: none was made
  unsigned attempts = 0;
  int status = 0;  // sent to the client; 0: none
  bool client_gone = false;
  bool detached = false;
  std::uint64_t bytes_in = 0;   // from the client, head and body
  std::uint64_t bytes_out = 0;  // to the client, head and body
  // Lengths of the stages; a stage that was not reached is left out.
  Duration read = kNotReached;         // first byte -> enough of the request to go on
  Duration queue = kNotReached;        // ticket asked for -> ticket
  Duration connect = kNotReached;      // ticket -> connection in hand
  Duration head = kNotReached;         // request sent -> head of the answer
  Duration first_event = kNotReached;  // ticket -> first event
  Duration total = kNotReached;        // first byte -> last byte
};

// Longer texts are cut there; a cut path is marked by "path_cut":true.
inline constexpr std::size_t kLoggedPathMax = 512;
inline constexpr std::size_t kLoggedIdMax = 128;
inline constexpr std::size_t kLoggedNameMax = 64;
// No line is longer than this, its newline included.
inline constexpr std::size_t kLineMax = 8 * 1024;

// Makes lines. Keeps the text of the running second; no other state.
class AccessLineFormatter {
 public:
  // Writes one line with its newline to `out`, which has room for kLineMax bytes; returns its length.
  std::size_t format(const AccessRecord& record, char* out);

 private:
  std::int64_t second_ = -1;
  char second_text_[20] = {};  // 2026-11-23T08:31:45.
};

// Takes finished blocks of whole lines. Any thread.
class BlockSink {
 public:
  virtual ~BlockSink() = default;
  // Copies `block`; never waits for the disk or the reader.
  virtual void write_block(std::string_view block, std::uint32_t lines) = 0;
};

// One loop's lines. Belongs to its loop's thread. What is left when it is destroyed is handed over.
class AccessLogBuffer {
 public:
  static constexpr std::size_t kBlock = 32 * 1024;
  static constexpr Duration kPatience = std::chrono::seconds(1);

  // Hands over when `block` bytes are there or the oldest line has waited for `patience`. `sink` outlives
  // the buffer.
  explicit AccessLogBuffer(BlockSink& sink, std::size_t block = kBlock, Duration patience = kPatience);
  ~AccessLogBuffer();
  AccessLogBuffer(const AccessLogBuffer&) = delete;
  AccessLogBuffer& operator=(const AccessLogBuffer&) = delete;

  void append(const AccessRecord& record, TimePoint now);
  // For the loop's timer: hands over what has waited for a second. Cheap when there is nothing.
  void flush_if_due(TimePoint now);
  void flush();

  [[nodiscard]] std::size_t buffered_bytes() const { return used_; }

 private:
  BlockSink& sink_;
  std::size_t block_;
  Duration patience_;
  AccessLineFormatter formatter_;
  std::unique_ptr<char[]> bytes_;  // block_ + kLineMax
  std::size_t used_ = 0;
  std::uint32_t lines_ = 0;
  TimePoint oldest_{};
};

// Writes blocks to standard output, standard error or a file from a thread of its own. At most `queue_blocks` wait; when
// more come the oldest is dropped and counted: a slow disk never slows a request.
class LogSink final : public BlockSink {
 public:
  struct Options {
    bool enabled = true;                // false: blocks are accepted and forgotten, nothing is counted
    std::string destination = "stdout"; // `stdout`, `stderr`, or a file's path: appended to, made with mode 0640
    std::size_t queue_blocks = 64;      // 2 MiB of the usual blocks
    Duration last_words = std::chrono::seconds(1);  // how long the end waits for a reader that does not read
  };

  // Fails (io, errno in `code`) if the file cannot be opened.
  static Result<std::unique_ptr<LogSink>> open(const Options& options);
  // Writes what waits, within `last_words`, and ends the thread.
  ~LogSink() override;

  void write_block(std::string_view block, std::uint32_t lines) override;
  // Opens the file anew before the next block (after a rotation). If that fails the old one stays in use.
  void reopen();

  struct Counters {
    std::uint64_t lines_accepted = 0;
    std::uint64_t lines_written = 0;
    std::uint64_t lines_dropped = 0;  // overrun: the queue was full
    std::uint64_t lines_failed = 0;   // the write failed, or the end came first
    std::uint64_t reopen_failures = 0;
  };
  // Any thread. accepted = written + dropped + failed + still waiting.
  [[nodiscard]] Counters counters() const;

 private:
  struct Inner;
  explicit LogSink(std::unique_ptr<Inner> inner);
  std::unique_ptr<Inner> inner_;
};

}  // namespace perigee::telemetry
