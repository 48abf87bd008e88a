// The data plane of one event loop: takes client connections and lives the life of each request on them
// (src/proxy/life_of_a_request.cpp tells it).
//
// Everything here belongs to its loop's thread. What loops share is handed in: the dispatcher and the table
// of stopped streams; the plan is immutable and swapped whole. It needs no libuv: an executor, a connector
// and streams are enough, so that tests run it in memory on a clock moved by hand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "perigee/admission/rates.h"
#include "perigee/admission/tenant.h"
#include "perigee/base/random.h"
#include "perigee/base/time.h"
#include "perigee/config/config.h"
#include "perigee/coro/task.h"
#include "perigee/dispatch/dispatcher.h"
#include "perigee/net/address.h"
#include "perigee/net/socket.h"
#include "perigee/net/stream.h"
#include "perigee/net/tls.h"
#include "perigee/proxy/sessions.h"
#include "perigee/proxy/stopped_streams.h"
#include "perigee/telemetry/access_log.h"
#include "perigee/telemetry/loop_metrics.h"

namespace perigee::state {
class SharedRates;
}

namespace perigee::proxy {

// One configuration as the data plane uses it. Immutable; a request keeps the one it began with until its
// answer's head is out, a long stream does not hold it any longer.
struct Plan {
  config::Snapshot config;
  // The resolved addresses of config->workers, in their order. An empty one (length 0): the name could not
  // be resolved; connecting to it fails as refused.
  std::vector<net::Endpoint> endpoints;
  // TLS towards them, in their order; null, or missing at the end: none.
  std::vector<net::TlsClientPtr> tls;
  // The dispatcher's ids of config->pools, in their order.
  std::vector<dispatch::PoolId> pools;
  // Who is who; null where nobody asks (Config::knows_tenants).
  std::shared_ptr<const admission::TenantTable> tenants;
  // How much each may ask for; null where nothing is written.
  std::shared_ptr<admission::Rates> rates;
  admission::RatePoliciesPtr rate_policies;
  std::string redis_secret;  // of the tenants' names in Redis
  unsigned loops = 1;  // that share what is bounded for the process
};
using PlanPtr = std::shared_ptr<const Plan>;

// What a LoopProxy is built from; all of it outlives the proxy.
struct LoopParts {
  coro::Executor& executor;
  const Clock& clock;
  net::Connector& connector;
  dispatch::Dispatcher& dispatcher;
  dispatch::LoopPort& port;
  telemetry::LoopMetrics& metrics;
  telemetry::AccessLogBuffer* access_log;  // null: off
  StoppedStreams& stopped;
  std::uint64_t seed;  // of request ids and jitter; different for each loop and start
  state::SharedRates* shared_rates = nullptr;  // this loop's Redis; null: no rate is shared
  SessionPort* sessions = nullptr;  // this loop's; null: nothing belongs to a session or a worker
};

// What was agreed with a peer before its connection began, by the listener it came through.
struct Entrance {
  bool proxy_header = false;   // a PROXY header comes first, and must
  net::TlsServerPtr tls = {};  // then TLS; null = plain
};

class LoopProxy {
 public:
  LoopProxy(const LoopParts& parts, PlanPtr plan);
  // All connections must have ended: cut() and join() first.
  ~LoopProxy();
  LoopProxy(const LoopProxy&) = delete;
  LoopProxy& operator=(const LoopProxy&) = delete;

  // Takes a client's connection and serves it to its end.
  void serve(net::StreamPtr stream, const net::Peer& peer, Entrance entrance = {});
  // For requests whose head comes from now on.
  void adopt(PlanPtr plan);

  // Kept client connections end with their next answer, or when they have been idle for five seconds.
  void drain();
  // Ends everything that still runs, at once.
  void cut();
  // Waits until the last exchange, detached answer and farewell has ended.
  [[nodiscard]] coro::Task<void> join();

  [[nodiscard]] std::size_t connections() const;
  // Exchanges that are not over, detached ones included.
  [[nodiscard]] std::size_t exchanges() const;
  // To be called about once a second: the Date field and old log lines.
  void tick();

  // For this room.
  struct Inner;
  [[nodiscard]] Inner& inner() { return *inner_; }

 private:
  std::unique_ptr<Inner> inner_;
};

}  // namespace perigee::proxy
