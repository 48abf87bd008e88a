// See validate.h. Each check is one short function, so that its message and its reason stand together.
#include "validate.h"

#include <algorithm>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "nearest.h"
#include "perigee/config/redis_url.h"
#include "units.h"

namespace perigee::config {
namespace {

std::string item(const char* list, std::size_t i) {
  return std::string(list) + "[" + std::to_string(i) + "]";
}

bool is_any(const Address& a) {
  return a.host == "0.0.0.0" || a.host == "::";
}

// Whether binding both would fail, or whether one connects to the other.
bool clash(const Address& a, const Address& b) {
  if (a.kind != b.kind) return false;
  if (a.kind == Address::Kind::unix_socket) return a.path == b.path;
  if (a.port != b.port) return false;
  return a.host == b.host || (is_any(a) && b.is_loopback()) || (is_any(b) && a.is_loopback()) ||
         (is_any(a) && is_any(b));
}

// What a listener has that only another kind of listener can have.
void check_listener(const Listener& listener, const std::string& key, Reader& r) {
  const bool is_unix = listener.systemd.empty() && listener.address.kind == Address::Kind::unix_socket;
  if (listener.mode && !is_unix) {
    r.error_at(key + ".mode", "only a Unix socket that we make ourselves has permissions");
  }
  for (const Cidr& from : listener.proxy_protocol.from) {
    const bool peers_are_unix = from == Cidr{};
    if (listener.systemd.empty() && peers_are_unix != is_unix) {
      r.error_at(key + ".proxy_protocol.from",
                 is_unix ? "peers of a Unix socket have no address; write `unix`"
                         : "`unix` is for listeners that are Unix sockets");
    }
    if (from.prefix == 0 || from.text() == "0.0.0.0/0") {
      r.warning(key + ".proxy_protocol.from", from.text() + " lets everybody choose the address they come from");
    }
  }
}

bool same_place(const Listener& a, const Listener& b) {
  if (a.systemd.empty() != b.systemd.empty()) return false;
  return a.systemd.empty() ? clash(a.address, b.address) : a.systemd == b.systemd;
}

void check_listeners(const Config& config, Reader& r) {
  if (config.listeners.empty()) r.error_at("listen", "an empty list: nobody could reach us");
  for (std::size_t i = 0; i < config.listeners.size(); ++i) {
    const Address& address = config.listeners[i].address;
    check_listener(config.listeners[i], item("listen", i), r);
    for (std::size_t j = 0; j < i; ++j) {
      if (same_place(config.listeners[i], config.listeners[j]))
        r.error_at(item("listen", i), "the same address twice");
    }
    if (!config.listeners[i].systemd.empty()) continue;
    if (config.admin.enabled && clash(address, config.admin.address)) {
      r.error_at("admin", "the same address as `listen`: " + address.text());
    }
  }
}

void check_tls(const Config& config, Reader& r) {
  for (std::size_t i = 0; i < config.listeners.size(); ++i) {
    if (!config.listeners[i].tls) continue;
    const ServerTls& tls = *config.listeners[i].tls;
    const std::string key = item("listen", i) + ".tls";
    if (tls.certificates.empty()) r.error_at(key + ".certificates", "an empty list: nothing could be shown to clients");
    if (tls.client_auth != ClientAuth::none && tls.client_ca.empty()) {
      r.error_at(key + ".client_auth", "needs `client_ca`: who signs clients' certificates");
    }
    if (tls.client_auth == ClientAuth::none && !tls.client_ca.empty()) {
      r.error_at(key + ".client_ca", "checks nobody without `client_auth: optional` or `required`");
    }
  }
}

void check_client_tls(const ClientTls& tls, const std::string& key, Reader& r) {
  if (tls.cert.empty() != tls.key.empty()) r.error_at(key, "`cert` and `key` belong together");
  if (!tls.verify && !tls.ca_file.empty()) r.error_at(key + ".ca_file", "checks nobody with `verify: false`");
}

void check_worker_tls(const Config& config, Reader& r) {
  for (std::size_t i = 0; i < config.workers.size(); ++i) {
    const Worker& worker = config.workers[i];
    if (!worker.tls) continue;
    if (!worker.https) r.error_at(item("workers", i) + ".tls", "is for `https://` workers");
    check_client_tls(*worker.tls, item("workers", i) + ".tls", r);
  }
}

void check_admin(const Config& config, Reader& r) {
  const Admin& admin = config.admin;
  if (admin.enabled && !admin.address.is_loopback() && admin.token.empty()) {
    r.error_at("admin",
               "an address other than loopback needs `token` (found " + admin.address.text() + " without)");
  }
}

void check_workers(const Config& config, Reader& r) {
  std::map<std::string, std::size_t> names;
  std::map<std::string, std::size_t> addresses;
  for (std::size_t i = 0; i < config.workers.size(); ++i) {
    const Worker& worker = config.workers[i];
    if (!addresses.emplace(worker.address.text(), i).second) {
      r.error_at(item("workers", i), "the same address twice: " + worker.address.text());
    } else if (!names.emplace(worker.name, i).second) {
      r.error_at(item("workers", i), "the same name twice: `" + worker.name + "`");
    }
    if (worker.name.size() > kMaxNameBytes) {
      r.error_at(item("workers", i), "a host this long makes no name; write a `name`");
    }
    for (const Listener& listener : config.listeners) {
      if (!listener.systemd.empty()) continue;
      const bool local = worker.address.is_loopback() || worker.address == listener.address;
      if (local && clash(worker.address, listener.address)) {
        r.error_at(item("workers", i), "this is our own `listen` address: requests would come back to us");
        break;
      }
    }
  }
}

std::vector<Pool> make_pools(const Draft& draft, Reader& r) {
  std::vector<std::string_view> names;
  Pool all;
  for (std::size_t i = 0; i < draft.config.workers.size(); ++i) {
    names.push_back(draft.config.workers[i].name);
    all.workers.push_back(static_cast<std::uint32_t>(i));
  }
  all.overload = draft.config.overload;
  std::vector<Pool> pools{all};
  for (const auto& [name, written] : draft.pools) {
    if (name.empty() || name.size() > kMaxNameBytes)
      r.error_at("pools", "a pool's name has 1 … 128 characters");
    if (written.workers.empty()) r.error_at("pools." + name, "a pool without workers");
    if (name == all.name) r.error_at("pools." + name, "`default` is the pool of all workers");
    if (written.batch && written.overload != Overload::none) {
      r.error_at("pools." + name, "`batch` and `overload` exclude each other: what gathers for a batch is no queue that stands");
    }
    Pool pool{name, {}, written.overload, written.batch};
    for (std::size_t i = 0; i < written.workers.size(); ++i) {
      const auto found = std::find(names.begin(), names.end(), written.workers[i]);
      if (found == names.end()) {
        r.error_at("pools." + name + ".workers[" + std::to_string(i) + "]", "no worker has this name",
                   nearest_to(written.workers[i], names));
      } else {
        pool.workers.push_back(static_cast<std::uint32_t>(found - names.begin()));
      }
    }
    pools.push_back(std::move(pool));
  }
  return pools;
}

void check_routes(const Config& config, Reader& r) {
  std::vector<std::string_view> names;
  for (const Pool& pool : config.pools)
    names.push_back(pool.name);
  for (std::size_t i = 0; i < config.routes.size(); ++i) {
    const Route& route = config.routes[i];
    if (!route.pool.empty() && std::find(names.begin(), names.end(), route.pool) == names.end()) {
      r.error_at(item("routes", i) + ".pool", "no pool has this name", nearest_to(route.pool, names));
    }
    if (route.path.empty() && route.model.empty()) r.error_at(item("routes", i), "needs a `path`, a `model`, or both");
    if (!route.request_class && !route.priority && !route.replay && route.pool.empty()) {
      r.warning(item("routes", i), "this route changes nothing: it has no class, priority, replay or pool");
    }
  }
}

// Names become metric labels and parts of keys in Redis.
bool is_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNameBytes && std::ranges::all_of(name, [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-' ||
           c == ':' || c == '@';
  });
}

void check_floors(const Shares& shares, Reader& r) {
  double sum = 0;
  for (const double share : shares.floor.values) sum += share;
  if (sum > 1.0 + 1e-9) r.error_at("floors", "the shares of all classes are more than the whole");
}

void check_tenants(const Config& config, Reader& r) {
  std::map<std::string_view, std::string_view> owners;  // of keys and of their hashes
  for (const auto& [name, tenant] : config.tenants) {
    const std::string key = "tenants." + name;
    if (!is_name(name)) r.error_at("tenants", "a tenant's name has 1 … 128 letters, digits, `.` `_` `-` `:` `@`");
    if (tenant.keys.empty() && tenant.key_sha256.empty()) r.error_at(key, "a tenant without `keys` or `key_sha256`");
    for (const std::vector<std::string>* keys : {&tenant.keys, &tenant.key_sha256}) {
      for (const std::string& one : *keys) {
        const auto [at, fresh] = owners.emplace(one, name);
        if (!fresh) r.error_at(key, "a key that is there already, of `" + std::string(at->second) + "`");
      }
    }
  }
}

void check_rate(const Config& config, std::size_t i, Reader& r) {
  const RateLimit& limit = config.rate_limits[i];
  const std::string key = item("rate_limits", i);
  if (!limit.requests && !limit.tokens && !limit.concurrent) {
    r.error_at(key, "none of `requests`, `tokens` and `concurrent`: it limits nothing");
  }
  if (limit.burst && !limit.requests) r.error_at(key + ".burst", "is for `requests`");
  if (limit.burst_tokens && !limit.tokens) r.error_at(key + ".burst_tokens", "is for `tokens`");
  if (limit.tokens && limit.request_class && *limit.request_class != RequestClass::chat) {
    r.error_at(key + ".tokens", "only chats have tokens");
  }
  for (const auto& [quota, burst] : {std::pair{limit.requests, limit.burst}, std::pair{limit.tokens, limit.burst_tokens}}) {
    if (!quota) continue;
    const std::int64_t each = limit.per.count() / *quota;  // ns
    if (each < 100) r.error_at(key, "more than ten million a second is no limit");
    // Else the arithmetic of the buckets could leave 64 bits.
    constexpr std::int64_t kTenYears = std::int64_t{315'360'000} * 1'000'000'000;
    if (each > 0 && burst && *burst > kTenYears / each) r.error_at(key, "a burst that takes more than ten years to come back");
  }
  std::vector<std::string_view> names;
  for (const auto& [name, tenant] : config.tenants) names.push_back(name);
  for (std::size_t t = 0; t < limit.tenants.size(); ++t) {
    if (std::find(names.begin(), names.end(), limit.tenants[t]) == names.end()) {
      r.error_at(key + ".tenants[" + std::to_string(t) + "]", "no tenant has this name", nearest_to(limit.tenants[t], names));
    }
  }
}

void check_rates(Config& config, Reader& r) {
  for (std::size_t i = 0; i < config.rate_limits.size(); ++i) {
    if (config.rate_limits[i].name.empty()) config.rate_limits[i].name = "limit-" + std::to_string(i + 1);
    check_rate(config, i, r);
  }
}

void check_slots(const Slots& slots, Reader& r) {
  if (slots.floor > slots.start) r.error_at("slots.floor", "above `slots.start`");
  if (slots.floor > slots.recovered) r.error_at("slots.floor", "above `slots.recovered`");
}

void check_pace(const Pace& pace, Reader& r) {
  if (pace.floor > pace.ceiling) r.error_at("pace.floor", "above `pace.ceiling`");
  if (pace.start > pace.ceiling) r.error_at("pace.start", "above `pace.ceiling`");
  if (pace.recovered > pace.ceiling) r.error_at("pace.recovered", "above `pace.ceiling`");
}

void check_throttle(const Throttle& throttle, Reader& r) {
  if (throttle.cpu > throttle.cpu_hard) r.error_at("throttle.cpu", "above `throttle.cpu_hard`");
  if (throttle.memory > throttle.memory_hard) r.error_at("throttle.memory", "above `throttle.memory_hard`");
}

void warn_unverified(const Config& config, Reader& r) {
  bool told = false;
  for (std::size_t i = 0; i < config.workers.size(); ++i) {
    const Worker& worker = config.workers[i];
    if (!worker.https || config.tls_of(worker).verify) continue;
    if (worker.tls) {
      r.warning(item("workers", i) + ".tls.verify", "anybody on the way may pass for " + worker.name);
    } else if (!std::exchange(told, true)) {
      r.warning("upstream.tls.verify", "anybody on the way may pass for an https worker");
    }
  }
}

void warn(const Config& config, Reader& r) {
  warn_unverified(config, r);
  if (config.workers.empty()) r.warning("workers", "no workers: this passes a check, but cannot be started");
  for (const Cidr& cidr : config.trusted) {
    if (cidr.prefix == 0 || cidr.text() == "0.0.0.0/0") {
      r.warning("trusted", cidr.text() + " lets everybody choose their address and priority");
    }
  }
  if (config.admin_routes == AdminRoutes::trusted && config.trusted.empty()) {
    r.warning("admin_routes", "`trusted` is empty: nobody can call ORBIT's admin routes");
  }
  if (config.redis.enabled() && config.redis.secret.empty() && parse_redis_url(config.redis.url).value_or(RedisPlace{}).password.empty()) {
    r.warning("redis", "neither password nor `secret`: who reads Redis can tell clients' addresses from their names there");
  }
  if (config.queue.entries == 0)
    r.warning("queue.entries", "nobody may wait: what finds no free worker is refused");
  const Clocks& clocks = config.clocks;
  if (clocks.total != kNoClock && clocks.total < clocks.first_event && clocks.first_event != kNoClock) {
    r.warning("clocks.total",
              write_duration(clocks.total) + " for a whole answer is less than `clocks.first_event`");
  }
  if (config.process.max_connections != 0 && config.limits.streams != kUnbounded &&
      config.limits.streams > config.process.max_connections) {
    r.warning("max_connections", "fewer than `limits.streams`, which cannot be reached");
  }
}

}  // namespace

