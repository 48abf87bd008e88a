// Reading small files. See files.h.
#include "files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>

namespace perigee::health {

std::optional<std::string> read_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return std::nullopt;
  std::string all;
  bool good = true;
  while (all.size() < kFileMax) {
    char piece[4096];
    const ssize_t n = ::read(fd, piece, sizeof piece);
    if (n < 0 && errno == EINTR) continue;
    good = n >= 0;
    if (n <= 0) break;
    all.append(piece, static_cast<std::size_t>(n));
  }
  ::close(fd);
  if (!good) return std::nullopt;
  return all;
}

namespace {
bool blank(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}
}  // namespace

std::string_view trim(std::string_view text) {
  while (!text.empty() && blank(text.front()))
    text.remove_prefix(1);
  while (!text.empty() && blank(text.back()))
    text.remove_suffix(1);
  return text;
}

std::string_view take_word(std::string_view& text) {
  while (!text.empty() && blank(text.front()))
    text.remove_prefix(1);
  std::size_t end = 0;
  while (end < text.size() && !blank(text[end]))
    ++end;
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(end);
  return word;
}

std::string_view take_line(std::string_view& text) {
  const std::size_t end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end == text.npos ? text.size() : end + 1);
  return line;
}

std::optional<std::uint64_t> to_number(std::string_view text) {
  text = trim(text);
  std::uint64_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return n;
}

std::optional<std::uint64_t> number_in(const std::string& path) {
  const auto file = read_file(path);
  return file ? to_number(*file) : std::nullopt;
}

std::optional<std::uint64_t> number_after(std::string_view file, std::string_view key) {
  while (!file.empty()) {
    std::string_view line = take_line(file);
    if (take_word(line) == key) return to_number(take_word(line));
  }
  return std::nullopt;
}

}  // namespace perigee::health
