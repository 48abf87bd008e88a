// The writing thread: files, rotation, a reader that does not read, disks that fail; every line accounted for.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

#include "perigee/telemetry/access_log.h"

using namespace perigee;
using namespace perigee::telemetry;
using std::chrono::milliseconds;

namespace {

struct Folder {
  std::filesystem::path path;
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "perigee-log-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string file(const char* name) const { return (path / name).string(); }
};

std::string content(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream all;
  all << in.rdbuf();
  return all.str();
}

std::unique_ptr<LogSink> open_sink(const std::string& destination, std::size_t blocks = 64,
                                   Duration last_words = milliseconds(100)) {
  LogSink::Options options;
  options.destination = destination;
  options.queue_blocks = blocks;
  options.last_words = last_words;
  auto sink = LogSink::open(options);
  REQUIRE(sink.has_value());
  return std::move(*sink);
}

template <typename Condition>
bool soon(Condition condition) {
  for (int i = 0; i < 2000; ++i) {
    if (condition()) return true;
    ::usleep(1000);
  }
  return false;
}

std::uint64_t settled(const LogSink::Counters& c) {
  return c.lines_written + c.lines_dropped + c.lines_failed;
}

}  // namespace

TEST_CASE("a file that cannot be opened is an error with its errno") {
  LogSink::Options options;
  options.destination = "/no/such/folder/access.log";
  const auto sink = LogSink::open(options);
  REQUIRE_FALSE(sink.has_value());
  CHECK(sink.error().kind == ErrorKind::io);
  CHECK(sink.error().code == ENOENT);
}

TEST_CASE("a log that is off takes everything and keeps nothing") {
  LogSink::Options options;
  options.enabled = false;
  options.destination = "/no/such/folder/access.log";
  const auto sink = LogSink::open(options);
  REQUIRE(sink.has_value());
  (*sink)->write_block("a\n", 1);
  (*sink)->reopen();
  CHECK((*sink)->counters().lines_accepted == 0);
}

TEST_CASE("blocks reach the file in order, appended, whole at the end") {
  Folder folder;
  const std::string path = folder.file("access.log");
  std::string expected;
  for (int run = 0; run < 2; ++run) {
    const auto sink = open_sink(path);
    for (int i = 0; i < 40; ++i) {
      const std::string block =
          std::to_string(run) + " " + std::to_string(i) + std::string(1000, 'x') + "\nsecond\n";
      sink->write_block(block, 2);
      expected += block;
    }
  }
  CHECK(content(path) == expected);
  struct stat about{};
  REQUIRE(::stat(path.c_str(), &about) == 0);
  CHECK((about.st_mode & 07) == 0);  // others may not read who asked for what
}

TEST_CASE("after a rotation reopen() goes on in a new file; if that cannot be made, in the old one") {
  Folder folder;
  const std::string path = folder.file("access.log");
  const auto sink = open_sink(path);
  sink->write_block("one\n", 1);
  REQUIRE(soon([&] { return sink->counters().lines_written == 1; }));
  std::filesystem::rename(path, folder.file("access.log.1"));
  sink->reopen();
  sink->write_block("two\n", 1);
  REQUIRE(soon([&] { return sink->counters().lines_written == 2; }));
  CHECK(content(path) == "two\n");
  CHECK(content(folder.file("access.log.1")) == "one\n");

  std::filesystem::rename(path, folder.file("access.log.2"));
  std::filesystem::create_directory(path);
  sink->reopen();
  sink->write_block("three\n", 1);
  REQUIRE(soon([&] { return sink->counters().lines_written == 3; }));
  CHECK(sink->counters().reopen_failures == 1);
  CHECK(content(folder.file("access.log.2")) == "two\nthree\n");
}

TEST_CASE("a reader that does not read: the oldest is dropped and counted, nobody waits, the end comes") {
  Folder folder;
  const std::string path = folder.file("pipe");
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  const int reader = ::open(path.c_str(), O_RDONLY | O_NONBLOCK);
  REQUIRE(reader >= 0);
  std::uint64_t accepted = 0;
  LogSink::Counters seen;
  {
    const auto sink = open_sink(path, 4);
    const std::string block = std::string(32 * 1024 - 1, 'x') + "\n";
    for (int i = 0; i < 50; ++i) {
      sink->write_block(block, 1);
      ++accepted;
    }
    // The pipe holds 64 KiB. When it is read again, the gap between blocks shows what was dropped.
    char buffer[65536];
    std::uint64_t got = 0;
    REQUIRE(soon([&] {
      const ssize_t n = ::read(reader, buffer, sizeof buffer);
      if (n > 0) got += static_cast<std::uint64_t>(std::count(buffer, buffer + n, '\n'));
      return settled(sink->counters()) == accepted;
    }));
    seen = sink->counters();
    CHECK(seen.lines_accepted == accepted);
    CHECK(seen.lines_dropped > 30);
    CHECK(seen.lines_written >= 4);  // the four newest, and what was being written
    CHECK(seen.lines_failed == 0);
    CHECK(seen.lines_written + seen.lines_dropped == accepted);
    for (int i = 0; i < 50; ++i)
      sink->write_block(block, 1);  // and nobody ever reads again
  }
  ::close(reader);
}

TEST_CASE("a write that fails loses its lines, counted, and the next good block begins a line of its own") {
  ::signal(SIGPIPE, SIG_IGN);
  Folder folder;
  const std::string path = folder.file("pipe");
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  int reader = ::open(path.c_str(), O_RDONLY | O_NONBLOCK);
  const auto sink = open_sink(path);
  ::close(reader);
  sink->write_block("a\nb\n", 2);
  REQUIRE(soon([&] { return sink->counters().lines_failed == 2; }));
  reader = ::open(path.c_str(), O_RDONLY | O_NONBLOCK);
  sink->write_block("c\n", 1);
  REQUIRE(soon([&] { return sink->counters().lines_written == 1; }));
  char buffer[16] = {};
  CHECK(::read(reader, buffer, sizeof buffer) == 2);
  CHECK(std::string(buffer) == "c\n");
  ::close(reader);
  CHECK(settled(sink->counters()) == 3);
}

TEST_CASE("loops that write at the same time lose nothing and mix no lines") {
  Folder folder;
  const std::string path = folder.file("access.log");
  {
    const auto sink = open_sink(path, 4096);
    const auto write = [&](char who) {
      for (int i = 0; i < 500; ++i)
        sink->write_block(std::string(100, who) + "\n", 1);
    };
    std::thread a(write, 'a');
    std::thread b(write, 'b');
    a.join();
    b.join();
  }
  std::ifstream in(path);
  int lines = 0;
  for (std::string line; std::getline(in, line); ++lines) {
    REQUIRE(line.size() == 100);
    REQUIRE(std::all_of(line.begin(), line.end(), [&](char c) { return c == line[0]; }));
  }
  CHECK(lines == 1000);
}
