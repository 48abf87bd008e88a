#include "memory_watch.h"

#include <algorithm>
#include <vector>

#include "inner.h"
#include "stages.h"

namespace perigee::proxy {

namespace {

constexpr Duration kInterval = std::chrono::milliseconds(250);

std::size_t held_by(const net::Stream& stream) { return stream.pending() + stream.backlog(); }

std::size_t held_by(const Client& client) {
  std::size_t bytes = held_by(*client.stream);
  if (client.partial_head) bytes += client.partial_head->capacity();
  const Exchange* const x = client.exchange;
  if (x == nullptr) return bytes;
  bytes += x->out.size();
  if (x->upstream && x->upstream->stream) bytes += held_by(*x->upstream->stream);
  if (x->far_end) bytes += held_by(*x->far_end);
  return bytes;
}

struct Holder {
  Client* client;
  std::uint32_t bytes;
  bool stands;  // it holds no less than at the last look
};

}  // namespace

MemoryWatch::MemoryWatch(LoopProxy::Inner& proxy)
    : Timer([](coro::Timer& t) { static_cast<MemoryWatch&>(t).check(); }), proxy_(proxy) {}

void MemoryWatch::begin() {
  if (!armed()) proxy_.executor().arm(*this, proxy_.now() + kInterval);
}

void MemoryWatch::check() {
  const std::uint64_t came = net::received_by_thread - received_;
  if (held_ + 2 * came > limit_) look();
  if (proxy_.connections > 0) begin();
}

void MemoryWatch::look() {
  std::uint64_t total = 0;
  for (auto* c = proxy_.clients.front<Client>(); c != nullptr; c = proxy_.clients.next_of<Client>(*c)) total += held_by(*c);
  // Who makes headway shows only beside a look shortly before.
  const bool shortly = proxy_.now() - looked_at_ < 4 * kInterval;
  if (total > limit_ && shortly) shed(total);
  for (auto* c = proxy_.clients.front<Client>(); c != nullptr; c = proxy_.clients.next_of<Client>(*c)) {
    c->held_before = static_cast<std::uint32_t>(held_by(*c));
  }
  held_ = total;
  received_ = net::received_by_thread;
  looked_at_ = proxy_.now();
}

void MemoryWatch::shed(std::uint64_t total) {
  std::vector<Holder> holders;
  holders.reserve(proxy_.connections);
  for (auto* c = proxy_.clients.front<Client>(); c != nullptr; c = proxy_.clients.next_of<Client>(*c)) {
    const auto bytes = static_cast<std::uint32_t>(held_by(*c));
    if (bytes > 0 && !c->source.cancelled()) holders.push_back({c, bytes, bytes >= c->held_before});
  }
  std::ranges::sort(holders, [](const Holder& a, const Holder& b) {
    return a.stands != b.stands ? a.stands : a.bytes > b.bytes;
  });
  for (const Holder& holder : holders) {
    if (total <= limit_) return;
    total -= holder.bytes;
    proxy_.metrics().add(telemetry::Count::shed_for_memory);
    holder.client->source.cancel(kOutOfMemory);
  }
}

}  // namespace perigee::proxy
