// The words after `perigee`.
#include "perigee/config/command_line.h"

#include <doctest/doctest.h>

namespace perigee::config {
namespace {

std::expected<CommandLine, std::string> parse_words(std::vector<std::string_view> words) {
  return parse_command_line(words);
}

std::string error_of(std::vector<std::string_view> words) {
  const auto line = parse_words(std::move(words));
  return line ? "read" : line.error();
}

}  // namespace

TEST_CASE("words that are wrong") {
  CHECK(error_of({}) == "nothing to run: give `--config FILE` or `--worker URL`; try `perigee --help`");
  CHECK(error_of({"--cofnig", "a"}) == "unknown option `--cofnig`; did you mean `--config`?");
  CHECK(error_of({"--zzzzzz"}) == "unknown option `--zzzzzz`; try `perigee --help`");
  CHECK(error_of({"chekc", "a"}) == "unknown command `chekc`; did you mean `check`?");
  CHECK(error_of({"--config"}) == "`--config` needs a value: FILE");
  CHECK(error_of({"--config="}) == "`--config` needs a value: FILE");
  CHECK(error_of({"-c", "a", "-c", "b"}) == "`--config` is given twice");
  CHECK(error_of({"--help=x"}) == "`--help` takes no value");
  CHECK(error_of({"check"}) == "`check` needs a file: perigee check FILE");
  CHECK(error_of({"check", "a", "b"}) == "`check` takes no `b`");
  CHECK(error_of({"check", "a", "--worker", "b"}) == "`check` takes no `--listen`, `--worker` or `--admin`");
  CHECK(error_of({"schema", "-c", "a"}) == "`schema` takes no file");
  CHECK(error_of({"-c", "a", "--listen", "1"}) ==
        "`--config` and `--listen`, `--worker`, `--admin` exclude one another: write it in the file");
  CHECK(error_of({"--listen", "3000"}).starts_with("nothing to run"));
  CHECK(error_of({"-"}).starts_with("unknown command `-`"));
  CHECK(error_of({""}).starts_with("unknown command ``"));
}

TEST_CASE("wrong words to a sidecar that runs") {
  CHECK(error_of({"statsu"}) == "unknown command `statsu`; did you mean `status`?");
  CHECK(error_of({"status", "x"}) == "`status` takes no `x`");
  CHECK(error_of({"enable"}) == "`enable` needs a worker");
  CHECK(error_of({"eject"}) == "`eject` needs a worker");
  CHECK(error_of({"drain", "a", "b"}) == "`drain` takes no `b`");
  CHECK(error_of({"limit", "a"}) == "`limit` needs a worker and a number of slots");
  for (const char* wrong : {"0", "-1", "many", "12345678", "1.5"}) {
    CHECK(error_of({"limit", "a", wrong}).starts_with(wrong[0] == '-' ? "unknown option" : "`limit` needs a number"));
  }
  CHECK(error_of({"reload", "--worker", "http://a:1"}) == "`reload` takes no `--listen` or `--worker`");
  CHECK(error_of({"reload", "-c", "a", "--admin", "1"}).starts_with("`--config` and `--admin`"));
  CHECK(error_of({"-c", "a", "--token", "t"}) == "`--token` is for commands to a sidecar that runs");
}

TEST_CASE("right words to a sidecar that runs") {
  const auto limit = parse_words({"limit", "w1", "8", "-c", "a.yaml"});
  REQUIRE(limit);
  CHECK(limit->command == Command::limit);
  CHECK(limit->name == "w1");
  CHECK(limit->slots == "8");
  CHECK(limit->file == "a.yaml");
  CHECK(parse_words({"limit", "w1", "none"})->slots == "none");
  CHECK(parse_words({"drain"})->name.empty());
  CHECK(parse_words({"drain", "w1"})->name == "w1");
  CHECK(parse_words({"pause", "fast", "--admin", "127.0.0.1:9301", "--token", "t"})->token == "t");
  CHECK(is_remote(parse_words({"status"})->command));
  CHECK_FALSE(is_remote(parse_words({"schema"})->command));
}

TEST_CASE("words that are right") {
  CHECK(parse_words({"-c", "a.yaml"})->file == "a.yaml");
  CHECK(parse_words({"--config=a.yaml"})->command == Command::run);
  const auto check = parse_words({"check", "a.yaml"});
  CHECK(check->command == Command::check);
  CHECK(check->file == "a.yaml");
  CHECK(parse_words({"check", "-c", "a.yaml"})->file == "a.yaml");
  CHECK(parse_words({"schema"})->command == Command::schema);
  CHECK(parse_words({"--version"})->command == Command::version);
  CHECK(parse_words({"check", "--help", "--nonsense"})->command == Command::help);
  const auto direct =
      parse_words({"--listen", "3000", "--worker=http://a:1", "-w", "http://b:1", "--admin", "off"});
  REQUIRE(direct);
  CHECK(direct->workers == std::vector<std::string>{"http://a:1", "http://b:1"});
  const LoadResult result = config_from(*direct);
  REQUIRE(result);
  CHECK(result->config->workers.size() == 2);
  CHECK(result->config->listeners[0].address.text() == "0.0.0.0:3000");
  CHECK_FALSE(result->config->admin.enabled);
  CHECK(result->config->source == "command line");
}

TEST_CASE("a wrong value on the command line is told like one in a file") {
  const LoadResult result = config_from(*parse_words({"-w", "http://a:b", "-l", "x", "-a", "0.0.0.0:9300"}));
  REQUIRE_FALSE(result);
  CHECK(format_diagnostics(result.error()) ==
        "command line: listen[0]: found `x`, expected an address such as `0.0.0.0:3000`, `3000`, "
        "`[::1]:3000` or "
        "`unix:/run/perigee.sock`\n"
        "command line: workers[0]: expected a URL such as `http://127.0.0.1:3001`\n"
        "command line: admin: an address other than loopback needs `token` (found 0.0.0.0:9300 without)\n"
        "3 errors\n");
}

TEST_CASE("help fits a terminal and names every option") {
  const std::string_view help = help_text();
  for (const char* option :
       {"--config", "--listen", "--worker", "--admin", "--version", "--help", "check", "schema"}) {
    CHECK(help.find(option) != std::string_view::npos);
  }
  std::size_t start = 0;
  for (std::size_t end; (end = help.find('\n', start)) != std::string_view::npos; start = end + 1) {
    CHECK(end - start <= 100);
  }
}

}  // namespace perigee::config
