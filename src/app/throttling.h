// Between the machine and the dispatcher: what machine, control group and workers' processes use becomes what the
// throttle wants.
//
// A worker's process is the one in its `pid_file`, or, where the worker is on loopback, the one that holds its
// listening socket; of processes of other users the kernel tells that to root only. Elsewhere the CPU that the
// worker's own metrics tell is used. Control thread only.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "fleet_view.h"
#include "perigee/admission/throttle.h"
#include "perigee/dispatch/dispatcher.h"
#include "perigee/health/host_stats.h"
#include "perigee/health/process_stats.h"
#include "perigee/proxy/loop_proxy.h"
#include "perigee/telemetry/log.h"

namespace perigee::app {

class Throttling {
 public:
  static constexpr Duration kEvery = std::chrono::milliseconds(500);

  Throttling(dispatch::Dispatcher& dispatcher, FleetView& view, telemetry::Log& log);
  // The workers and marks of this plan from now on; what is known of workers that stay is kept.
  void set(const proxy::Plan& plan);
  // Every kEvery.
  void tick(TimePoint now);

 private:
  struct Process {
    health::ProcessCounters last;
    health::ProcessStats stats;
  };
  struct Worker {
    dispatch::BackendRef ref;
    std::string ip;  // where it listens, if that is loopback
    std::uint16_t port = 0;
    std::string pid_file;
    std::optional<std::uint64_t> written_limit;
    std::optional<std::uint64_t> limit;
    std::vector<Process> processes;
    TimePoint search_at{};
    double told_cores = -1;  // by its own metrics, the last time
    admission::WorkerHeat heat;
    std::string kills_file;  // of its control group
    admission::MemoryDeath death;
  };

  void find_processes(Worker& worker, TimePoint now);
  void look_at(const std::string& name, Worker& worker, TimePoint now);
  void mourn(const std::string& name, Worker& worker, bool gone, TimePoint now);
  void tell(const admission::ThrottleState& now_state, admission::ThrottleStep before, TimePoint now);

  dispatch::Dispatcher& dispatcher_;
  FleetView& view_;
  telemetry::Log& log_;
  health::HostReader host_reader_;
  health::HostStats host_stats_;
  health::ProcessReader processes_;
  std::string own_kills_file_;
  admission::ThrottleMarks marks_;
  admission::Throttle throttle_{marks_};
  std::map<std::string, Worker> workers_;
  std::size_t searched_ = 0;  // in this tick
  bool idle_told_ = false;    // the dispatcher knows that nothing is wanted
};

}  // namespace perigee::app
