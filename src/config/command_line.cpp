// See perigee/config/command_line.h.
#include "perigee/config/command_line.h"

#include <array>
#include <optional>

#include "build.h"
#include "nearest.h"

namespace perigee::config {
namespace {

constexpr std::string_view kHelp = R"(perigee: a sidecar that stands in front of several ORBIT workers

Usage
  perigee --config FILE                       run with a configuration file
  perigee --listen 3000 --worker URL ...      run without one
  perigee check FILE                          say what is wrong with a file, or what it means
  perigee schema                              print the JSON Schema of the file, for editors
  perigee status                              one look at a sidecar that runs
  perigee reload                              it reads its file again; says what is wrong with it
  perigee pause [POOL], resume [POOL]         requests wait; and go on
  perigee drain                               it finishes what runs, then ends
  perigee drain WORKER, enable WORKER         no new requests to this worker; and again
  perigee eject WORKER                        opens its breaker for a while
  perigee limit WORKER N|none                 a ceiling of its slots

  The last seven ask the admin port of --config FILE, or of --admin ADDR and --token TOKEN.

Options
  -c, --config FILE    the configuration (YAML); SIGHUP reads it again
  -l, --listen ADDR    where clients come in: 3000, 0.0.0.0:3000, [::1]:3000, unix:/run/p.sock
                       (default 0.0.0.0:3000; may be given more than once)
  -w, --worker URL     a worker: http://127.0.0.1:3001 (once for each)
  -a, --admin ADDR     where operators look in, or `off` (default 127.0.0.1:9300)
  -t, --token TOKEN    the admin port's token; other users of the machine can see it here, so rather
                       give the file
  -V, --version        print the version
  -h, --help           print this

The smallest file
  listen: 0.0.0.0:3000
  workers: [http://127.0.0.1:3001, http://127.0.0.1:3002]
  admin: 127.0.0.1:9300

Signals
  SIGHUP               read the file again; a wrong file changes nothing
  SIGTERM, SIGINT      finish what runs, then end; a second one ends at once

Then look at http://127.0.0.1:9300/ for what it does.
)";

struct Option {
  std::string_view name;
  std::string_view letter;
  std::string_view value;  // empty = takes none
};
constexpr std::array<Option, 7> kOptions = {{{"--config", "-c", "FILE"},
                                             {"--listen", "-l", "ADDR"},
                                             {"--worker", "-w", "URL"},
                                             {"--admin", "-a", "ADDR"},
                                             {"--token", "-t", "TOKEN"},
                                             {"--version", "-V", ""},
                                             {"--help", "-h", ""}}};
struct Word {
  std::string_view word;
  Command command;
  unsigned least;  // words behind it
  unsigned most;
};
constexpr std::array<Word, 10> kWords = {{{"check", Command::check, 0, 1},
                                          {"schema", Command::schema, 0, 0},
                                          {"status", Command::status, 0, 0},
                                          {"reload", Command::reload, 0, 0},
                                          {"drain", Command::drain, 0, 1},
                                          {"pause", Command::pause, 0, 1},
                                          {"resume", Command::resume, 0, 1},
                                          {"enable", Command::enable, 1, 1},
                                          {"eject", Command::eject, 1, 1},
                                          {"limit", Command::limit, 2, 2}}};

std::string did_you_mean(std::string_view word) {
  std::vector<std::string_view> known;
  for (const Word& w : kWords)
    known.push_back(w.word);
  for (const Option& option : kOptions)
    known.push_back(option.name);
  const std::string nearest = nearest_to(word, known);
  return nearest.empty() ? "; try `perigee --help`" : "; did you mean `" + nearest + "`?";
}

// Walks the arguments; `--name value`, `--name=value` and `-n value` are the same.
class Parser {
 public:
  explicit Parser(std::span<const std::string_view> arguments) : rest_(arguments) {}

  std::expected<CommandLine, std::string> parse() {
    while (!rest_.empty() && !done_) {
      const std::string_view word = next();
      auto taken = word.size() > 1 && word.starts_with('-') ? take_option(word) : take_word(word);
      if (!taken) return std::unexpected(std::move(taken.error()));
    }
    if (!done_) {
      if (auto whole = check_whole(); !whole) return std::unexpected(std::move(whole.error()));
    }
    return std::move(line_);
  }

 private:
  using Taken = std::expected<void, std::string>;

  std::string_view next() {
    const std::string_view word = rest_.front();
    rest_ = rest_.subspan(1);
    return word;
  }

  Taken take_option(std::string_view word) {
    const std::size_t equals = word.starts_with("--") ? word.find('=') : std::string_view::npos;
    const std::string_view name = word.substr(0, equals);
    for (const Option& option : kOptions) {
      if (name != option.name && name != option.letter) continue;
      if (option.value.empty()) {
        if (equals != std::string_view::npos)
          return std::unexpected("`" + std::string(name) + "` takes no value");
        return apply(option.name, {});
      }
      if (equals != std::string_view::npos) return value(option, word.substr(equals + 1));
      if (rest_.empty()) return value(option, {});
      return value(option, next());
    }
    return std::unexpected("unknown option `" + std::string(word) + "`" + did_you_mean(name));
  }

