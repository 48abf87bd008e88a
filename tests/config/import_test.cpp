// Files that cannot be read, on the real file system.
#include "import.h"

#include <algorithm>

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files.h"

namespace perigee::config {
namespace {

const Environment kNone;

std::string first_error(const std::string& path) {
  const LoadResult result = load(path, kNone);
  return result ? "read" : to_string(result.error().front());
}

}  // namespace

TEST_CASE("a file that is not there, a directory, a pipe") {
  const test::TempDirectory d;
  CHECK(first_error(d.path() + "/none.yaml") ==
        d.path() + "/none.yaml: cannot be opened: No such file or directory");
  CHECK(first_error(d.path()) == d.path() + ": is not a plain file");
  const std::string pipe = d.path() + "/pipe.yaml";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(first_error(pipe) == pipe + ": is not a plain file");  // and does not wait for a writer
}

TEST_CASE("a file without the right to read it") {
  const test::TempDirectory d;
  const std::string path = d.write("main.yaml", "listen: 3000\n");
  REQUIRE(chmod(path.c_str(), 0000) == 0);
  if (geteuid() == 0) {
    CHECK(first_error(path) == "read");  // nothing is unreadable to root
  } else {
    CHECK(first_error(path) == path + ": cannot be opened: Permission denied");
  }
}

TEST_CASE("a file that is too large") {
  const test::TempDirectory d;
  const std::string path = d.write("main.yaml", std::string(kMaxFileBytes + 1, '#'));
  CHECK(first_error(path) == path + ": larger than 1 MiB");
}

TEST_CASE("links may lead to files inside, not outside") {
  const test::TempDirectory outside;
  const test::TempDirectory d;
  const std::string secret = outside.write("secret.yaml", "io_threads: 3\n");
  d.write("real/inside.yaml", "io_threads: 2\n");
  REQUIRE(symlink(secret.c_str(), (d.path() + "/out.yaml").c_str()) == 0);
  REQUIRE(symlink("real/inside.yaml", (d.path() + "/in.yaml").c_str()) == 0);
  const std::string good = d.write("good.yaml", "import: in.yaml\n");
  const std::string bad = d.write("bad.yaml", "import: out.yaml\n");
  const LoadResult read = load(good, kNone);
  REQUIRE(read);
  CHECK(read->config->process.io_threads == 2);
  CHECK(first_error(bad) == bad + ":1:9: `out.yaml` is outside of the configuration's directory");
}

TEST_CASE("the same file twice is no cycle, but the number of files is bounded") {
  const test::TempDirectory d;
  d.write("a.yaml", "trusted: [10.0.0.0/8]\n");
  const LoadResult twice = load(d.write("twice.yaml", "import: [a.yaml, a.yaml]\n"), kNone);
  REQUIRE(twice);
  CHECK(twice->config->trusted.size() == 2);
  std::string many = "import: [a.yaml";
  for (int i = 0; i < 100; ++i)
    many += ", a.yaml";
  const LoadResult result = load(d.write("many.yaml", many + "]\n"), kNone);
  REQUIRE_FALSE(result);
  CHECK(result.error().front().message == "more than 64 files");
}

TEST_CASE("the values of all files count together") {
  const test::TempDirectory d;
  std::string list = "trusted: [";
  for (int i = 0; i < 60'000; ++i)
    list += "1,";
  d.write("a.yaml", list + "]\n");
  const LoadResult result = load(d.write("main.yaml", "import: [a.yaml, a.yaml]\n"), kNone);
  REQUIRE_FALSE(result);
  CHECK(std::ranges::any_of(result.error(), [](const Diagnostic& e) {
    return e.message == "more than 100000 values, aliases counted as often as used";
  }));
}

}  // namespace perigee::config
