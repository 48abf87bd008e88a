// Connections towards the workers of one loop: taken, given back, and let go when they have been idle.
//
// The youngest idle one is taken first, so that the rest can age out; each is closed by us (FIN) before an
// ORBIT worker would close it, because a request written at that moment is lost. Reading stays armed on
// idle ones: a worker's FIN, or a byte that nobody asked for, removes one at once.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "perigee/base/intrusive_list.h"
#include "perigee/coro/cancel.h"
#include "perigee/coro/executor.h"
#include "perigee/dispatch/types.h"
#include "perigee/http/parser.h"
#include "perigee/net/stream.h"

namespace perigee::proxy {

class UpstreamPool;

// A connection that was in use so short a time ago has not been closed for being idle.
inline constexpr Duration kWarm = std::chrono::seconds(1);

// One connection to a worker: in the hands of an exchange, or idle in the pool.
class Upstream : public ListNode<> {
 public:
  Upstream(net::StreamPtr connected, dispatch::BackendRef to);

  net::StreamPtr stream;
  http::ResponseParser parser;
  std::unique_ptr<std::string> partial_head;  // a head of which only a part has come
  dispatch::BackendRef backend;
  bool reused = false;
  bool warm = false;            // reused, and idle for less than kWarm before
  bool for_one_client = false;  // it began with a PROXY header: never pooled

 private:
  friend class UpstreamPool;
  TimePoint since_{};  // idle, in the pool
};
using UpstreamPtr = std::unique_ptr<Upstream>;

class UpstreamPool {
 public:
  explicit UpstreamPool(coro::Executor& executor) : sweep_(*this), news_(*this), executor_(executor) {}
  UpstreamPool(const UpstreamPool&) = delete;
  UpstreamPool& operator=(const UpstreamPool&) = delete;
  ~UpstreamPool() { clear(); }

  struct Bounds {
    Duration idle = std::chrono::seconds(4);
    std::uint32_t per_backend = 256;
    std::uint32_t total = 0xFFFFFFFF;
  };
  void set_bounds(const Bounds& bounds) { bounds_ = bounds; }

  // The youngest idle connection to this backend that has waited no longer than `oldest`; empty if none.
  [[nodiscard]] UpstreamPtr take(dispatch::BackendRef backend, Duration oldest);
  // Keeps a connection whose exchange ended cleanly; over a bound, or where it is for one client, it is closed instead.
  void give_back(UpstreamPtr upstream);
  void clear();
  [[nodiscard]] std::uint32_t idle() const { return total_; }

 private:
  friend class Upstream;
  struct PerBackend {
    IntrusiveList<> idle;  // youngest first; owned
    std::uint32_t count = 0;
    std::uint16_t generation = 0;
  };
  struct Sweep : coro::Timer {
    explicit Sweep(UpstreamPool& pool)
        : Timer([](coro::Timer& t) { static_cast<Sweep&>(t).pool_.close_old(); }), pool_(pool) {}
    UpstreamPool& pool_;
  };
  // When workers end idle ones, these leave the pool from the ready queue: the news comes from inside a stream.
  // All idle ones share one source, because those in use pay for what each of them would have.
  struct News : coro::CancelHook, coro::ReadyNode {
    explicit News(UpstreamPool& pool);
    UpstreamPool& pool_;
  };
  void close_old();
  void drop_ended();
  void remove(Upstream& idle);
  void drop(Upstream& idle);
  void clear(PerBackend& backend);

  std::array<PerBackend, dispatch::kMaxBackends> backends_;
  Bounds bounds_;
  Sweep sweep_;
  coro::CancelSource ended_;
  News news_;
  coro::Executor& executor_;
  std::uint32_t total_ = 0;
};

}  // namespace perigee::proxy
