// How much at once, and who waits.
#include "tables.h"
#include "units.h"
#include "values.h"

namespace perigee::config {

namespace {
constexpr std::uint32_t kMost = 1'000'000;
constexpr Duration kDay = 24h;
}  // namespace

Codec<Balancing> balancing() {
  Table<Balancing> t;
  t.add("picker", &Balancing::picker, one_of<Picker>(kPickerNames),
        "How a worker is chosen among those with a slot");
  t.add("affinity", &Balancing::affinity, one_of<Affinity>(kAffinityNames),
        "`session`: chats of one session prefer the ORBIT worker that served the last; `hash`: the one that several "
        "sidecars agree on; `none`");
  t.add("load_bound", &Balancing::load_bound, number(1, 100),
        "How much busier than its share of all a preferred worker may be");
  t.add("hold", &Balancing::hold, number(0, 100),
        "A worker N times slower than the fastest is left idle while fewer than hold × N requests wait; 0 = never");
  return section(std::move(t));
}

Codec<std::uint32_t> provider_connections() {
  const Codec<std::uint32_t> number = count(1, kMost);
  Codec<std::uint32_t> codec = number;
  codec.schema["anyOf"].push_back(Json{{"const", "ollama"}});
  codec.read = [number](Reader& r, const Node& n, std::uint32_t& out) {
    constexpr std::uint32_t kOllama = 5;  // ORBIT's client for Ollama opens no more
    if (n.kind == Node::Kind::scalar && n.text == "ollama") {
      out = kOllama;
      return true;
    }
    return number.read(r, n, out);
  };
  return codec;
}

Codec<Limits> limits() {
  Table<Limits> t;
  t.add("streams", &Limits::streams, count_or_none(1, kMost),
        "Streamed answers at once, after their first event");
  t.add("tunnels", &Limits::tunnels, count_or_none(1, kMost),
        "Tunnels and endless GETs at once on one worker");
  add_classes(t, &Limits::by_class, count_or_none(1, kMost),
              "Requests at once, until their first event or end,");
  return section(std::move(t));
}

Codec<Slots> slots() {
  Table<Slots> t;
  t.add("steering", &Slots::steering, one_of<Steering>(kSteeringNames),
        "`head_lag`: slots and pace follow the worker's own delay; `fixed`: they stay as written");
  t.add("start", &Slots::start, count(1, kMost), "Slots of an ORBIT worker to begin with");
  t.add("recovered", &Slots::recovered, count(1, kMost), "Slots of an ORBIT worker that is new or came back");
  t.add("floor", &Slots::floor, count(1, kMost), "Steering never goes below");
  t.add("http", &Slots::http, count(1, kMost),
        "Slots of a worker that is not ORBIT, unless max_concurrent_requests is written");
  t.add("http_steering", &Slots::http_steering, one_of<TimeSteering>(kTimeSteeringNames),
        "`fixed`: they stay as written; `adaptive`: found from the times to the first event, below what is written");
  t.add("http_objective", &Slots::http_objective, duration_or_none(1ms, 10min),
        "Adaptive: a time to the first event that is well for these workers, about twice what it takes with nothing "
        "else to do; held to until ten quiet seconds have told. none: found by searching");
  t.add("class_steering", &Slots::class_steering, one_of<TimeSteering>(kTimeSteeringNames),
        "`adaptive`: embeddings, search and files on an ORBIT worker have slots of their own each, found from their times");
  t.add("critical", &Slots::critical, count(1, 1000),
        "Extra slots a worker that only critical requests take");
  return section(std::move(t));
}

Codec<Pace> pace() {
  Table<Pace> t;
  t.add("start", &Pace::start, number(0, 1e6),
        "Starts a second on an ORBIT worker to begin with; 0 = no pace");
  t.add("recovered", &Pace::recovered, number(0, 1e6),
        "The same for one that is new or came back; 0 = no pace");
  t.add("floor", &Pace::floor, number(0.01, 1e6), "Steering never goes below");
  t.add("ceiling", &Pace::ceiling, number(0.01, 1e6), "Steering never goes above");
  return section(std::move(t));
}

Codec<Starting> starting() {
  struct Row {
    const char* key;
    ThreadPool pool;
    const char* classes;
  };
  constexpr std::array<Row, kThreadPoolCount> kRows = {{{"inference", ThreadPool::inference, "chat"},
                                                        {"embedding", ThreadPool::embedding, "embeddings"},
                                                        {"io", ThreadPool::io, "files"},
                                                        {"db", ThreadPool::db, "admin, a2a and mcp"},
                                                        {"cpu", ThreadPool::cpu, "search"}}};
  Table<Starting> t;
  for (const Row& row : kRows) {
    const auto index = static_cast<std::size_t>(row.pool);
    t.add(
        row.key, [index](auto& s) -> auto& { return s.bound[index]; }, count_or_none(1, kMost),
        std::string("Requests of class ") + row.classes + " that may be starting at once on one worker");
  }
  return section(std::move(t));
}

Codec<Queue> queue() {
  Table<Queue> t;
  t.add("entries", &Queue::entries, count(0, kMost), "Requests that may wait");
  t.add("priority_entries", &Queue::priority_entries, count(0, kMost),
        "More of them, critical and high ones only");
  t.add("bytes", &Queue::bytes, bytes(64 * kKiB, 64 * 1024 * kMiB),
        "Memory for bodies of requests that wait");
  t.add("batch_size", &Queue::batch_size, count(1, 10'000),
        "In pools marked `batch`: requests are granted together when so many wait …");
  t.add("batch_timeout", &Queue::batch_timeout, duration(0s, 1min), "… or when the oldest has waited for so long");
  t.add("tenant_turns", &Queue::tenant_turns, optional_of(yes_or_no()),
        "Whether tenants that wait take fair turns; by default where `tenants` or `rate_limits` are written");
  return section(std::move(t));
}

Codec<QueueWait> queue_wait() {
  const Codec<Duration> wait = duration(1ms, kDay);
  Table<QueueWait> t;
  add_classes(t, &QueueWait::by_class, wait, "Longest wait for a worker");
  t.add("http_workers", &QueueWait::http, wait, "The same in front of workers that are not ORBIT");
  Codec<QueueWait> codec = section(std::move(t));
  codec.schema = {{"anyOf", Json::array({codec.schema, wait.schema})}};
  codec.read = [full = codec.read, wait](Reader& r, const Node& n, QueueWait& out) {
    if (n.kind != Node::Kind::scalar) return full(r, n, out);
    Duration all{};
    if (!wait.read(r, n, all)) return false;
    out.by_class = PerClass<Duration>(all);
    out.http = all;
    return true;
  };
  return codec;
}

Codec<Throttle> throttle() {
  Table<Throttle> t;
  t.add("enabled", &Throttle::enabled, yes_or_no(), "Whether anything is done");
  t.add("cpu", &Throttle::cpu, share(0, 1), "CPU above which low priority waits and nothing grows");
  t.add("cpu_hard", &Throttle::cpu_hard, share(0, 1), "CPU above which, with a standing queue, low and then normal are refused");
  t.add("memory", &Throttle::memory, share(0, 1), "Memory above which low priority waits; of a worker: above which it is avoided");
  t.add("memory_hard", &Throttle::memory_hard, share(0, 1), "Memory above which low and then normal are refused");
  Codec<Throttle> codec = section(std::move(t));
  codec.schema = {{"anyOf", Json::array({codec.schema, Json{{"enum", {"off", false}}}})}};
  codec.read = [full = codec.read](Reader& r, const Node& n, Throttle& out) {
    if (n.kind != Node::Kind::scalar) return full(r, n, out);
    if (n.text != "off" && n.text != "false") return r.mismatch(n, "`off` or a map");
    out.enabled = false;
    return true;
  };
  return codec;
}

// Two controllers on one queue would fight over the same signal.
Codec<Overload> overload() {
  Codec<Overload> codec = one_of<Overload>(kOverloadNames);
  codec.read = [one = codec.read](Reader& r, const Node& n, Overload& out) {
    if (n.kind == Node::Kind::scalar) return one(r, n, out);
    return r.mismatch(n, "one of `none`, `codel`, `lifo`, `pi`: at most one a pool");
  };
  return codec;
}

}  // namespace perigee::config
