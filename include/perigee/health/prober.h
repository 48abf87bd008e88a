// The prober: looks at each backend again and again and tells what it saw. Runs on the control loop, so that
// a busy data plane neither delays a probe nor is delayed by one.
//
// For each backend three things go on side by side: the probe of state (a fresh connection each time: it
// also shows whether the worker still accepts), the probe of lag (ORBIT only, on a kept connection, while
// anything waits or runs), and the scrape of its /metrics (ORBIT only). A slow answer is load, not death:
// a probe of state waits as long as `silent`.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "perigee/balancing/health_state.h"
#include "perigee/base/random.h"
#include "perigee/base/vocabulary.h"
#include "perigee/config/config.h"
#include "perigee/coro/executor.h"
#include "perigee/coro/task.h"
#include "perigee/health/probe_schedule.h"
#include "perigee/health/worker_metrics.h"
#include "perigee/net/socket.h"
#include "perigee/net/tls.h"

namespace perigee::health {

// The app's name for a backend; the prober only hands it back.
using BackendKey = std::uint64_t;

struct ProbeReport {
  balancing::ProbeResult result = balancing::ProbeResult::timeout;
  WorkerKind found = WorkerKind::unknown;  // unknown: nothing was shown (no answer)
  Duration took{0};                        // from the attempt's start, connecting included
  std::optional<double> healthy_ratio;
};

// Where results go, and where the prober learns what it must know. Filled by app from the dispatcher.
// Called on the control loop, never from within watch(), forget() or stop().
class HealthSink {
 public:
  virtual ~HealthSink() = default;
  virtual void on_probe(BackendKey backend, const ProbeReport& report, TimePoint now) = 0;
  // GET /health was written whole at `sent` and its answer began now.
  virtual void on_lag(BackendKey backend, TimePoint sent, TimePoint now) = 0;
  // The next beat is due and the answer to the one sent at `sent` is still out.
  virtual void on_lag_unanswered(BackendKey backend, TimePoint sent, TimePoint now) = 0;
  // After each scrape, missed ones included: fields that are not known (any more) are absent.
  virtual void on_load(BackendKey backend, const WorkerLoad& load, TimePoint now) = 0;
  // Twice a second for each backend, whatever its probes do: the moment to notice silence.
  virtual void on_tick(BackendKey backend, TimePoint now) = 0;

  [[nodiscard]] virtual ProbePhase phase(BackendKey backend) const = 0;
  // Anything runs on this backend or waits anywhere.
  [[nodiscard]] virtual bool busy(BackendKey backend) const = 0;
};

struct ProbeTarget {
  BackendKey key = 0;
  net::Endpoint endpoint;
  std::string host;                        // for the Host field
  WorkerKind kind = WorkerKind::unknown;   // as written; unknown: the first answer decides
  net::TlsClientPtr tls = nullptr;         // null: plain
  net::ProxyVersion proxy_protocol = net::ProxyVersion::none;  // how connections begin: with a header for nobody
};

class Prober {
 public:
  static constexpr Duration kTick = std::chrono::milliseconds(500);
  static constexpr Duration kConnectTimeout = std::chrono::seconds(2);
  static constexpr Duration kScrapeInterval = std::chrono::seconds(5);
  static constexpr Duration kScrapeTimeout = std::chrono::seconds(1);
  // A kept connection that was not used for so long is not used again: the worker may be closing it.
  static constexpr Duration kKeptIdle = std::chrono::seconds(4);

  // All outlive the prober.
  Prober(coro::Executor& executor, net::Connector& connector, HealthSink& sink, Rng rng);
  ~Prober();
  Prober(const Prober&) = delete;
  Prober& operator=(const Prober&) = delete;

  // Begins with a probe at once. A key that is watched already is begun anew.
  void watch(ProbeTarget target, const config::Probe& probe);
  // Nothing is reported of it from now on.
  void forget(BackendKey key);
  // Ends everything and waits for it. Await before destruction.
  [[nodiscard]] coro::Task<void> stop();

 private:
  struct Watched;
  void sweep();

  coro::Executor& executor_;
  net::Connector& connector_;
  HealthSink& sink_;
  Rng rng_;
  std::vector<std::unique_ptr<Watched>> watched_;  // also those that are ending
};

}  // namespace perigee::health
