// Single processes in /proc. See process_stats.h; formats after proc(5).
#include "perigee/health/process_stats.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <memory>

#include "files.h"

namespace perigee::health {
namespace {

// The entries of a folder that are numbers; at most `most` of them.
std::vector<int> numbered_entries(const std::string& folder, std::size_t most) {
  std::vector<int> numbers;
  struct Close {
    void operator()(DIR* d) const { ::closedir(d); }
  };
  const std::unique_ptr<DIR, Close> dir(::opendir(folder.c_str()));
  if (!dir) return numbers;
  while (const dirent* entry = ::readdir(dir.get())) {
    const auto n = to_number(entry->d_name);
    if (n && *n <= 0x7FFFFFFF) numbers.push_back(static_cast<int>(*n));
    if (numbers.size() == most) break;
  }
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

// An address as /proc/net/tcp writes it: the 32-bit words of the network form, each in the machine's order.
std::string proc_form(const unsigned char* bytes, std::size_t words) {
  std::string text;
  for (std::size_t w = 0; w < words; ++w) {
    std::uint32_t word = 0;
    std::copy_n(bytes + 4 * w, 4, reinterpret_cast<unsigned char*>(&word));
    char hex[9];
    std::snprintf(hex, sizeof hex, "%08X", word);
    text += hex;
  }
  return text;
}

// The forms under which a listener for `ip` may stand in tcp and tcp6, its own and "all addresses".
struct Wanted {
  std::vector<std::string> v4{std::string(8, '0')};
  std::vector<std::string> v6{std::string(32, '0')};
  explicit Wanted(std::string_view ip) {
    const std::string text(ip);
    std::array<unsigned char, 16> bytes{};
    if (::inet_pton(AF_INET, text.c_str(), bytes.data()) == 1) {
      v4.push_back(proc_form(bytes.data(), 1));
      std::array<unsigned char, 16> mapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
      std::copy_n(bytes.begin(), 4, mapped.begin() + 12);
      v6.push_back(proc_form(mapped.data(), 4));
    } else if (::inet_pton(AF_INET6, text.c_str(), bytes.data()) == 1) {
      v6.push_back(proc_form(bytes.data(), 4));
      v4.clear();
    }
  }
};

void add_inodes(const std::string& path, const std::vector<std::string>& addresses, std::uint16_t port,
                std::vector<std::string>& links) {
  const auto file = read_file(path);
  if (!file) return;
  char suffix[6];
  std::snprintf(suffix, sizeof suffix, ":%04X", port);
  std::string_view rest = *file;
  take_line(rest);  // headings
  while (!rest.empty()) {
    std::string_view line = take_line(rest);
    take_word(line);
    const std::string_view local = take_word(line);
    take_word(line);
    const bool listens = take_word(line) == "0A";
    if (!listens || !local.ends_with(suffix)) continue;
    const std::string_view address = local.substr(0, local.size() - 5);
    if (std::find(addresses.begin(), addresses.end(), address) == addresses.end()) continue;
    for (int skip = 0; skip < 5; ++skip)
      take_word(line);
    const std::string_view inode = take_word(line);
    if (inode != "0") links.push_back("socket:[" + std::string(inode) + "]");
  }
}

bool holds_any(const std::string& folder, const std::vector<std::string>& links) {
  constexpr std::size_t kDescriptors = 4096;
  for (const int fd : numbered_entries(folder + "/fd", kDescriptors)) {
    char target[64];
    const ssize_t n = ::readlink((folder + "/fd/" + std::to_string(fd)).c_str(), target, sizeof target);
    if (n <= 0) continue;
    const std::string_view text(target, static_cast<std::size_t>(n));
    if (std::find(links.begin(), links.end(), text) != links.end()) return true;
  }
  return false;
}

}  // namespace

ProcessReader::ProcessReader(std::string root) : root_(std::move(root)) {
  while (!root_.empty() && root_.back() == '/')
    root_.pop_back();
}

std::optional<ProcessCounters> ProcessReader::read(int pid) const {
  return read_folder(root_ + "/proc/" + std::to_string(pid));
}
std::optional<ProcessCounters> ProcessReader::read_self() const {
  return read_folder(root_ + "/proc/self");
}

std::optional<ProcessCounters> ProcessReader::read_folder(const std::string& folder) const {
  const auto stat = read_file(folder + "/stat");
  if (!stat) return std::nullopt;
  // The command's name stands in parentheses and may hold anything, parentheses too: cut after the last one.
  const std::size_t name_end = stat->rfind(')');
  if (name_end == stat->npos) return std::nullopt;
  std::string_view rest = std::string_view(*stat).substr(name_end + 1);
  std::array<std::string_view, 25> fields;  // numbered from 1 as in proc(5)
  for (std::size_t f = 3; f < fields.size(); ++f)
    fields[f] = take_word(rest);
  const auto user = to_number(fields[14]);
  const auto system = to_number(fields[15]);
  const auto start = to_number(fields[22]);
  const auto pages = to_number(fields[24]);
  const auto pid = to_number(std::string_view(*stat).substr(0, stat->find(' ')));
  if (!user || !system || !start || !pages || !pid) return std::nullopt;

  const auto ticks = static_cast<double>(::sysconf(_SC_CLK_TCK));
  ProcessCounters c;
  c.pid = static_cast<int>(*pid);
  c.start_ticks = *start;
  c.cpu_seconds = static_cast<double>(*user + *system) / ticks;
  c.resident_bytes = *pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  if (const auto machine = read_file(root_ + "/proc/stat")) {
    if (const auto boot = number_after(*machine, "btime")) {
      c.start_time_seconds = static_cast<double>(*boot) + static_cast<double>(*start) / ticks;
    }
  }
  if (const auto limits = read_file(folder + "/limits")) {
    constexpr std::string_view kRow = "\nMax open files";
    const std::size_t at = limits->find(kRow);
    if (at != limits->npos) {
      std::string_view row = std::string_view(*limits).substr(at + kRow.size());
      c.descriptors_max = to_number(take_word(row));
    }
  }
  if (::access((folder + "/fd").c_str(), R_OK | X_OK) == 0) {
    c.open_descriptors = numbered_entries(folder + "/fd", 1'000'000).size();
  }
  if (const auto io = read_file(folder + "/io")) {
    c.read_bytes = number_after(*io, "read_bytes:");
    c.written_bytes = number_after(*io, "write_bytes:");
  }
  return c;
}

std::vector<int> ProcessReader::find_listeners(std::string_view ip, std::uint16_t port) const {
  constexpr std::size_t kProcesses = 65'536;
  const Wanted wanted(ip);
  std::vector<std::string> links;
  add_inodes(root_ + "/proc/net/tcp", wanted.v4, port, links);
  add_inodes(root_ + "/proc/net/tcp6", wanted.v6, port, links);
  std::vector<int> found;
  if (links.empty()) return found;
  for (const int pid : numbered_entries(root_ + "/proc", kProcesses)) {
    if (holds_any(root_ + "/proc/" + std::to_string(pid), links)) found.push_back(pid);
  }
  return found;
}

std::vector<int> ProcessReader::children(int pid) const {
  const std::string number = std::to_string(pid);
  const auto file = read_file(root_ + "/proc/" + number + "/task/" + number + "/children");
  std::vector<int> all;
  std::string_view rest = file ? std::string_view(*file) : std::string_view();
  while (const auto child = to_number(take_word(rest)))
    all.push_back(static_cast<int>(*child));
  return all;
}

std::optional<double> ProcessStats::cores(const ProcessCounters& c, TimePoint now) {
  const bool same = before_ && before_->pid == c.pid && before_->start_ticks == c.start_ticks &&
                    c.cpu_seconds >= before_->cpu_seconds;
  if (same && now - at_ < kShortest) return std::nullopt;
  std::optional<double> used;
  if (same) used = (c.cpu_seconds - before_->cpu_seconds) / to_seconds(now - at_);
  before_ = c;
  at_ = now;
  return used;
}

}  // namespace perigee::health
