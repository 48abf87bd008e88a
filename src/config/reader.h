// What the codecs write to while they read: where we are, what was wrong, what does nothing yet.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "document.h"
#include "perigee/config/loader.h"

namespace perigee::config {

class Reader {
 public:
  static constexpr std::size_t kMaxDiagnostics = 100;

  explicit Reader(const std::vector<std::string>& files) : files_(files) {}

  // The key path of the value being read, kept by Scope.
  class Scope {
   public:
    Scope(Reader& reader, std::string_view key) : reader_(reader), length_(reader.path_.size()) {
      if (length_ != 0 && !key.starts_with('[')) reader_.path_ += '.';
      reader_.path_ += key;
    }
    ~Scope() { reader_.path_.resize(length_); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Reader& reader_;
    std::size_t length_;
  };

  [[nodiscard]] const std::string& path() const { return path_; }

  // Records where the current key is written, for checks that look at the whole afterwards.
  void seen(const Mark& mark) { places_.insert_or_assign(path_, mark); }

  bool error(const Mark& mark, std::string message, std::string nearest = {});  // always false
  void warning(const std::string& key, std::string message);
  // An error about a key that may or may not be written; its nearest written parent gives the place.
  void error_at(const std::string& key, std::string message, std::string nearest = {});
  // "found `x`, expected …", with variables shown as they were written.
  bool mismatch(const Node& node, const std::string& expected, std::string nearest = {});
  void not_yet(const Mark& mark, std::string value, std::string about);

  // Whether an error was reported at `key` or below it.
  [[nodiscard]] bool failed_in(std::string_view key) const;
  // Further errors are only counted.
  [[nodiscard]] bool full() const { return errors_.size() >= kMaxDiagnostics; }
  [[nodiscard]] bool failed() const { return !errors_.empty(); }
  [[nodiscard]] Place place(const Mark& mark) const;
  std::vector<Diagnostic> take_errors();  // from the top of the file
  std::vector<Diagnostic> take_warnings() { return std::move(warnings_); }
  std::vector<NotYet> take_not_yet() { return std::move(not_yet_); }

 private:
  [[nodiscard]] Place place_of(std::string key) const;

  const std::vector<std::string>& files_;
  std::string path_;
  std::map<std::string, Mark> places_;
  std::vector<Diagnostic> errors_;
  std::size_t dropped_ = 0;
  std::vector<Diagnostic> warnings_;
  std::vector<NotYet> not_yet_;
};

void sort_by_place(std::vector<Diagnostic>& diagnostics);

}  // namespace perigee::config
