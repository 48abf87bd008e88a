#include "throttling.h"

#include <algorithm>
#include <charconv>
#include <fstream>

namespace perigee::app {

namespace {

// A walk through all processes: one worker in a tick, and not often for one that cannot be found.
constexpr Duration kSearchAgain = std::chrono::seconds(30);

// `127.0.0.1:3001`, `[::1]:3001`; nothing for what is not loopback: another machine's port means nothing here.
bool loopback_of(const net::Endpoint& at, std::string& ip, std::uint16_t& port) {
  if (at.is_unix()) return false;
  const std::string text = at.text();
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos) return false;
  ip = text.substr(0, colon);
  if (ip.starts_with('[')) ip = ip.substr(1, ip.size() - 2);
  std::from_chars(text.data() + colon + 1, text.data() + text.size(), port);
  return ip == "::1" || ip.starts_with("127.");
}

std::vector<int> pid_in(const std::string& file) {
  std::ifstream in(file);
  int pid = 0;
  if (in >> pid && pid > 0) return {pid};
  return {};
}

admission::ResourceSample sample_of(const health::HostLoad& load) {
  return {.cpu = load.cpu(),
          .cpu_quota = load.group_throttle,
          .memory = load.memory(),
          .cpu_pressure = load.cpu_pressure,
          .memory_pressure = load.memory_pressure,
          .memory_full_pressure = load.memory_full_pressure,
          .io_pressure = load.io_pressure};
}

}  // namespace

Throttling::Throttling(dispatch::Dispatcher& dispatcher, FleetView& view, telemetry::Log& log)
    : dispatcher_(dispatcher), view_(view), log_(log) {}

void Throttling::set(const proxy::Plan& plan) {
  const config::Throttle& written = plan.config->throttle;
  own_kills_file_ = host_reader_.kills_file_of(0);
  marks_ = {written.enabled, written.cpu, written.cpu_hard, written.memory, written.memory_hard};
  throttle_.configure(marks_);
  view_.throttle_report.marks = marks_;
  idle_told_ = false;
  std::map<std::string, Worker> now_known;
  for (std::size_t i = 0; i < plan.config->workers.size(); ++i) {
    const config::Worker& w = plan.config->workers[i];
    Worker worker;
    worker.ref = dispatcher_.backend(w.name);
    if (!worker.ref.exists()) continue;
    if (!loopback_of(plan.endpoints[i], worker.ip, worker.port)) worker.ip.clear();
    worker.pid_file = w.pid_file;
    worker.written_limit = w.memory_limit;
    const auto before = workers_.find(w.name);
    const bool same = before != workers_.end() && before->second.ref == worker.ref && before->second.pid_file == w.pid_file &&
                      before->second.written_limit == w.memory_limit;
    now_known.emplace(w.name, same ? std::move(before->second) : std::move(worker));
  }
  workers_ = std::move(now_known);
  std::erase_if(view_.throttle_report.workers, [&](const auto& entry) { return !workers_.contains(entry.first); });
}

void Throttling::find_processes(Worker& worker, TimePoint now) {
  if (now < worker.search_at) return;
  std::vector<int> pids;
  if (!worker.pid_file.empty()) {
    pids = pid_in(worker.pid_file);
  } else if (!worker.ip.empty()) {
    if (searched_++ != 0) return;  // the next tick has time for it
    pids = processes_.find_listeners(worker.ip, worker.port);
  }
  worker.search_at = now + kSearchAgain;
  for (const int pid : pids) {
    if (const auto found = processes_.read(pid)) worker.processes.push_back({*found, {}});
  }
  if (worker.processes.empty()) return;
  worker.kills_file = host_reader_.kills_file_of(worker.processes.front().last.pid);
  worker.limit = worker.written_limit ? worker.written_limit : host_reader_.memory_limit_of(worker.processes.front().last.pid);
}

