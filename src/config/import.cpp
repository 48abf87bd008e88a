// See import.h. ORBIT's rules (maps merge, the importer wins, lists concatenate), but nothing is skipped: an
// import that is missing, cyclic or outside of the top file's directory is an error.
#include "import.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "substitute.h"

namespace perigee::config {
namespace {

namespace fs = std::filesystem;

std::expected<std::string, std::string> slurp(const std::string& path) {
  const int raw = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a FIFO must not hang a reload
  if (raw < 0) return std::unexpected(std::string("cannot be opened: ") + std::strerror(errno));
  const auto closer = [](const int* fd) { close(*fd); };
  const std::unique_ptr<const int, decltype(closer)> fd(&raw, closer);
  struct stat info{};
  if (fstat(raw, &info) != 0) return std::unexpected(std::string("cannot be read: ") + std::strerror(errno));
  if (!S_ISREG(info.st_mode)) return std::unexpected(std::string("is not a plain file"));
  std::string text;
  while (text.size() <= kMaxFileBytes) {
    char buffer[16 * 1024];
    const ssize_t n = read(raw, buffer, sizeof buffer);
    if (n == 0) return text;
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return std::unexpected(std::string("cannot be read: ") + std::strerror(errno));
    text.append(buffer, static_cast<std::size_t>(n));
  }
  return std::unexpected(std::string("larger than 1 MiB"));
}

// The real path, links followed; empty if there is none.
std::string real_path(const fs::path& path) {
  std::error_code error;
  const fs::path real = fs::canonical(path, error);
  return error ? std::string() : real.string();
}

bool is_inside(const std::string& path, const std::string& directory) {
  if (directory == "/") return true;
  return path.size() > directory.size() && path.starts_with(directory) && path[directory.size()] == '/';
}

// `over` onto `under`. The result keeps the order of `under`, then what is new.
Node merge(Node under, Node over) {
  if (under.kind == Node::Kind::map && over.kind == Node::Kind::map) {
    std::map<std::string, std::size_t> index;
    for (std::size_t i = 0; i < under.entries.size(); ++i)
      index.emplace(under.entries[i].key, i);
    for (Entry& entry : over.entries) {
      const auto found = index.find(entry.key);
      if (found == index.end()) {
        under.entries.push_back(std::move(entry));
      } else {
        Entry& mine = under.entries[found->second];
        mine.mark = entry.mark;
        mine.value = merge(std::move(mine.value), std::move(entry.value));
      }
    }
    under.mark = over.mark;
    return under;
  }
  if (under.kind == Node::Kind::list && over.kind == Node::Kind::list) {
    for (Node& item : over.items)
      under.items.push_back(std::move(item));
    under.mark = over.mark;
    return under;
  }
  if (over.kind == Node::Kind::null) return under;  // a heading with nothing below it takes nothing away
  return over;
}

}  // namespace

void Importer::fail(const Mark& mark, std::string message) {
  if (errors_.size() >= 100) return;
  errors_.push_back({{files_.at(mark.file), mark.line, mark.column}, {}, std::move(message), {}});
}

std::uint32_t Importer::add_file(const std::string& name) {
  files_.push_back(name);
  return static_cast<std::uint32_t>(files_.size() - 1);
}

Node Importer::load(const std::string& path) {
  const fs::path directory = fs::path(path).parent_path();
  root_ = real_path(directory.empty() ? fs::path(".") : directory);
  return read_file(path, Mark{});
}

Node Importer::parse(std::string_view text, const std::string& name) {
  const fs::path directory = fs::path(name).parent_path();
  root_ = real_path(directory.empty() ? fs::path(".") : directory);
  open_.push_back(real_path(name));
  return read_text(text, add_file(name));
}

Node Importer::read_file(const std::string& path, const Mark& from) {
  const std::uint32_t file = add_file(path);
  auto text = slurp(path);
  if (!text) {
    // Told at the place that asked for the file, if there is one.
    const bool top = file == 0;
    fail(top ? Mark{file, 0, 0} : from, (top ? std::string() : "`" + path + "` ") + text.error());
    return {};
  }
  open_.push_back(real_path(path));
  Node node = read_text(*text, file);
  open_.pop_back();
  return node;
}

Node Importer::read_text(std::string_view text, std::uint32_t file) {
  auto node = read_document(text, file, nodes_);
  if (!node) {
    for (DocumentError& error : node.error())
      fail(error.mark, std::move(error.message));
    return {};
  }
  fill_variables(*node);
  expand(*node);
  return *std::move(node);
}

void Importer::fill_variables(Node& node) {
  for (Node& item : node.items)
    fill_variables(item);
  for (Entry& entry : node.entries)
    fill_variables(entry.value);
  if (node.kind != Node::Kind::scalar || !has_variable(node.text)) return;
  auto text = substitute(node.text, environment_);
  if (!text) return fail(node.mark, std::move(text.error()));
  node.from_variable = true;
  node.original = std::exchange(node.text, *std::move(text));
}

void Importer::expand(Node& node) {
  for (Node& item : node.items)
    expand(item);
  for (Entry& entry : node.entries) {
    if (entry.key != "import") expand(entry.value);
  }
  for (std::size_t i = 0; i < node.entries.size(); ++i) {
    if (node.entries[i].key != "import") continue;
    const Node what = std::move(node.entries[i].value);
    node.entries.erase(node.entries.begin() + static_cast<std::ptrdiff_t>(i));
    Node under{.kind = Node::Kind::map, .mark = node.mark};
    if (what.kind == Node::Kind::list) {
      for (const Node& item : what.items)
        under = merge(std::move(under), import_one(item));
    } else {
      under = import_one(what);
    }
    node = merge(std::move(under), std::move(node));
    return;
  }
}

Node Importer::import_one(const Node& what) {
  Node nothing{.kind = Node::Kind::map, .mark = what.mark};
  if (what.kind != Node::Kind::scalar || what.text.empty()) {
    fail(what.mark, "`import` takes the name of a file, or a list of names");
    return nothing;
  }
  // Shown as written: the name may have come from a variable.
  const std::string shown = "`" + (what.from_variable ? what.original : what.text) + "` ";
  if (files_.size() >= kMaxFiles) {
    fail(what.mark, "more than " + std::to_string(kMaxFiles) + " files");
    return nothing;
  }
  const fs::path path = fs::path(files_.at(what.mark.file)).parent_path() / what.text;
  const std::string real = real_path(path);
  if (real.empty()) {
    fail(what.mark, shown + "cannot be opened: No such file or directory");
    return nothing;
  }
  if (!is_inside(real, root_)) {
    fail(what.mark, shown + "is outside of the configuration's directory");
    return nothing;
  }
  for (const std::string& open : open_) {
    if (open != real) continue;
    fail(what.mark, shown + "imports itself, at once or through others");
    return nothing;
  }
  Node node = read_file(path.string(), what.mark);
  if (node.kind == Node::Kind::map) return node;
  if (node.kind != Node::Kind::null) fail(what.mark, shown + "is not a map");
  return nothing;
}

}  // namespace perigee::config
