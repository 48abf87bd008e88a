// Whole files: the roadmap's block, our own templates, random damage.
#include "perigee/config/loader.h"

#include <algorithm>

#include <doctest/doctest.h>

#include "files.h"
#include "perigee/base/random.h"

namespace perigee::config {
namespace {

const Environment kNone;

Config load_or_fail(const std::string& path) {
  const LoadResult result = load(path, kNone);
  if (!result) FAIL(format_diagnostics(result.error()));
  return *result->config;
}

Config parse_or_fail(const std::string& text) {
  const LoadResult result = parse(text, "main.yaml", kNone);
  if (!result) FAIL(format_diagnostics(result.error()));
  return *result->config;
}

}  // namespace

TEST_CASE("the roadmap's performance block as it stands") {
  const std::string path = test::source_root() + "/tests/data/config/roadmap-performance.yaml";
  const LoadResult result = load(path, kNone);
  if (!result) FAIL(format_diagnostics(result.error()));
  const Config& c = *result->config;
  CHECK(why_not_startable(c));
  CHECK(c.max_concurrent_requests == 1000);
  CHECK(c.clocks.head == 30s);
  CHECK(c.clocks.head_stream == 30s);
  CHECK(c.client.keep_alive == 30s);
  CHECK(c.starting.of(RequestClass::files) == 50);
  CHECK(c.starting.of(RequestClass::search) == 30);
  CHECK(c.starting.of(RequestClass::chat) == 20);
  CHECK(c.starting.of(RequestClass::embeddings) == 15);
  CHECK(c.starting.of(RequestClass::admin) == 25);
  CHECK(c.starting.of(RequestClass::mcp) == 25);
  CHECK(c.starting.of(RequestClass::health) == kUnbounded);
  CHECK(c.upstream.idle_total == 100);
  CHECK(c.upstream.idle_per_worker == 20);
  CHECK(c.clocks.connect == 10s);
  CHECK(c.clocks.body_silence == 30s);
  CHECK(c.clocks.silence == 300s);  // of streams, which read_timeout does not touch
  CHECK(c.queue.entries == 5000);
  CHECK(c.queue.priority_entries == 1000);
  CHECK(c.probe.interval == 10s);
  CHECK(c.access_log.enabled);
  // Everything else in the block is told: nothing is ignored in silence.
  const auto told = [&](const std::string& key) {
    return std::ranges::any_of(c.not_yet, [&](const NotYet& n) { return n.key == "performance." + key; });
  };
  for (const char* key : {"workers",
                          "connection_pools.aiohttp.dns_cache_ttl",
                          "connection_pools.database.mongodb.min_pool_size",
                          "connection_pools.database.mongodb.max_pool_size",
                          "connection_pools.database.mongodb.max_idle_time",
                          "connection_pools.database.redis.max_connections",
                          "connection_pools.database.redis.retry_on_timeout",
                          "caching.response_cache.max_size",
                          "caching.response_cache.ttl",
                          "caching.model_cache.max_size",
                          "caching.model_cache.ttl",
                          "monitoring.metrics_interval",
                          "auto_scaling.enabled",
                          "auto_scaling.cpu_threshold_up",
                          "auto_scaling.cpu_threshold_down",
                          "auto_scaling.memory_threshold_up",
                          "auto_scaling.memory_threshold_down",
                          "auto_scaling.scale_up_cooldown",
                          "auto_scaling.scale_down_cooldown"}) {
    CAPTURE(key);
    CHECK(told(key));
  }
  const std::string report = format_check_report(*result);
  CHECK(report.starts_with(path + ": OK\n"));
  CHECK(report.find("performance.workers = 4") != std::string::npos);
  CHECK(report.find("Warnings:") != std::string::npos);
  for (const char* standing : {"merging", "broadcast"}) {
    CHECK(report.find("\n  " + std::string(standing) + ": ") != std::string::npos);
  }
}

TEST_CASE("our templates are good and can be started") {
  for (const char* name : {"perigee", "small", "medium", "large", "reference"}) {
    CAPTURE(name);
    const Config c = load_or_fail(test::source_root() + "/conf/" + name + ".yaml");
    CHECK_FALSE(why_not_startable(c));
    // Nothing in a template is a promise for later.
    CHECK(std::ranges::none_of(c.not_yet, [](const NotYet& n) { return !n.where.empty(); }));
  }
}

TEST_CASE("the reference holds the defaults") {
  Config c = load_or_fail(test::source_root() + "/conf/reference.yaml");
  CHECK(c.workers.size() == 2);
  Config standard;
  c.source.clear();
  c.workers.clear();
  c.pools.clear();
  c.not_yet.clear();
  CHECK(c == standard);
}

TEST_CASE("what is derived: ceilings and clocks of a class") {
  const Config c = parse_or_fail(
      "workers: [http://127.0.0.1:3001, {url: 'http://127.0.0.1:3002', max_concurrent_requests: 7},\n"
      "          {url: 'http://127.0.0.1:3003', provider_connections: ollama}]\n"
      "classes: {chat: {head: 5s}}\n");
  CHECK(c.slot_ceiling(c.workers[0], WorkerKind::orbit) == 100);
  CHECK(c.slot_ceiling(c.workers[0], WorkerKind::unknown) == 100);
  CHECK(c.slot_ceiling(c.workers[0], WorkerKind::http) == 1024);
  CHECK(c.slot_ceiling(c.workers[1], WorkerKind::orbit) == 7);
  CHECK(c.slot_ceiling(c.workers[1], WorkerKind::http) == 7);
  CHECK(c.slot_ceiling(c.workers[2], WorkerKind::orbit) == 5);
  CHECK(c.clock(RequestClass::chat, &ClassOverrides::head, &Clocks::head) == 5s);
  CHECK(c.clock(RequestClass::chat, &ClassOverrides::head_stream, &Clocks::head_stream) == 60s);
  CHECK(c.clock(RequestClass::search, &ClassOverrides::head, &Clocks::head) == 300s);
  CHECK(c.queue_wait.of(RequestClass::chat, true) == 30s);
  CHECK(c.queue_wait.of(RequestClass::other, false) == 30s);
  CHECK(c.bodies.of(RequestClass::files, true) == 64 * kMiB);
  CHECK(c.bodies.of(RequestClass::chat, true) == 8 * kMiB);
  CHECK(c.bodies.of(RequestClass::chat, false) == 64 * kMiB);
  REQUIRE(c.pools.size() == 1);
  CHECK(c.pools[0].workers == std::vector<std::uint32_t>{0, 1, 2});
  const Config high = parse_or_fail("workers: [http://127.0.0.1:3001]\nmax_concurrent_requests: 6000\n");
  CHECK(high.slot_ceiling(high.workers[0], WorkerKind::http) == 6000);
  CHECK(high.slot_ceiling(high.workers[0], WorkerKind::orbit) == 100);
}

TEST_CASE("trust") {
  const Config nobody = parse_or_fail("workers: []\n");
  CHECK_FALSE(nobody.is_trusted(*parse_ip("127.0.0.1")));
  const Config some = parse_or_fail("trusted: [127.0.0.1, fd00::/8]\n");
  CHECK(some.is_trusted(*parse_ip("127.0.0.1")));
  CHECK(some.is_trusted(*parse_ip("fd12::1")));
  CHECK_FALSE(some.is_trusted(*parse_ip("127.0.0.2")));
}

TEST_CASE("errors are bounded, and cannot move a terminal's cursor") {
  std::string text;
  for (int i = 0; i < 5000; ++i)
    text += "k" + std::to_string(i) + ": 1\n";
  const LoadResult many = parse(text, "main.yaml", kNone);
  REQUIRE_FALSE(many);
  CHECK(many.error().size() == 101);
  CHECK(to_string(many.error().back()) == "4900 more errors");
  const LoadResult odd = parse("\"a\\e[2Jb\": \"x\\ny\"\nlimits: {chat: \"x\\e[2J\"}\n", "main.yaml", kNone);
  REQUIRE_FALSE(odd);
  for (const Diagnostic& d : odd.error()) {
    for (const char c : to_string(d))
      CHECK(static_cast<unsigned char>(c) >= 0x20);
  }
}

// Deterministic damage to real files: each result is a configuration or says why not, within bounds.
TEST_CASE("damaged files never do more than fail") {
  const std::string reference = test::slurp(test::source_root() + "/conf/reference.yaml");
  std::string everything;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    if (reference.compare(i, 2, "#:") == 0 && (i == 0 || reference[i - 1] == '\n'))
      ++i;
    else
      everything += reference[i];
  }
  constexpr std::string_view kBits = "\n :{}[]&*!|>-'\"%@#,?~$\\\t0x<";
  Rng rng(42);
  int good = 0;
  for (int round = 0; round < 300; ++round) {
    // A window keeps a round short; damage is dense in it.
    const std::size_t start = rng.below(static_cast<std::uint32_t>(everything.size() - 900));
    std::string text = everything.substr(everything.find('\n', start) + 1, 800);
    const std::uint32_t cuts = rng.below(4);
    for (std::uint32_t i = 0; i < cuts; ++i) {
      const std::size_t at = rng.below(static_cast<std::uint32_t>(text.size()));
      if (rng.below(2) == 0) {
        text[at] = kBits[rng.below(static_cast<std::uint32_t>(kBits.size()))];
      } else {
        text.insert(at, 1, kBits[rng.below(static_cast<std::uint32_t>(kBits.size()))]);
      }
    }
    const LoadResult result = parse(text, "main.yaml", kNone);
    if (result) {
      ++good;
      CHECK_FALSE(format_check_report(*result).empty());
    } else {
      CHECK_FALSE(result.error().empty());
      CHECK(result.error().size() <= 201);
    }
  }
  CHECK(good < 300);
}

}  // namespace perigee::config
