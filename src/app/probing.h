// Between the prober and the dispatcher: what probes saw becomes what the dispatcher knows.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "fleet_view.h"
#include "perigee/dispatch/dispatcher.h"
#include "perigee/health/prober.h"
#include "perigee/proxy/loop_proxy.h"
#include "perigee/telemetry/log.h"

namespace perigee::app {

// Control thread only.
class Probing final : public health::HealthSink {
 public:
  Probing(coro::Executor& executor, net::Connector& connector, dispatch::Dispatcher& dispatcher, FleetView& view,
          telemetry::Log& log, std::uint64_t seed);

  // Watches exactly these workers; those that are watched already under the same name and address go on.
  void set(const proxy::Plan& plan);
  [[nodiscard]] coro::Task<void> stop() { return prober_.stop(); }

  void on_probe(health::BackendKey backend, const health::ProbeReport& report, TimePoint now) override;
  void on_lag(health::BackendKey backend, TimePoint sent, TimePoint now) override;
  void on_lag_unanswered(health::BackendKey backend, TimePoint sent, TimePoint now) override;
  void on_load(health::BackendKey backend, const health::WorkerLoad& load, TimePoint now) override;
  void on_tick(health::BackendKey backend, TimePoint now) override;
  [[nodiscard]] health::ProbePhase phase(health::BackendKey backend) const override;
  [[nodiscard]] bool busy(health::BackendKey backend) const override;

 private:
  struct Watched {
    dispatch::BackendRef ref;
    std::string address;
    config::Probe probe;
    net::TlsClientPtr tls;
    config::ProxyProtocolOut proxy_protocol;
    std::string said;  // its health as last logged
  };
  void log_change(const std::string& name, Watched& watched);

  dispatch::Dispatcher& dispatcher_;
  FleetView& view_;
  telemetry::Log& log_;
  health::Prober prober_;
  std::map<health::BackendKey, std::pair<std::string, Watched>> watched_;
};

}  // namespace perigee::app
