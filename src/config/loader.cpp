// See loader.h. Files → one tree → tables → checks; all that is wrong on the way is kept and told together.
#include "perigee/config/loader.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "build.h"
#include "import.h"
#include "tables.h"
#include "validate.h"

namespace perigee::config {
namespace {

std::vector<NotYet> with_defaults(std::vector<NotYet> written) {
  std::vector<NotYet> out = later_defaults();
  std::erase_if(out, [&](const NotYet& standing) {
    for (const NotYet& w : written) {
      if (w.key == standing.key || w.key.starts_with(standing.key + ".")) return true;
    }
    return false;
  });
  out.insert(out.begin(), std::make_move_iterator(written.begin()), std::make_move_iterator(written.end()));
  return out;
}

// What is said of a value whose text could not be made (an unset variable) is only an echo.
bool is_echo(const Diagnostic& d, const std::vector<Diagnostic>& of) {
  return std::ranges::any_of(of, [&](const Diagnostic& first) { return first.place == d.place; });
}

LoadResult finish_load(const Importer& importer, const Node& tree, const std::string& source) {
  LoadResult result = build(tree, importer.files(), source);
  if (importer.errors().empty()) return result;
  std::vector<Diagnostic> errors = importer.errors();
  if (!result) {
    for (Diagnostic& error : result.error()) {
      if (!is_echo(error, importer.errors())) errors.push_back(std::move(error));
    }
  }
  sort_by_place(errors);
  return std::unexpected(std::move(errors));
}

}  // namespace

LoadResult build(const Node& tree, const std::vector<std::string>& files, const std::string& source) {
  Reader reader(files);
  Draft draft;
  // Its verdict is in the reader; the checks of the whole run even after an error, so that all is told at
  // once.
  static_cast<void>(root_table()->read(reader, tree, draft));
  finish(draft, reader);
  if (reader.failed()) return std::unexpected(reader.take_errors());
  std::vector<NotYet> not_yet = reader.take_not_yet();
  draft.config.source = source;
  draft.config.not_yet = with_defaults(std::move(not_yet));
  std::vector<Diagnostic> warnings = reader.take_warnings();
  sort_by_place(warnings);
  return Loaded{std::make_shared<const Config>(std::move(draft.config)), std::move(warnings)};
}

LoadResult load(const std::string& path, const Environment& environment) {
  Importer importer(environment);
  const Node tree = importer.load(path);
  return finish_load(importer, tree, path);
}

LoadResult parse(std::string_view text, const std::string& name, const Environment& environment) {
  Importer importer(environment);
  const Node tree = importer.parse(text, name);
  return finish_load(importer, tree, name);
}

std::optional<std::string> why_not_startable(const Config& config) {
  if (!config.workers.empty()) return std::nullopt;
  return "no workers: write `workers: [http://127.0.0.1:3001]`, or give `--worker http://127.0.0.1:3001`";
}

}  // namespace perigee::config
