// The top level of the file: every section under its key.
#include <mutex>

#include "tables.h"
#include "values.h"

namespace perigee::config {
namespace {

constexpr Duration kDay = 24h;

template <typename M>
auto in(M Config::* member) {
  return [member](auto& draft) -> auto& { return draft.config.*member; };
}

template <typename M>
auto in_process(M Process::* member) {
  return [member](auto& draft) -> auto& { return draft.config.process.*member; };
}

void add_places(Table<Draft>& t) {
  t.add("listen", in(&Config::listeners), list_of(listener(), 64, true),
        "Where clients come in: an address, a map, or a list of them")
      .needs_restart();
  t.add("admin", in(&Config::admin), admin(), "Where operators look in: an address, `off`, or a map");
  t.add("workers", in(&Config::workers), list_of(worker(), kMaxWorkers), "The workers: addresses, or maps");
  Table<Draft::WrittenPool> pool;
  pool.add("workers", &Draft::WrittenPool::workers, list_of(text({.longest = kMaxNameBytes}), kMaxWorkers),
           "Names of its workers");
  pool.add("overload", &Draft::WrittenPool::overload, overload(), "Its controller besides the law of admission");
  pool.add("batch", &Draft::WrittenPool::batch, yes_or_no(),
           "Whether it is for batch work, granted in batches: `queue.batch_size`, `queue.batch_timeout`");
  t.add(
      "pools", [](auto& d) -> auto& { return d.pools; }, map_of(section(std::move(pool)), kMaxPools - 1),
      "Workers that serve the same requests, by name, for `routes`; everything else goes to all workers");
}

void add_load(Table<Draft>& t) {
  t.add("balancing", in(&Config::balancing), balancing(), "Choice of a worker");
  t.add("max_concurrent_requests", in(&Config::max_concurrent_requests), optional_of(count(1, 1'000'000)),
        "Hard ceiling of a worker's slots");
  t.add("provider_connections", in(&Config::provider_connections), provider_connections(),
        "Connections an ORBIT worker opens to its model provider, which no slots may exceed: 100, or "
        "`ollama` (5)");
  t.add("limits", in(&Config::limits), limits(), "How much at once, in the whole sidecar");
  Table<PerClass<double>> floors;
  add_classes(floors, [](auto& all) -> auto& { return all; }, share(0, 1),
              "Share of each worker's slots that is never denied to requests");
  t.add(
      "floors", [](auto& d) -> auto& { return d.config.shares.floor; }, section(std::move(floors)),
      "What a class can always have of a worker, though others fill its slots");
  Table<PerClass<std::uint32_t>> ceilings;
  add_classes(ceilings, [](auto& all) -> auto& { return all; }, count_or_none(1, 1'000'000),
              "Requests at once on one worker, until their end,");
  t.add(
      "ceilings", [](auto& d) -> auto& { return d.config.shares.ceiling; }, section(std::move(ceilings)),
      "What a class may take of a worker at most");
  t.add("slots", in(&Config::slots), slots(), "How much at once on one worker");
  t.add("pace", in(&Config::pace), pace(), "How many starts a second on one ORBIT worker");
  t.add("starting", in(&Config::starting), starting(), "How many requests may be starting on one worker");
  t.add("queue", in(&Config::queue), queue(), "How many may wait");
  t.add("queue_wait", in(&Config::queue_wait), queue_wait(),
        "How long they may wait: one duration, or one a class");
  t.add("throttle", in(&Config::throttle), throttle(),
        "What a machine short of CPU or memory does to low priority, then to normal: a map, or `off`");
  t.add("overload", in(&Config::overload), overload(),
        "A controller of the pool of all workers besides the law of admission; at most one");
  Table<PerClass<Duration>> deadlines;
  add_classes(deadlines, [](auto& all) -> auto& { return all; }, duration_or_none(1ms, kDay),
              "From a request's first byte until its answer is of no use,");
  t.add("deadlines", in(&Config::deadlines), section(std::move(deadlines)),
        "What cannot be answered by then is refused at once; X-Request-Deadline of trusted peers goes before it");
}

void add_behaviour(Table<Draft>& t) {
  t.add("clocks", in(&Config::clocks), clocks(), "Time-outs towards workers");
  Table<PerClass<ClassOverrides>> classes;
  add_classes(classes, [](auto& all) -> auto& { return all; }, class_overrides(), "Changes");
  t.add("classes", in(&Config::classes), section(std::move(classes)),
        "What is different for one class of work");
  t.add("abandoned", in(&Config::abandoned), abandoned(),
        "How long the answer of a request is read on whose client left");
  t.add("heart_beats", in(&Config::heart_beats), duration_or_none(100ms, 1h),
        "SSE comments to clients of streams that have heard nothing for so long, in the queue too");
  t.add("client", in(&Config::client), client(), "Time-outs towards clients");
  t.add("upstream", in(&Config::upstream), upstream(), "Kept connections to workers");
  t.add("retries", in(&Config::retries), retries(), "Further attempts after a failed one");
  t.add("breaker", in(&Config::breaker), breaker(), "Circuit breaker of each worker");
  t.add("probe", in(&Config::probe), probe(), "How workers are looked at");
}

void add_traffic(Table<Draft>& t) {
  t.add("heads", in(&Config::heads), heads(), "Bounds of message heads");
  t.add("bodies", in(&Config::bodies), bodies(), "Bounds of bodies");
  t.add("memory", in(&Config::memory), memory(), "Bounds of memory");
  t.add("encoded_slash", in(&Config::encoded_slash), one_of<EncodedSlash>(kEncodedSlashNames),
        "`%2F` in a path in front of workers that are not ORBIT");
  t.add("routes", in(&Config::routes), list_of(route(), 256),
        "Routes of your own, asked in this order before ORBIT's");
  t.add("trusted", in(&Config::trusted), list_of(cidr(), 256, true),
        "Peers whose X-Forwarded-*, X-Priority and X-Request-Deadline are believed");
  t.add("tenants", in(&Config::tenants), map_of(tenant(), kMaxTenants), "Tenants that have a name, by name");
  t.add("rate_limits", in(&Config::rate_limits), list_of(rate_limit(), kMaxRateLimits),
        "How much each tenant, address, or all together may ask for");
  t.add("redis", in(&Config::redis), redis(), "Redis, where several sidecars share rates");
  t.add("admin_routes", in(&Config::admin_routes), one_of<AdminRoutes>(kAdminRoutesNames),
        "Who may call ORBIT's pause, shutdown, restart and the like: everybody, or `trusted` peers");
  t.add("sessions", in(&Config::sessions), sessions(), "Turns and names of chat sessions, calls that one worker knows");
  t.add("tracing", in(&Config::tracing), tracing(), "W3C trace context of requests that have none");
  t.add("cors", in(&Config::cors), cors(), "CORS fields on our own errors: a map, or `off`");
}

void add_process(Table<Draft>& t) {
  t.add("access_log", in(&Config::access_log), access_log(), "The access log: `on`, `off`, or a map");
  t.add("log_level", in_process(&Process::log_level), one_of<LogLevel>(kLogLevelNames),
        "Least severity that is logged");
  t.add("io_threads", in_process(&Process::io_threads), count_or_auto(kMaxIoThreads),
        "Event loops; `auto` = 1 on up to 2 cores, else up to 4")
      .needs_restart();
  t.add("max_connections", in_process(&Process::max_connections), count_or_auto(10'000'000),
        "Client connections at once; `auto` = what the descriptor limit allows")
      .needs_restart();
  t.add("shutdown_delay", in_process(&Process::shutdown_delay), duration(0s, 1h),
        "From SIGTERM until listeners close");
  t.add("shutdown_timeout", in_process(&Process::shutdown_timeout), duration(0s, kDay),
        "Then running requests have this long to finish");
  t.add("detached_max", in_process(&Process::detached_max), duration(0s, kDay),
        "A request whose client left holds its slot this long, from dispatch");
}

Table<Draft> build() {
  Table<Draft> t;
  // First, because what is written under its own key overrides the block.
  add_performance(t);
  add_places(t);
  add_load(t);
  add_behaviour(t);
  add_traffic(t);
  add_process(t);
  add_later(t);
  return t;
}

}  // namespace

std::shared_ptr<const Table<Draft>> root_table() {
  static std::mutex mutex;
  static std::weak_ptr<const Table<Draft>> shared;
  const std::lock_guard lock(mutex);
  if (auto held = shared.lock()) return held;
  auto table = std::make_shared<const Table<Draft>>(build());
  shared = table;
  return table;
}

}  // namespace perigee::config
