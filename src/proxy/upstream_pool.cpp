#include "upstream_pool.h"

#include <algorithm>
#include <utility>

namespace perigee::proxy {

// An idle connection. When the worker ends it, it leaves the pool from the ready queue (the news comes from
// inside the stream and the cancel source that it owns).
struct UpstreamPool::Idle : ListNode<>, coro::ReadyNode {
  Idle(UpstreamPool& p, Upstream u, TimePoint now)
      : ReadyNode([](coro::ReadyNode& n) {
          Idle& gone = static_cast<Idle&>(n);
          gone.pool.drop(gone);
        }),
        pool(p),
        upstream(std::move(u)),
        since(now) {
    ended.add(hook);
    upstream.stream->watch_end(&ended, Side::upstream);
  }
  struct OnEnd : coro::CancelHook {
    explicit OnEnd(Idle& idle)
        : CancelHook([](coro::CancelHook& h, const Error&) {
            Idle& gone = static_cast<OnEnd&>(h).idle_;
            gone.pool.executor_.post(gone);
          }),
          idle_(idle) {}
    Idle& idle_;
  };
  UpstreamPool& pool;
  Upstream upstream;
  TimePoint since;
  coro::CancelSource ended;
  OnEnd hook{*this};
};

Upstream UpstreamPool::take(dispatch::BackendRef ref, Duration oldest) {
  PerBackend& backend = backends_[ref.id];
  if (backend.generation != ref.generation) {
    clear(backend);  // of a worker that is gone
    backend.generation = ref.generation;
  }
  while (auto* idle = backend.idle.front<Idle>()) {
    if (executor_.now() - idle->since > std::min(oldest, bounds_.idle)) return {};
    // Bytes that nobody asked for must never reach the next client.
    const bool clean = !idle->upstream.stream->has_pending() && !idle->upstream.stream->ended();
    if (!clean) {
      drop(*idle);
      continue;
    }
    Upstream upstream = std::move(idle->upstream);
    upstream.stream->watch_end(nullptr, Side::upstream);
    upstream.reused = true;
    drop(*idle);
    return upstream;
  }
  return {};
}

void UpstreamPool::give_back(Upstream upstream) {
  PerBackend& backend = backends_[upstream.backend.id];
  const bool stale = backend.generation != upstream.backend.generation;
  const bool unclean = upstream.stream->has_pending() || upstream.stream->ended();
  if (stale || unclean || upstream.for_one_client || backend.count >= bounds_.per_backend || total_ >= bounds_.total) return;
  upstream.parser.reset();
  auto* idle = new Idle(*this, std::move(upstream), executor_.now());
  backend.idle.push_front(*idle);
  ++backend.count;
  ++total_;
  if (!sweep_.armed()) executor_.arm(sweep_, executor_.now() + bounds_.idle);
}

// Closes what has been idle for too long and looks again when the next one will have been.
void UpstreamPool::close_old() {
  const TimePoint now = executor_.now();
  TimePoint next = kNever;
  for (PerBackend& backend : backends_) {
    while (auto* oldest = backend.idle.back<Idle>()) {
      if (oldest->since + bounds_.idle > now) {
        next = std::min(next, oldest->since + bounds_.idle);
        break;
      }
      drop(*oldest);
    }
  }
  if (next != kNever) executor_.arm(sweep_, next);
}

void UpstreamPool::drop(Idle& idle) {
  --backends_[idle.upstream.backend.id].count;
  --total_;
  delete &idle;
}

void UpstreamPool::clear(PerBackend& backend) {
  while (auto* idle = backend.idle.front<Idle>()) drop(*idle);
}

void UpstreamPool::clear() {
  for (PerBackend& backend : backends_) clear(backend);
}

}  // namespace perigee::proxy
