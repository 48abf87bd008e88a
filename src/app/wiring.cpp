#include "wiring.h"

#include <algorithm>

namespace perigee::app {

namespace {

static_assert(static_cast<int>(config::Overload::pi) == static_cast<int>(admission::OverloadKind::pi) &&
              config::kOverloadNames.size() == 4);

dispatch::BackendSpec spec_of(const config::Config& config, const config::Worker& worker) {
  dispatch::BackendSpec spec;
  spec.name = worker.name;
  spec.address = worker.origin();
  spec.weight = worker.weight;
  spec.kind = worker.kind;
  spec.orbit_ceiling = config.slot_ceiling(worker, WorkerKind::orbit);
  spec.http_slots = config.slot_ceiling(worker, WorkerKind::http);
  return spec;
}

dispatch::Policy policy_of(const config::Config& config) {
  dispatch::Policy policy;
  policy.limits.streams = config.limits.streams;
  for (std::size_t c = 0; c < kClassCount; ++c) {
    const auto limit = config.limits.by_class.values[c];
    policy.limits.before_first_event[c] = limit == config::kUnbounded ? admission::kNoLimit : limit;
  }
  policy.queue = {config.queue.entries, config.queue.priority_entries, config.queue.bytes};
  policy.batch_size = config.queue.batch_size;
  policy.batch_timeout = config.queue.batch_timeout;
  policy.floors = config.shares.floor.values;
  for (std::size_t c = 0; c < kClassCount; ++c) {
    const std::uint32_t most = config.shares.ceiling.values[c];
    policy.ceilings[c] = most == config::kUnbounded ? dispatch::kUnbounded : most;
  }
  policy.tenant_turns = config.takes_turns();
  policy.deadlines = !config.trusted.empty() || config.deadlines != config::PerClass<Duration>(config::kNoClock);
  policy.head_lag.start_pace = config.pace.start;
  policy.head_lag.start_slots = config.slots.start;
  policy.head_lag.recovered_pace = config.pace.recovered;
  policy.head_lag.recovered_slots = config.slots.recovered;
  policy.head_lag.least_pace = config.pace.floor;
  policy.head_lag.most_pace = config.pace.ceiling;
  policy.head_lag.least_slots = config.slots.floor;
  policy.steered = config.slots.steering == config::Steering::head_lag;
  policy.http_adaptive = config.slots.http_steering == config::TimeSteering::adaptive;
  if (config.slots.http_objective != config::kNoClock) policy.http_objective = config.slots.http_objective;
  policy.class_adaptive = config.slots.class_steering == config::TimeSteering::adaptive;
  policy.picker = config::kPickerNames[static_cast<std::size_t>(config.balancing.picker)];
  policy.hold.hold = config.balancing.hold;
  policy.affinity_bound = config.balancing.load_bound;
  policy.breaker.consecutive = config.breaker.consecutive;
  policy.breaker.ratio = config.breaker.ratio;
  policy.breaker.ratio_minimum = config.breaker.ratio_minimum;
  policy.breaker.window = config.breaker.window;
  policy.breaker.open_base = config.breaker.open;
  policy.breaker.open_max = config.breaker.open_max;
  policy.breaker.jitter = config.breaker.jitter;
  policy.breaker.trials = config.breaker.trials;
  policy.health.fall = config.probe.fall;
  policy.health.rise = config.probe.rise;
  policy.health.silence = config.probe.silent;
  policy.retries.share.fill(config.retries.budget);
  // A chat costs more than anything else to do twice.
  policy.retries.share[static_cast<std::size_t>(RequestClass::chat)] = config.retries.budget / 2;
  for (std::size_t c = 0; c < kClassCount; ++c) {
    const auto request_class = static_cast<RequestClass>(c);
    const std::size_t pool = dispatch::start_pool_of(request_class);
    if (pool < dispatch::kStartPoolCount) policy.starting[pool] = config.starting.of(request_class);
  }
  policy.critical_slots = config.slots.critical;
  policy.tunnels = config.limits.tunnels;
  return policy;
}

}  // namespace

dispatch::Setup dispatch_setup(const config::Config& config) {
  dispatch::Setup setup;
  for (const config::Worker& worker : config.workers) setup.backends.push_back(spec_of(config, worker));
  for (const config::Pool& pool : config.pools) {
    setup.pools.push_back({pool.name, pool.workers, static_cast<admission::OverloadKind>(pool.overload), pool.batch});
  }
  setup.policy = policy_of(config);
  return setup;
}

unsigned io_threads(const config::Config& config, unsigned cores) {
  if (config.process.io_threads != 0) return std::min<unsigned>(config.process.io_threads, dispatch::kMaxLoops - 1);
  return cores <= 2 ? 1 : std::min(cores, 4U);
}

}  // namespace perigee::app
