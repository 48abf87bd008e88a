// One look at /proc and the control groups. Layouts after the kernel's cgroup-v1 and cgroup-v2 documents.
//
// Which version a controller is in is told by /proc/self/cgroup: a line with its name means version 1, else
// the line `0::` (version 2) stands for it. Where the group's folder is, /proc/self/mountinfo tells: its root
// field is the part of the group's path that the mount already stands for. In a container the two may not
// match (the path is one of the host's); then the mount's own folder is the nearest we can see of our group.
#include <algorithm>

#include "files.h"
#include "perigee/health/host_stats.h"

namespace perigee::health {
namespace {

using Number = std::optional<std::uint64_t>;

// Version 1 writes "no bound" as a number close to 2^63.
constexpr std::uint64_t kNoBound = std::uint64_t{1} << 60;

void keep_least(Number& least, Number candidate) {
  if (candidate && (!least || *candidate < *least)) least = candidate;
}

// mountinfo escapes blanks, tabs, newlines and backslashes as \ooo.
std::string unescape(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto digit = [&](std::size_t at) { return at < text.size() && text[at] >= '0' && text[at] <= '7'; };
    if (text[i] == '\\' && digit(i + 1) && digit(i + 2) && digit(i + 3)) {
      plain += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

bool has_item(std::string_view list, std::string_view item) {
  while (!list.empty()) {
    const std::size_t comma = list.find(',');
    if (list.substr(0, comma) == item) return true;
    list.remove_prefix(comma == list.npos ? list.size() : comma + 1);
  }
  return false;
}

struct Mount {
  std::string folder;
  std::string root;
};

// The mount of a version-1 controller, or of version 2 when `controller` is empty.
std::optional<Mount> find_mount(std::string_view mountinfo, std::string_view controller) {
  while (!mountinfo.empty()) {
    std::string_view line = take_line(mountinfo);
    const std::size_t dash = line.find(" - ");
    if (dash == line.npos) continue;
    std::string_view left = line.substr(0, dash);
    std::string_view right = line.substr(dash + 3);
    const std::string_view type = take_word(right);
    take_word(right);
    const std::string_view options = take_word(right);
    const bool fits =
        controller.empty() ? type == "cgroup2" : type == "cgroup" && has_item(options, controller);
    if (!fits) continue;
    for (int skip = 0; skip < 3; ++skip)
      take_word(left);
    const std::string root = unescape(take_word(left));
    return Mount{unescape(take_word(left)), root};
  }
  return std::nullopt;
}

// The path of our group in a version-1 controller's tree, or in version 2's when `controller` is empty.
std::optional<std::string> find_path(std::string_view cgroup, std::string_view controller) {
  while (!cgroup.empty()) {
    const std::string_view line = take_line(cgroup);
    const std::size_t first = line.find(':');
    const std::size_t second = first == line.npos ? line.npos : line.find(':', first + 1);
    if (second == line.npos) continue;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    const bool fits = controller.empty() ? controllers.empty() : has_item(controllers, controller);
    if (fits) return std::string(line.substr(second + 1));
  }
  return std::nullopt;
}

// The group's folder first, then those above it, down to the mount.
std::vector<std::string> folders(const std::string& root, const Mount& mount, std::string path) {
  const std::string base = root + (mount.folder == "/" ? "" : mount.folder);
  if (mount.root != "/") {
    const bool below =
        path.starts_with(mount.root) && (path.size() == mount.root.size() || path[mount.root.size()] == '/');
    path = below ? path.substr(mount.root.size()) : "";
  }
  if (path.find("/..") != path.npos) path.clear();  // outside of what our namespace shows
  while (!path.empty() && path.back() == '/')
    path.pop_back();
  std::vector<std::string> all;
  while (!path.empty()) {
    all.push_back(base + path);
    path.resize(path.rfind('/'));
  }
  all.push_back(base);
  return all;
}

Number stall(std::string_view pressure, std::string_view kind) {
  while (!pressure.empty()) {
    std::string_view line = take_line(pressure);
    if (take_word(line) != kind) continue;
    constexpr std::string_view kTotal = "total=";
    const std::size_t at = line.find(kTotal);
    if (at == line.npos) return std::nullopt;
    line.remove_prefix(at + kTotal.size());
    return to_number(take_word(line));
  }
  return std::nullopt;
}

}  // namespace

std::optional<unsigned> count_cpu_list(std::string_view text) {
  constexpr std::uint64_t kMost = 4096;
  text = trim(text);
  std::uint64_t count = 0;
  while (!text.empty()) {
    const std::size_t comma = text.find(',');
    const std::string_view part = text.substr(0, comma);
    text.remove_prefix(comma == text.npos ? text.size() : comma + 1);
    const std::size_t dash = part.find('-');
    const Number first = to_number(part.substr(0, dash));
    const Number last = dash == part.npos ? first : to_number(part.substr(dash + 1));
    if (!first || !last || *last < *first || *last >= kMost) return std::nullopt;
    count += *last - *first + 1;
  }
  if (count == 0 || count > kMost) return std::nullopt;
  return static_cast<unsigned>(count);
}

HostReader::HostReader(std::string root) : root_(std::move(root)) {
  while (!root_.empty() && root_.back() == '/')
    root_.pop_back();
}

HostCounters HostReader::read() const {
  HostCounters c;
  read_machine(c);
  const Groups groups = find_groups();
  read_cpu(groups, c);
  read_memory(groups, c);
  read_pressure(groups, c);
  return c;
}

Number HostReader::memory_limit_of(int pid) const {
  const Groups groups = find_groups(std::to_string(pid));
  Number least;
  for (const std::string& folder : groups.memory) keep_least(least, number_in(folder + "/memory.limit_in_bytes"));
  if (groups.memory.empty()) {
    for (const std::string& folder : groups.unified) {
      keep_least(least, number_in(folder + "/memory.max"));
      keep_least(least, number_in(folder + "/memory.high"));
    }
  }
  return least && *least < kNoBound ? least : std::nullopt;
}

std::string HostReader::kills_file_of(int pid) const {
  const Groups groups = pid == 0 ? find_groups() : find_groups(std::to_string(pid));
  if (!groups.memory.empty()) return groups.memory.front() + "/memory.oom_control";
  return groups.unified.empty() ? std::string() : groups.unified.front() + "/memory.events";
}

Number HostReader::kills_in(const std::string& file) {
  const auto text = file.empty() ? std::nullopt : read_file(file);
  return text ? number_after(*text, "oom_kill") : std::nullopt;
}

HostReader::Groups HostReader::find_groups(const std::string& process) const {
  Groups groups;
  const auto cgroup = read_file(root_ + "/proc/" + process + "/cgroup");
  const auto mountinfo = read_file(root_ + "/proc/self/mountinfo");
  if (!cgroup || !mountinfo) return groups;
  const auto find = [&](std::string_view controller) -> std::vector<std::string> {
    const auto path = find_path(*cgroup, controller);
    const auto mount = path ? find_mount(*mountinfo, controller) : std::nullopt;
    return mount ? folders(root_, *mount, *path) : std::vector<std::string>();
  };
  groups.unified = find("");
  groups.cpu = find("cpu");
  groups.cpuacct = find("cpuacct");
  groups.cpuset = find("cpuset");
  groups.memory = find("memory");
  return groups;
}

void HostReader::read_machine(HostCounters& c) const {
  if (const auto stat = read_file(root_ + "/proc/stat")) {
    std::string_view text = *stat;
    std::string_view line = take_line(text);
    if (take_word(line) == "cpu") {
      // user nice system idle iowait irq softirq steal; guest times are within user and nice already.
      std::uint64_t all = 0;
      std::uint64_t idle = 0;
      for (int field = 0; field < 8; ++field) {
        const std::uint64_t ticks = to_number(take_word(line)).value_or(0);
        all += ticks;
        if (field == 3 || field == 4) idle += ticks;
      }
      c.machine_all_ticks = all;
      c.machine_busy_ticks = all - idle;
    }
  }
  if (const auto meminfo = read_file(root_ + "/proc/meminfo")) {
    const Number total = number_after(*meminfo, "MemTotal:");
    const Number available = number_after(*meminfo, "MemAvailable:");
    if (total) c.memory_total_bytes = *total * 1024;
    if (available) c.memory_available_bytes = *available * 1024;
  }
  if (const auto online = read_file(root_ + "/sys/devices/system/cpu/online")) {
    c.online_cpus = count_cpu_list(*online).value_or(1);
  }
}

void HostReader::read_cpu(const Groups& groups, HostCounters& c) const {
  double cores = c.online_cpus;
  const auto bound = [&](Number quota, Number period) {
    if (quota && period && *quota > 0 && *period > 0) {
      cores = std::min(cores, static_cast<double>(*quota) / static_cast<double>(*period));
    }
  };
  if (!groups.cpu.empty()) {
    for (const std::string& folder : groups.cpu) {
      bound(number_in(folder + "/cpu.cfs_quota_us"),
            number_in(folder + "/cpu.cfs_period_us"));  // -1: no number
    }
    if (const auto stat = read_file(groups.cpu.front() + "/cpu.stat")) {
      c.group_periods = number_after(*stat, "nr_periods");
      c.group_throttled_periods = number_after(*stat, "nr_throttled");
    }
  } else if (!groups.unified.empty()) {
    for (const std::string& folder : groups.unified) {
      const auto max = read_file(folder + "/cpu.max");
      if (!max) continue;
      std::string_view words = *max;
      const Number quota = to_number(take_word(words));  // "max": no number
      bound(quota, to_number(take_word(words)));
    }
    if (const auto stat = read_file(groups.unified.front() + "/cpu.stat")) {
      c.group_periods = number_after(*stat, "nr_periods");
      c.group_throttled_periods = number_after(*stat, "nr_throttled");
    }
  }
  if (!groups.cpuacct.empty()) {
    if (const Number ns = number_in(groups.cpuacct.front() + "/cpuacct.usage")) c.group_cpu_usec = *ns / 1000;
  } else if (!groups.unified.empty()) {
    if (const auto stat = read_file(groups.unified.front() + "/cpu.stat")) {
      c.group_cpu_usec = number_after(*stat, "usage_usec");
    }
  }
  const std::string set = !groups.cpuset.empty()   ? groups.cpuset.front()
                          : groups.unified.empty() ? ""
                                                   : groups.unified.front();
  for (const char* name : {"/cpuset.cpus.effective", "/cpuset.effective_cpus", "/cpuset.cpus"}) {
    const auto file = set.empty() ? std::nullopt : read_file(set + name);
    if (const auto cpus = file ? count_cpu_list(*file) : std::nullopt) {
      cores = std::min<double>(cores, *cpus);
      break;
    }
  }
  c.group_cores = cores;
}

void HostReader::read_memory(const Groups& groups, HostCounters& c) const {
  const auto working_set = [&](Number used, const std::string& stat_path, std::string_view cache) {
    if (!used) return;
    const auto stat = read_file(stat_path);
    const std::uint64_t inactive = stat ? number_after(*stat, cache).value_or(0) : 0;
    c.group_working_set_bytes = *used - std::min(*used, inactive);
  };
  if (!groups.memory.empty()) {
    const std::string& own = groups.memory.front();
    working_set(number_in(own + "/memory.usage_in_bytes"), own + "/memory.stat", "total_inactive_file");
    for (const std::string& folder : groups.memory)
      keep_least(c.group_limit_bytes, number_in(folder + "/memory.limit_in_bytes"));
    if (const auto oom = read_file(own + "/memory.oom_control"))
      c.group_oom_kills = number_after(*oom, "oom_kill");
  } else if (!groups.unified.empty()) {
    const std::string& own = groups.unified.front();
    working_set(number_in(own + "/memory.current"), own + "/memory.stat", "inactive_file");
    for (const std::string& folder : groups.unified) {
      keep_least(c.group_limit_bytes, number_in(folder + "/memory.max"));
      keep_least(c.group_limit_bytes, number_in(folder + "/memory.high"));
    }
    if (const auto events = read_file(own + "/memory.events"))
      c.group_oom_kills = number_after(*events, "oom_kill");
  }
  if (c.group_limit_bytes && *c.group_limit_bytes >= kNoBound) c.group_limit_bytes.reset();
}

void HostReader::read_pressure(const Groups& groups, HostCounters& c) const {
  const auto read = [&](const std::string& name) -> std::string {
    auto file =
        groups.unified.empty() ? std::nullopt : read_file(groups.unified.front() + "/" + name + ".pressure");
    if (!file || file->empty()) file = read_file(root_ + "/proc/pressure/" + name);
    return file.value_or("");
  };
  c.cpu_stall_usec = stall(read("cpu"), "some");
  const std::string memory = read("memory");
  c.memory_stall_usec = stall(memory, "some");
  c.memory_full_stall_usec = stall(memory, "full");
  c.io_stall_usec = stall(read("io"), "some");
}

}  // namespace perigee::health
