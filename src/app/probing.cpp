#include "probing.h"

#include <algorithm>

namespace perigee::app {

namespace {

health::BackendKey key_of(dispatch::BackendRef ref) {
  return (static_cast<health::BackendKey>(ref.generation) << 16U) | ref.id;
}

const dispatch::BackendStatus* find(const dispatch::Status& status, dispatch::BackendRef ref) {
  const auto found = std::find_if(status.backends.begin(), status.backends.end(), [&](const auto& b) { return b.ref == ref; });
  return found == status.backends.end() ? nullptr : &*found;
}

}  // namespace

Probing::Probing(coro::Executor& executor, net::Connector& connector, dispatch::Dispatcher& dispatcher, FleetView& view,
                 telemetry::Log& log, std::uint64_t seed)
    : dispatcher_(dispatcher), view_(view), log_(log), prober_(executor, connector, *this, Rng(seed)) {}

void Probing::set(const proxy::Plan& plan) {
  const config::Config& config = *plan.config;
  std::map<health::BackendKey, std::pair<std::string, Watched>> now_watched;
  for (std::size_t i = 0; i < config.workers.size(); ++i) {
    const config::Worker& worker = config.workers[i];
    const dispatch::BackendRef ref = dispatcher_.backend(worker.name);
    if (!ref.exists()) continue;
    const auto key = key_of(ref);
    Watched watched{ref, plan.endpoints[i].text(), config.probe, plan.tls[i], worker.proxy_protocol, {}};
    const auto before = watched_.find(key);
    const bool same = before != watched_.end() && before->second.second.address == watched.address &&
                      before->second.second.probe == watched.probe && before->second.second.tls == watched.tls &&
                      before->second.second.proxy_protocol == watched.proxy_protocol;
    if (same) watched.said = before->second.second.said;
    now_watched.emplace(key, std::pair{worker.name, watched});
    if (!same) {
      prober_.watch({key, plan.endpoints[i], worker.host, worker.kind, watched.tls, net::version_of(worker.proxy_protocol)},
                    config.probe);
    }
  }
  for (const auto& [key, old] : watched_) {
    if (now_watched.contains(key)) continue;
    prober_.forget(key);
    view_.probes.erase(old.first);
  }
  watched_ = std::move(now_watched);
}

void Probing::log_change(const std::string& name, Watched& watched) {
  const dispatch::Status status = dispatcher_.snapshot();
  const dispatch::BackendStatus* now = find(status, watched.ref);
  if (now == nullptr || now->health == watched.said) return;
  watched.said = now->health;
  view_.note("health", {{"worker", name}, {"health", now->health}});
  const auto level = now->up ? telemetry::LogLevel::info : telemetry::LogLevel::warning;
  log_.repeated(level, "health of " + name + " " + watched.said, "worker's health changed",
                {{"worker", name}, {"health", now->health}, {"kind", to_string(now->kind)}, {"address", now->address}});
}

void Probing::on_probe(health::BackendKey backend, const health::ProbeReport& report, TimePoint now) {
  const auto found = watched_.find(backend);
  if (found == watched_.end()) return;
  auto& [name, watched] = found->second;
  dispatcher_.on_probe(watched.ref, report.result, report.found, now);
  admin::Probed& probed = view_.probes[name];
  probed.probe_seconds = to_seconds(report.took);
  probed.healthy_ratio = report.healthy_ratio;
  log_change(name, watched);
}

void Probing::on_lag(health::BackendKey backend, TimePoint sent, TimePoint now) {
  if (const auto found = watched_.find(backend); found != watched_.end()) dispatcher_.on_lag_probe(found->second.second.ref, sent, now);
}

void Probing::on_lag_unanswered(health::BackendKey backend, TimePoint sent, TimePoint now) {
  if (const auto found = watched_.find(backend); found != watched_.end()) {
    dispatcher_.on_lag_unanswered(found->second.second.ref, sent, now);
  }
}

void Probing::on_load(health::BackendKey backend, const health::WorkerLoad& load, TimePoint) {
  if (const auto found = watched_.find(backend); found != watched_.end()) view_.probes[found->second.first].load = load;
}

void Probing::on_tick(health::BackendKey backend, TimePoint now) {
  const auto found = watched_.find(backend);
  if (found == watched_.end()) return;
  dispatcher_.on_probe_timer(found->second.second.ref, now);
  log_change(found->second.first, found->second.second);
}

health::ProbePhase Probing::phase(health::BackendKey backend) const {
  const auto found = watched_.find(backend);
  if (found == watched_.end()) return health::ProbePhase::unprobed;
  const dispatch::Status status = dispatcher_.snapshot();
  const dispatch::BackendStatus* now = find(status, found->second.second.ref);
  if (now == nullptr || !now->probed) return health::ProbePhase::unprobed;
  return now->up ? health::ProbePhase::up : health::ProbePhase::down;
}

bool Probing::busy(health::BackendKey backend) const {
  const auto found = watched_.find(backend);
  return found != watched_.end() && dispatcher_.busy(found->second.second.ref);
}

}  // namespace perigee::app