void Throttling::look_at(const std::string& name, Worker& worker, TimePoint now) {
  if (worker.processes.empty()) find_processes(worker, now);
  double cores = 0;
  std::uint64_t bytes = 0;
  std::size_t rated = 0;
  bool changed = false;
  for (Process& process : worker.processes) {
    const auto read = processes_.read(process.last.pid);
    changed = changed || !read || read->start_ticks != process.last.start_ticks;
    if (changed) break;
    process.last = *read;
    bytes += read->resident_bytes;
    if (const auto rate = process.stats.cores(*read, now)) {
      cores += *rate;
      ++rated;
    }
  }
  if (changed) {  // it was restarted: look for the new one at once
    worker.processes.clear();
    worker.search_at = now;
    rated = 0;
    bytes = 0;
  }
  mourn(name, worker, changed, now);
  std::optional<double> cpu;
  // Several processes on one socket share its work: each computes on a core of its own.
  if (rated != 0 && rated == worker.processes.size()) cpu = cores / static_cast<double>(rated);
  const auto& told = view_.probes[name].load.cores;
  if (worker.processes.empty() && told && *told != worker.told_cores) cpu = worker.told_cores = *told;
  std::optional<double> memory;
  if (worker.limit && bytes != 0) memory = static_cast<double>(bytes) / static_cast<double>(*worker.limit);

  const bool was = worker.heat.hot();
  worker.heat.update(cpu, memory, marks_.memory);
  admin::ThrottleReport::Worker& shown = view_.throttle_report.workers[name];
  shown.pid = worker.processes.empty() ? 0 : worker.processes.front().last.pid;
  if (cpu) shown.cpu = cpu;
  shown.memory = memory;
  shown.cpu_hot = worker.heat.cpu_hot();
  shown.memory_hot = worker.heat.memory_hot();
  if (was != worker.heat.hot()) {
    view_.note("throttle", {{"worker", name}, {"hot", worker.heat.hot() ? "true" : "false"}});
    log_.repeated(telemetry::LogLevel::info, "heat of " + name, worker.heat.hot() ? "a worker is hot" : "a worker is no longer hot",
                  {{"worker", name}, {"cpu", shown.cpu.value_or(-1)}, {"memory", memory.value_or(-1)}});
  }
}

// Its breaker opens: what died of memory once does so again if it gets all its work back at once.
void Throttling::mourn(const std::string& name, Worker& worker, bool gone, TimePoint now) {
  if (worker.kills_file.empty()) return;
  const bool shared = worker.kills_file == own_kills_file_ || std::ranges::any_of(workers_, [&](const auto& other) {
    return &other.second != &worker && other.second.kills_file == worker.kills_file;
  });
  if (!worker.death.update(health::HostReader::kills_in(worker.kills_file), gone, shared, now)) return;
  ++view_.throttle_report.workers[name].killed_for_memory;
  view_.note("breaker", {{"worker", name}, {"change", "opened"}, {"reason", "killed_for_memory"}});
  log_.error("the kernel killed a worker for its memory; its breaker opens", {{"worker", name}});
  dispatcher_.eject_backend(worker.ref, Duration::zero(), now);
}

void Throttling::tell(const admission::ThrottleState& s, admission::ThrottleStep before, TimePoint now) {
  admin::ThrottleReport& report = view_.throttle_report;
  report.state = s;
  if (s.step == before) return;
  ++report.changes;
  report.since = now;
  view_.note("throttle", {{"step", to_string(s.step)}, {"before", to_string(before)}, {"cause", to_string(s.cause)}});
  const auto level = s.step > before ? telemetry::LogLevel::warning : telemetry::LogLevel::info;
  log_.repeated(level, std::string("throttle ") + std::string(to_string(s.step)), "throttle",
                {{"step", to_string(s.step)},
                 {"before", to_string(before)},
                 {"cause", to_string(s.cause)},
                 {"level", s.level},
                 {"cpu", s.cpu.value_or(-1)},
                 {"memory", view_.host().memory().value_or(-1)},
                 {"standing_queue", s.standing}});
}

void Throttling::tick(TimePoint now) {
  const health::HostLoad load = host_stats_.update(host_reader_.read(), now);
  view_.set_host(load);
  if (load.new_oom_kills != 0) log_.error("the kernel killed a process of this control group for its memory", {{"processes", load.new_oom_kills}});
  if (!marks_.enabled && idle_told_) return;

  const admission::ThrottleStep before = throttle_.state().step;
  const admission::ThrottleState& state = throttle_.update(sample_of(load), dispatcher_.standing_queue(now), now);
  tell(state, before, now);
  std::vector<dispatch::BackendRef> hot;
  searched_ = 0;
  for (auto& [name, worker] : workers_) {
    if (marks_.enabled) look_at(name, worker, now);
    if (marks_.enabled && worker.heat.hot()) hot.push_back(worker.ref);
  }
  const bool idle = hot.empty() && state.orders == admission::ThrottleOrders{};
  if (idle && idle_told_) return;
  dispatcher_.set_throttle(state.orders, hot, now);
  idle_told_ = idle;
}

}  // namespace perigee::app
