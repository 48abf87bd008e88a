#include "upstream_pool.h"

#include <algorithm>
#include <utility>

namespace perigee::proxy {

Upstream::Upstream(net::StreamPtr connected, dispatch::BackendRef to) : stream(std::move(connected)), backend(to) {}

UpstreamPool::News::News(UpstreamPool& pool)
    : CancelHook([](coro::CancelHook& hook, const Error&) {
        News& news = static_cast<News&>(hook);
        news.pool_.executor_.post(news);
      }),
      ReadyNode([](coro::ReadyNode& node) { static_cast<News&>(node).pool_.drop_ended(); }),
      pool_(pool) {
  pool_.ended_.add(*this);
}

void UpstreamPool::drop_ended() {
  ended_.reset();
  ended_.add(news_);
  for (PerBackend& backend : backends_) {
    Upstream* next = nullptr;
    for (auto* idle = backend.idle.front<Upstream>(); idle != nullptr; idle = next) {
      next = backend.idle.next_of<Upstream>(*idle);
      if (idle->stream->ended()) drop(*idle);
    }
  }
}

UpstreamPtr UpstreamPool::take(dispatch::BackendRef ref, Duration oldest) {
  PerBackend& backend = backends_[ref.id];
  if (backend.generation != ref.generation) {
    clear(backend);  // of a worker that is gone
    backend.generation = ref.generation;
  }
  while (auto* idle = backend.idle.front<Upstream>()) {
    if (executor_.now() - idle->since_ > std::min(oldest, bounds_.idle)) return {};
    // Bytes that nobody asked for must never reach the next client.
    if (idle->stream->has_pending() || idle->stream->ended()) {
      drop(*idle);
      continue;
    }
    remove(*idle);
    idle->stream->watch_end(nullptr, Side::upstream);
    idle->reused = true;
    idle->warm = executor_.now() - idle->since_ < kWarm;
    return UpstreamPtr(idle);
  }
  return {};
}

void UpstreamPool::give_back(UpstreamPtr upstream) {
  PerBackend& backend = backends_[upstream->backend.id];
  const bool stale = backend.generation != upstream->backend.generation;
  const bool unclean = upstream->stream->has_pending() || upstream->stream->ended();
  const bool full = backend.count >= bounds_.per_backend || total_ >= bounds_.total;
  if (stale || unclean || full || upstream->for_one_client) return;
  Upstream& idle = *upstream.release();
  idle.parser.reset();
  idle.partial_head.reset();
  idle.since_ = executor_.now();
  idle.stream->watch_end(&ended_, Side::upstream);
  backend.idle.push_front(idle);
  ++backend.count;
  ++total_;
  if (!sweep_.armed()) executor_.arm(sweep_, executor_.now() + bounds_.idle);
}

// Closes what has been idle for too long and looks again when the next one will have been.
void UpstreamPool::close_old() {
  const TimePoint now = executor_.now();
  TimePoint next = kNever;
  for (PerBackend& backend : backends_) {
    while (auto* oldest = backend.idle.back<Upstream>()) {
      if (oldest->since_ + bounds_.idle > now) {
        next = std::min(next, oldest->since_ + bounds_.idle);
        break;
      }
      drop(*oldest);
    }
  }
  if (next != kNever) executor_.arm(sweep_, next);
}

void UpstreamPool::remove(Upstream& idle) {
  --backends_[idle.backend.id].count;
  --total_;
  idle.unlink();
}

void UpstreamPool::drop(Upstream& idle) {
  remove(idle);
  delete &idle;
}

void UpstreamPool::clear(PerBackend& backend) {
  while (auto* idle = backend.idle.front<Upstream>()) drop(*idle);
}

void UpstreamPool::clear() {
  for (PerBackend& backend : backends_) clear(backend);
}

}  // namespace perigee::proxy
