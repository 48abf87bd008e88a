// Files into one tree: reading, variables, `import:`.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "document.h"
#include "perigee/config/loader.h"

namespace perigee::config {

class Importer {
 public:
  static constexpr std::size_t kMaxFiles = 64;

  explicit Importer(const Environment& environment) : environment_(environment) {}

  // The merged tree. With errors() the tree is only as good as it could be made.
  Node load(const std::string& path);
  Node parse(std::string_view text, const std::string& name);

  [[nodiscard]] const std::vector<std::string>& files() const { return files_; }
  [[nodiscard]] const std::vector<Diagnostic>& errors() const { return errors_; }

 private:
  Node read_text(std::string_view text, std::uint32_t file);
  Node read_file(const std::string& path, const Mark& from);
  void fill_variables(Node& node);
  void expand(Node& node);
  Node import_one(const Node& what);
  void fail(const Mark& mark, std::string message);
  std::uint32_t add_file(const std::string& name);

  const Environment& environment_;
  std::vector<std::string> files_;
  std::vector<std::string> open_;  // real paths of the files being read: an import of one is a cycle
  std::string root_;               // real path of the top file's directory
  std::size_t nodes_ = 0;
  std::vector<Diagnostic> errors_;
};

}  // namespace perigee::config
