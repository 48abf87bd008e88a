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

Options
  -c, --config FILE    the configuration (YAML); SIGHUP reads it again
  -l, --listen ADDR    where clients come in: 3000, 0.0.0.0:3000, [::1]:3000, unix:/run/p.sock
                       (default 0.0.0.0:3000; may be given more than once)
  -w, --worker URL     a worker: http://127.0.0.1:3001 (once for each)
  -a, --admin ADDR     where operators look in, or `off` (default 127.0.0.1:9300)
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
constexpr std::array<Option, 6> kOptions = {{{"--config", "-c", "FILE"},
                                             {"--listen", "-l", "ADDR"},
                                             {"--worker", "-w", "URL"},
                                             {"--admin", "-a", "ADDR"},
                                             {"--version", "-V", ""},
                                             {"--help", "-h", ""}}};
constexpr std::array<std::string_view, 2> kCommands = {"check", "schema"};

std::string did_you_mean(std::string_view word) {
  std::vector<std::string_view> known(kCommands.begin(), kCommands.end());
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
      std::string& once = name == "--config" ? line_.file : line_.admin;
      if (!once.empty()) return std::unexpected("`" + std::string(name) + "` is given twice");
      once = text;
    }
    return {};
  }

  Taken take_word(std::string_view word) {
    if (!command_.empty() && command_ == "check" && line_.file.empty()) {
      line_.file = word;
      return {};
    }
    if (command_.empty() && (word == "check" || word == "schema")) {
      command_ = word;
      line_.command = word == "check" ? Command::check : Command::schema;
      return {};
    }
    if (command_.empty())
      return std::unexpected("unknown command `" + std::string(word) + "`" + did_you_mean(word));
    return std::unexpected("`" + std::string(command_) + "` takes no `" + std::string(word) + "`");
  }

  Taken check_whole() const {
    const bool direct = !line_.listen.empty() || !line_.workers.empty() || !line_.admin.empty();
    if (line_.command == Command::check && line_.file.empty())
      return std::unexpected("`check` needs a file: perigee check FILE");
    if (line_.command != Command::run && direct) {
      return std::unexpected("`" + std::string(command_) + "` takes no `--listen`, `--worker` or `--admin`");
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

  std::span<const std::string_view> rest_;
  CommandLine line_;
  std::string_view command_;
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