  Taken value(const Option& option, std::string_view text) {
    if (text.empty()) {
      return std::unexpected("`" + std::string(option.name) +
                             "` needs a value: " + std::string(option.value));
    }
    return apply(option.name, text);
  }

  Taken apply(std::string_view name, std::string_view text) {
    if (name == "--help" || name == "--version") {
      line_ = CommandLine{};
      line_.command = name == "--help" ? Command::help : Command::version;
      done_ = true;
    } else if (name == "--listen") {
      line_.listen.emplace_back(text);
    } else if (name == "--worker") {
      line_.workers.emplace_back(text);
    } else {
      std::string& once = name == "--config" ? line_.file : name == "--admin" ? line_.admin : line_.token;
      if (!once.empty()) return std::unexpected("`" + std::string(name) + "` is given twice");
      once = text;
    }
    return {};
  }

  Taken take_word(std::string_view word) {
    if (command_ == nullptr) {
      for (const Word& known : kWords) {
        if (word == known.word) command_ = &known;
      }
      if (command_ == nullptr) return std::unexpected("unknown command `" + std::string(word) + "`" + did_you_mean(word));
      line_.command = command_->command;
      return {};
    }
    const bool file_twice = line_.command == Command::check && !line_.file.empty();
    if (words_ == command_->most || file_twice) {
      return std::unexpected("`" + std::string(command_->word) + "` takes no `" + std::string(word) + "`");
    }
    ++words_;
    (line_.command == Command::check ? line_.file : words_ == 1 ? line_.name : line_.slots) = word;
    return {};
  }

  Taken check_whole() const {
    const bool direct = !line_.listen.empty() || !line_.workers.empty() || !line_.admin.empty();
    if (is_remote(line_.command)) return check_remote();
    if (!line_.token.empty()) return std::unexpected("`--token` is for commands to a sidecar that runs");
    if (line_.command == Command::check && line_.file.empty())
      return std::unexpected("`check` needs a file: perigee check FILE");
    if (line_.command != Command::run && direct) {
      return std::unexpected("`" + std::string(command_->word) + "` takes no `--listen`, `--worker` or `--admin`");
    }
    if (line_.command == Command::schema && !line_.file.empty())
      return std::unexpected("`schema` takes no file");
    if (line_.command != Command::run) return {};
    if (!line_.file.empty() && direct) {
      return std::unexpected(
          "`--config` and `--listen`, `--worker`, `--admin` exclude one another: write it in the file");
    }
    if (line_.file.empty() && line_.workers.empty()) {
      return std::unexpected("nothing to run: give `--config FILE` or `--worker URL`; try `perigee --help`");
    }
    return {};
  }

  Taken check_remote() const {
    const std::string word(command_->word);
    if (words_ < command_->least) {
      return std::unexpected("`" + word + "` needs " + (command_->least == 2 ? "a worker and a number of slots" : "a worker"));
    }
    if (!line_.listen.empty() || !line_.workers.empty()) return std::unexpected("`" + word + "` takes no `--listen` or `--worker`");
    if (!line_.file.empty() && (!line_.admin.empty() || !line_.token.empty())) {
      return std::unexpected("`--config` and `--admin`, `--token` exclude one another: the file has both");
    }
    const bool number = !line_.slots.empty() && line_.slots.size() <= 7 &&
                        line_.slots.find_first_not_of("0123456789") == std::string::npos && line_.slots != "0";
    if (line_.command == Command::limit && !number && line_.slots != "none") {
      return std::unexpected("`limit` needs a number of slots, or `none`; found `" + line_.slots + "`");
    }
    return {};
  }

  std::span<const std::string_view> rest_;
  CommandLine line_;
  const Word* command_ = nullptr;
  unsigned words_ = 0;  // behind the command
  bool done_ = false;  // --help and --version win over whatever follows
};

Node list_of_words(const std::vector<std::string>& words, std::uint32_t file) {
  Node list{.kind = Node::Kind::list, .mark = {file, 0, 0}};
  for (const std::string& word : words) {
    Node node{.kind = Node::Kind::scalar, .mark = {file, 0, 0}};
    node.text = word;
    list.items.push_back(std::move(node));
  }
  return list;
}

}  // namespace

std::expected<CommandLine, std::string> parse_command_line(std::span<const std::string_view> arguments) {
  return Parser(arguments).parse();
}

std::string_view help_text() {
  return kHelp;
}

LoadResult config_from(const CommandLine& line) {
  const std::vector<std::string> files{"command line"};
  Node tree{.kind = Node::Kind::map};
  if (!line.listen.empty()) tree.entries.push_back({"listen", {}, list_of_words(line.listen, 0)});
  if (!line.workers.empty()) tree.entries.push_back({"workers", {}, list_of_words(line.workers, 0)});
  if (!line.admin.empty())
    tree.entries.push_back({"admin", {}, list_of_words({line.admin}, 0).items.front()});
  return build(tree, files, files.front());
}

}  // namespace perigee::config
