// One thread of the data plane: an event loop with its proxy, its port into the dispatcher, its counters.
//
// The thread owns everything that belongs to its loop; the control thread and the acceptor talk to it by
// post(). Start, then exactly one stop() and join().
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>

#include "perigee/dispatch/dispatcher.h"
#include "perigee/net/loop.h"
#include "perigee/net/tls.h"
#include "perigee/proxy/loop_proxy.h"
#include "perigee/state/redis_client.h"
#include "perigee/telemetry/access_log.h"
#include "perigee/telemetry/loop_metrics.h"

namespace perigee::app {

// What all data-plane threads share; outlives them.
struct Shared {
  const Clock& clock;
  dispatch::Dispatcher& dispatcher;
  proxy::StoppedStreams& stopped;
  proxy::Sessions& sessions;
  telemetry::BlockSink* log_sink;  // null: no access log
  state::RedisCounters& redis;
};

class IoThread {
 public:
  // Returns when the loop runs.
  IoThread(const Shared& shared, proxy::PlanPtr plan, std::uint64_t seed);
  IoThread(const IoThread&) = delete;
  IoThread& operator=(const IoThread&) = delete;
  ~IoThread();

  // --- any thread.
  using Work = std::move_only_function<void(net::Loop&, proxy::LoopProxy&)>;
  void post(Work work);
  // A connection for this loop; `fd` changes hands. Called by the acceptor only. `from` outlives the thread; `tls`: null
  // = plain.
  void take(int fd, bool is_unix, const config::Listener& from, net::TlsServerPtr tls);
  // The Redis that sidecars share rates through, from now on.
  void use_redis(state::RedisSettings settings);
  // Connections here, those on their way included.
  [[nodiscard]] std::size_t connections() const;
  // Exchanges that are not over, as of the end of the loop's last turn.
  [[nodiscard]] std::size_t exchanges() const { return exchanges_.load(std::memory_order_relaxed); }
  [[nodiscard]] const telemetry::LoopMetrics& metrics() const { return metrics_; }
  // When the loop last ticked: it does once a second, unless it is stuck.
  [[nodiscard]] TimePoint ticked() const { return TimePoint(Duration(ticked_.load(std::memory_order_relaxed))); }
  // Lets everything that runs end at once and the thread with it.
  void stop();
  void join();

  // The loop, for who must run on it (the acceptor's listeners). Valid until stop().
  [[nodiscard]] net::Loop& loop();

 private:
  struct Running;

  telemetry::LoopMetrics metrics_;
  Running* running_ = nullptr;  // lives on the thread's stack
  std::atomic<std::size_t> open_{0};
  std::atomic<std::size_t> exchanges_{0};
  std::atomic<std::uint64_t> taken_{0};
  std::atomic<Duration::rep> ticked_{0};
  std::uint64_t handed_ = 0;  // the acceptor's own count
  std::thread thread_;
};

}  // namespace perigee::app
