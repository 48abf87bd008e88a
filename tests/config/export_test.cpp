// A configuration told to others: JSON that reads back, and differences.
#include "perigee/config/export.h"

#include <algorithm>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "files.h"
#include "perigee/config/loader.h"

namespace perigee::config {
namespace {

const Environment kNone;

Config parse_or_fail(const std::string& text) {
  const LoadResult result = parse(text, "main.yaml", kNone);
  if (!result) FAIL(format_diagnostics(result.error()));
  return *result->config;
}

// Every line that can be switched on, switched on.
std::string everything() {
  std::string text = test::slurp(test::source_root() + "/conf/reference.yaml");
  for (std::size_t at; (at = text.find("\n#:")) != std::string::npos;)
    text.erase(at + 1, 2);
  return text;
}

std::string lines(const std::vector<Change>& changes) {
  std::string out;
  for (const Change& c : changes) {
    out += c.key + ": " + c.before + " -> " + c.after + (c.needs_restart ? " (restart)" : "") + "\n";
  }
  return out;
}

}  // namespace

TEST_CASE("the JSON of a configuration is the same configuration") {
  const std::string unusual =
      "listen: ['[::1]:3000', unix:/a.sock]\nadmin: off\n"
      "workers: [{url: 'http://a:1', name: x, weight: 0.5, kind: http, max_concurrent_requests: 3}, "
      "unix:/b.sock]\n"
      "pools: {p: {workers: [x]}}\nslots: {steering: fixed, start: 96}\npace: {start: 0}\nretries: {budget: "
      "12.5%}\n"
      "clocks: {head: none, total: 1ms}\naccess_log: off\ncors: off\ntrusted: ['::/0', 10.0.0.0/8]\n"
      "routes: [{path: '/a*', host: h, methods: [GET, POST], headers: {a: '*', b: c}, replay: never, pool: "
      "p}]\n"
      "performance: {thread_pools: {io_workers: 2}}\nclasses: {voice: {total: 1h, priority: critical}}\n";
  const std::string secure =
      "listen: [{address: 3443, tls: {certificates: [{cert: a, key: b}], client_ca: c, client_auth: optional, min_version: "
      "'1.3'}}]\n"
      "workers: ['https://h', {url: 'https://h:2', tls: {verify: false, server_name: x, cert: d, key: e}}]\n"
      "upstream: {tls: {ca_file: f}}\n";
  for (const std::string& text : {std::string("workers: [http://127.0.0.1:3001]\n"), unusual, secure, everything()}) {
    const Config first = parse_or_fail(text);
    Config second = parse_or_fail(to_redacted_json(first).dump());
    second.not_yet = first.not_yet;
    // What is a secret does not read back.
    REQUIRE(second.tenants.size() == first.tenants.size());
    for (std::size_t i = 0; i < first.tenants.size(); ++i) {
      CHECK(second.tenants[i].second.keys.size() == first.tenants[i].second.keys.size());
      second.tenants[i].second.keys = first.tenants[i].second.keys;
    }
    CHECK(lines(diff(first, second)).empty());
    CHECK(first == second);
  }
}

TEST_CASE("secrets are in no output") {
  const Config c = parse_or_fail(
      "workers: [http://127.0.0.1:3001]\nadmin: {address: 3009, token: hunter2-hunter2}\n"
      "tenants: {acme: {keys: [hunter2-acme, hunter2-acme-2], key_sha256: []}}\n"
      "redis: {url: 'redis://bob:hunter2-hunter2@r:1/0', secret: hunter2-secret}\n");
  CHECK(c.admin.token == "hunter2-hunter2");
  CHECK(to_redacted_json(c).dump().find("hunter2") == std::string::npos);
  for (const NotYet& n : c.not_yet)
    CHECK(n.value.find("hunter2") == std::string::npos);
  Config other = c;
  other.admin.token = "another-hunter2";
  CHECK(lines(diff(c, other)) == "admin.token: \"(redacted)\" -> \"(redacted)\"\n");
  other = c;
  other.tenants[0].second.keys[0] = "hunter2-acme-3";
  CHECK(lines(diff(c, other)) == "tenants.acme.keys: [\"(redacted)\",\"(redacted)\"] -> [\"(redacted)\",\"(redacted)\"]\n");
  other = c;
  other.redis.url = "redis://eve:hunter2@r:1/0";
  CHECK(lines(diff(c, other)).find("hunter2") == std::string::npos);
  CHECK_FALSE(lines(diff(c, other)).empty());
}

TEST_CASE("differences") {
  const Config a = parse_or_fail(
      "listen: 3000\nworkers: [{url: 'http://h:1', name: one}, {url: 'http://h:2', name: two}]\nio_threads: "
      "1\n");
  CHECK(diff(a, a).empty());
  const Config b = parse_or_fail(
      "listen: [3000, 3005]\nworkers: [{url: 'http://h:2', name: two, weight: 2}, {url: 'http://h:3', name: "
      "three}]\n"
      "io_threads: 2\nlimits: {streams: 6000}\nmax_concurrent_requests: 5\nadmin: 127.0.0.1:9999\n");
  std::vector<Change> changes = diff(a, b);
  for (Change& c : changes) {
    if (c.key == "workers[one]" || c.key == "workers[three]") {
      CHECK((c.before.empty() != c.after.empty()));
      c.before = c.before.empty() ? "" : "{…}";
      c.after = c.after.empty() ? "" : "{…}";
    }
  }
  CHECK(lines(changes) ==
        "listen: [\"0.0.0.0:3000\"] -> [\"0.0.0.0:3000\",\"0.0.0.0:3005\"] (restart)\n"
        "admin.address: \"127.0.0.1:9300\" -> \"127.0.0.1:9999\" (restart)\n"
        "workers[one]: {…} -> \n"
        "workers[two].weight: 1 -> 2\n"
        "workers[three]:  -> {…}\n"
        "max_concurrent_requests: \"none\" -> 5\n"
        "limits.streams: 5000 -> 6000\n"
        "io_threads: 1 -> 2 (restart)\n");
  CHECK(diff(b, a).size() == changes.size());
}

TEST_CASE("differences of listeners: TLS is put in place by a reload, an address is not") {
  const auto with = [](const std::string& listen) { return parse_or_fail("listen: " + listen + "\nworkers: ['https://h:1']\n"); };
  const std::string one = "{address: 3443, tls: {certificates: [{cert: a, key: b}]}}";
  const std::string other = "{address: 3443, tls: {certificates: [{cert: a, key: b}], min_version: '1.3'}}";
  const auto told = [&](const std::string& before, const std::string& after) {
    std::string out;
    for (const Change& c : diff(with(before), with(after))) out += c.key + (c.needs_restart ? " (restart)" : "") + ";";
    return out;
  };
  CHECK(told("[3000, " + one + "]", "[3000, " + one + "]").empty());
  CHECK(told("[3000, " + one + "]", "[3000, " + other + "]") == "listen[1].tls;");
  CHECK(told("[3000, 3443]", "[3000, " + one + "]") == "listen[1].tls;");
  CHECK(told("[3000, 3443]", "[3001, " + one + "]") == "listen (restart);");
  CHECK(told("[3000, 3443]", "[3000]") == "listen (restart);");
}

}  // namespace perigee::config