void finish(Draft& draft, Reader& reader) {
  // A section that was not understood holds its defaults, and would be accused of what nobody wrote.
  const auto sound = [&](std::string_view key) { return !reader.failed_in(key); };
  const bool listen = sound("listen");
  const bool admin = sound("admin");
  const bool workers = sound("workers");
  const bool pools = sound("pools") && workers;
  const bool routes = sound("routes") && pools;
  const bool breaker = sound("breaker");
  const bool probe = sound("probe");

  Config& config = draft.config;
  if (pools) config.pools = make_pools(draft, reader);
  if (listen && admin) check_listeners(config, reader);
  if (admin) check_admin(config, reader);
  if (listen) check_tls(config, reader);
  if (workers) check_worker_tls(config, reader);
  if (sound("upstream")) check_client_tls(config.upstream.tls, "upstream.tls", reader);
  if (workers && listen) check_workers(config, reader);
  if (routes) check_routes(config, reader);
  if (sound("tenants")) check_tenants(config, reader);
  if (sound("tenants") && sound("rate_limits")) check_rates(config, reader);
  if (sound("floors")) check_floors(config.shares, reader);
  if (sound("slots")) check_slots(config.slots, reader);
  if (sound("pace")) check_pace(config.pace, reader);
  if (sound("throttle")) check_throttle(config.throttle, reader);
  if (breaker && config.breaker.open > config.breaker.open_max) {
    reader.error_at("breaker.open", "above `breaker.open_max`");
  }
  if (probe && config.probe.kind == ProbeKind::http && !config.probe.path.starts_with('/')) {
    reader.error_at("probe.path", "a path begins with `/`");
  }
  if (!reader.failed()) warn(config, reader);
}

}  // namespace perigee::config
