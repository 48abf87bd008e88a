// The `performance:` block of ORBIT's concurrency roadmap, key by key with its effect in a sidecar.
//
// A key with an effect changes the section that holds it; the others are checked and told as not yet in
// effect.
#include <algorithm>

#include "tables.h"
#include "values.h"

namespace perigee::config {
namespace {

constexpr std::uint32_t kMost = 1'000'000;
constexpr Duration kDay = 24h;

struct Nothing {};

void add_thread_pools(Table<Draft>& performance) {
  struct Row {
    const char* key;
    ThreadPool pool;
    const char* doc;
  };
  constexpr std::array<Row, kThreadPoolCount> kRows = {
      {{"io_workers", ThreadPool::io, "starting.io: bound of starting requests of class files on one worker"},
       {"cpu_workers", ThreadPool::cpu, "starting.cpu: the same of class search"},
       {"inference_workers", ThreadPool::inference, "starting.inference: the same of class chat"},
       {"embedding_workers", ThreadPool::embedding, "starting.embedding: the same of class embeddings"},
       {"db_workers", ThreadPool::db, "starting.db: the same of classes admin, a2a and mcp together"}}};
  Table<Draft> t;
  for (const Row& row : kRows) {
    t.input<std::uint32_t>(row.key, count(1, kMost), row.doc,
                           [pool = row.pool](const std::uint32_t& n, Draft& d) {
                             d.config.starting.bound[static_cast<std::size_t>(pool)] = n;
                           });
  }
  performance.part("thread_pools", section(std::move(t)),
                   "ORBIT's thread pools, as bounds of starting requests");
}

Table<Draft> aiohttp() {
  Table<Draft> t;
  t.input<std::uint32_t>("total_connections", count(1, kMost),
                         "upstream.idle_total: idle connections kept, an event loop",
                         [](const std::uint32_t& n, Draft& d) { d.config.upstream.idle_total = n; });
  t.input<std::uint32_t>("per_host_connections", count(1, 100'000),
                         "upstream.idle_per_worker: idle connections kept, a worker and event loop",
                         [](const std::uint32_t& n, Draft& d) { d.config.upstream.idle_per_worker = n; });
  t.later("dns_cache_ttl", duration(0s, kDay), "how long the address of a worker's name is remembered");
  t.input<Duration>("connection_timeout", duration(1ms, 10min), "clocks.connect",
                    [](const Duration& v, Draft& d) { d.config.clocks.connect = v; });
  t.input<Duration>("read_timeout", duration(1ms, kDay),
                    "clocks.body_silence: silence in a body that is not a stream",
                    [](const Duration& v, Draft& d) { d.config.clocks.body_silence = v; });
  t.input<std::uint32_t>("retry_attempts", count(0, 10), "upper bound of `retries` of every class",
                         [](const std::uint32_t& n, Draft& d) {
                           for (std::uint32_t& retries : d.config.retries.by_class.values)
                             retries = std::min(retries, n);
                         });
  return t;
}

Codec<Nothing> databases() {
  Table<Nothing> mongodb;
  mongodb.later("min_pool_size", count(0, kMost), "pool of the MongoDB egress: least connections");
  mongodb.later("max_pool_size", count(1, kMost), "pool of the MongoDB egress: most connections");
  mongodb.later("max_idle_time", duration(0s, kDay), "pool of the MongoDB egress: idle time");
  mongodb.later("wait_queue_timeout", milliseconds(kDay),
                "pool of the MongoDB egress: longest wait for a connection");
  mongodb.later("server_selection_timeout", milliseconds(kDay),
                "pool of the MongoDB egress: longest wait for a server");
  mongodb.later("retry_writes", yes_or_no(), "MongoDB egress: retries");
  mongodb.later("retry_reads", yes_or_no(), "MongoDB egress: retries");
  Table<Nothing> redis;
  redis.later("max_connections", count(1, kMost), "pool of the Redis egress: most connections");
  redis.later("retry_on_timeout", yes_or_no(), "Redis egress: retries");
  redis.later("socket_keepalive", yes_or_no(), "Redis egress: TCP keep-alive");
  redis.later("health_check_interval", duration(0s, kDay), "Redis egress: probes of idle connections");
  Table<Nothing> t;
  t.later("mongodb", section(std::move(mongodb)), "connections from ORBIT to MongoDB through the sidecar");
  t.later("redis", section(std::move(redis)), "connections from ORBIT to Redis through the sidecar");
  return section(std::move(t));
}

Codec<Draft> connection_pools() {
  Table<Draft> t;
  t.part("aiohttp", section(aiohttp()), "connections by HTTP: kept ones to workers");
  t.later("database", databases(), "connections to databases");
  return section(std::move(t));
}

void add_queue(Table<Draft>& performance) {
  Table<Draft> t;
  t.input<std::uint32_t>("max_size", count(0, kMost), "queue.entries",
                         [](const std::uint32_t& n, Draft& d) { d.config.queue.entries = n; });
  t.input<std::uint32_t>("priority_queue_size", count(0, kMost), "queue.priority_entries",
                         [](const std::uint32_t& n, Draft& d) { d.config.queue.priority_entries = n; });
  t.input<std::uint32_t>("batch_size", count(1, 10'000), "queue.batch_size: of pools marked `batch`",
                         [](const std::uint32_t& n, Draft& d) { d.config.queue.batch_size = n; });
  t.input<Duration>("batch_timeout", duration(0s, 1min), "queue.batch_timeout",
                    [](const Duration& v, Draft& d) { d.config.queue.batch_timeout = v; });
  performance.part("request_queue", section(std::move(t)), "The queue");
}

void add_caching(Table<Draft>& performance) {
  const auto cache = [](const std::string& what) {
    Table<Nothing> t;
    t.later("max_size", count(1, 100'000'000), what + ": entries");
    t.later("ttl", duration(0s, 365 * kDay), what + ": life of an entry");
    return section(std::move(t));
  };
  Table<Nothing> t;
  t.later("response_cache", cache("cache of responses"), "Cache of responses");
  t.later("model_cache", cache("cache of inference results"), "Cache of inference results");
  performance.later("caching", section(std::move(t)), "Caches");
}

void add_monitoring(Table<Draft>& performance) {
  Table<Draft> t;
  t.later("metrics_interval", duration(1ms, kDay), "interval of sampling");
  t.input<Duration>("health_check_interval", duration(50ms, 1h), "probe.interval",
                    [](const Duration& v, Draft& d) { d.config.probe.interval = v; });
  t.input<bool>("performance_logging", yes_or_no(), "access_log.enabled",
                [](const bool& on, Draft& d) { d.config.access_log.enabled = on; });
  performance.part("monitoring", section(std::move(t)), "Probes and the request log");
}

void add_scaling(Table<Draft>& performance) {
  Table<Nothing> t;
  t.later("enabled", yes_or_no(), "whether worker processes are started and stopped with the load");
  t.later("min_workers", count(1, 1024), "fewest worker processes");
  t.later("max_workers", count(1, 1024), "most worker processes");
  t.later("cpu_threshold_up", percent(), "CPU above which a worker is added");
  t.later("cpu_threshold_down", percent(), "CPU below which a worker is taken away");
  t.later("memory_threshold_up", percent(), "memory above which a worker is added");
  t.later("memory_threshold_down", percent(), "memory below which a worker is taken away");
  t.later("scale_up_cooldown", duration(0s, kDay), "least time between two additions");
  t.later("scale_down_cooldown", duration(0s, kDay), "least time between two removals");
  performance.later("auto_scaling", section(std::move(t)), "Scaling");
}

}  // namespace

void add_performance(Table<Draft>& table) {
  Table<Draft> t;
  t.later("workers", count(1, 1024), "number of worker processes that the supervisor keeps");
  t.input<std::uint32_t>("max_concurrent_requests", count(1, kMost),
                         "max_concurrent_requests: ceiling of a worker's slots",
                         [](const std::uint32_t& n, Draft& d) { d.config.max_concurrent_requests = n; });
  t.input<Duration>(
      "request_timeout", duration(1ms, kDay), "clocks.head and clocks.head_stream: dispatch to head",
      [](const Duration& v, Draft& d) { d.config.clocks.head = d.config.clocks.head_stream = v; });
  t.input<Duration>("keep_alive_timeout", duration(0s, kDay),
                    "client.keep_alive: idle time between two requests",
                    [](const Duration& v, Draft& d) { d.config.client.keep_alive = v; });
  add_thread_pools(t);
  t.part("connection_pools", connection_pools(), "Connection pools");
  add_queue(t);
  add_caching(t);
  add_monitoring(t);
  add_scaling(t);
  table.part("performance", section(std::move(t)), "The block of ORBIT's concurrency roadmap");
  table.part("connection_pools", connection_pools(),
             "The same as `performance.connection_pools`, and before it");
}

}  // namespace perigee::config
