#include "inner.h"

#include <algorithm>
#include <charconv>

#include "belonging.h"
#include "heart_beat.h"
#include "rates.h"
#include "stages.h"

namespace perigee::proxy {

namespace {
constexpr std::size_t kSpareBuffers = 64;
constexpr std::size_t kSpareBytesMax = 8UL * 1024;
constexpr Duration kDrainIdle = std::chrono::seconds(5);

// Every running stream has one of each, for minutes; tests/scenarios/test_cost.py bounds the whole of it. What is
// rare belongs behind a pointer, what is text into Texts, what is used within one turn into Inner.
static_assert(sizeof(Client) <= 400);
static_assert(sizeof(Exchange) <= 448);
static_assert(sizeof(Upstream) <= 96);
}  // namespace

LoopProxy::Inner::Inner(const LoopParts& p, PlanPtr initial)
    : parts(p), plan(std::move(initial)), rng(p.seed), scope(p.executor), pool(p.executor), memory(*this) {
  std::uint64_t prefix = rng.next();
  id_.fill('0');
  for (std::size_t i = 0; i < kIdPrefix; ++i) {
    id_[i] = "0123456789abcdefghijklmnopqrstuv"[prefix & 31U];
    prefix >>= 5U;
  }
  path_buffer.resize(256);
  refresh_date();
}

void LoopProxy::Inner::refresh_date() { http::format_http_date(parts.clock.wall_ms(), date); }

ByteBuffer LoopProxy::Inner::borrow() {
  if (spare_.empty()) return ByteBuffer(1024);
  ByteBuffer buffer = std::move(spare_.back());
  spare_.pop_back();
  buffer.clear();
  return buffer;
}

void LoopProxy::Inner::keep(ByteBuffer buffer) {
  if (buffer.capacity() == 0 || buffer.capacity() > kSpareBytesMax || spare_.size() >= kSpareBuffers) return;
  spare_.push_back(std::move(buffer));
}

std::string_view LoopProxy::Inner::make_request_id() {
  // The counter is kept as text: counting on is a digit or two.
  for (auto digit = id_.rbegin(); digit != id_.rend() - kIdPrefix; ++digit) {
    *digit = *digit == '9' ? 'a' : *digit == 'f' ? '0' : static_cast<char>(*digit + 1);
    if (*digit != '0') break;
  }
  return {id_.data(), id_.size()};
}

const KnownBackend& LoopProxy::Inner::backend(const dispatch::BackendIdentity& identity, const Plan& from) {
  KnownBackend& known = backends[identity.ref.id];
  if (known.known && known.generation == identity.ref.generation && known.endpoint.length != 0) return known;
  known.known = true;
  known.generation = identity.ref.generation;
  known.name = identity.name;
  known.endpoint = {};
  // Who waited through a reload may get a worker that its own plan does not have, and the other way round.
  for (const Plan* p : {plan.get(), &from}) {
    const auto& workers = p->config->workers;
    for (std::size_t i = 0; i < workers.size() && i < p->endpoints.size(); ++i) {
      if (workers[i].name != identity.name || workers[i].origin() != identity.address) continue;
      known.endpoint = p->endpoints[i];
      known.tls = i < p->tls.size() ? p->tls[i] : nullptr;
      known.proxy_protocol = net::version_of(workers[i].proxy_protocol);
      return known;
    }
  }
  return known;
}

Client::Client(LoopProxy::Inner& p, net::StreamPtr s, const net::Peer& from)
    : proxy(p), stream(std::move(s)), peer(from), source(&p.scope.source()), deadline(p.executor(), source) {
  proxy.clients.push_back(*this);
  ++proxy.connections;
  proxy.memory.begin();
  draining = proxy.draining;
  proxy.metrics().add(telemetry::Count::connections_accepted);
}

Client::~Client() {
  set_idle(false);
  --proxy.connections;
  proxy.metrics().add(telemetry::Count::connections_closed);
}

void Client::set_idle(bool now_idle) {
  if (now_idle == idle) return;
  idle = now_idle;
  if (now_idle) {
    ++proxy.idle_clients;
  } else {
    --proxy.idle_clients;
  }
}

void Texts::set(Part part, std::string_view text) {
  const std::uint32_t size = ends_[part] - begin(part);
  const auto more = static_cast<std::uint32_t>(text.size()) - size;  // modulo 2^32
  all_.replace(begin(part), size, text);
  for (std::size_t i = part; i < kParts; ++i) ends_[i] += more;
}

void Texts::drop(Part part) {
  if (get(part).empty()) return;
  set(part, {});
  all_.shrink_to_fit();
}

Exchange::Exchange(Client& c) : client(c), proxy(c.proxy) {
  c.texts.clear();
  c.exchange = this;
  client_out_before = c.stream->bytes_out();
  ++proxy.exchanges;
}

Exchange::~Exchange() {
  client.exchange = nullptr;
  --proxy.exchanges;
  client.stream->watch_end(nullptr, Side::client);
  client.deadline.clear();
  if (out.capacity() != 0) proxy.keep(std::move(out));
}

LoopProxy::LoopProxy(const LoopParts& parts, PlanPtr plan) : inner_(std::make_unique<Inner>(parts, plan)) {
  adopt(std::move(plan));
}

LoopProxy::~LoopProxy() = default;

void LoopProxy::adopt(PlanPtr plan) {
  const config::Upstream& upstream = plan->config->upstream;
  inner_->pool.set_bounds({upstream.idle, upstream.idle_per_worker, upstream.idle_total});
  inner_->memory.set_limit(plan->config->memory.buffers / std::max(plan->loops, 1U));
  inner_->plan = std::move(plan);
  // Addresses are looked up anew: a name may resolve to another one.
  for (KnownBackend& known : inner_->backends) known.endpoint = {};
}

void LoopProxy::drain() {
  inner_->draining = true;
  for (auto* client = inner_->clients.front<Client>(); client != nullptr; client = inner_->clients.next_of<Client>(*client)) {
    client->draining = true;
    if (client->idle) client->deadline.set(std::min(client->deadline.due(), inner_->now() + kDrainIdle), kIdleTooLong);
  }
}

void LoopProxy::cut() {
  inner_->scope.cancel(Error{ErrorKind::cancelled, Side::internal, Sent::maybe, 0, "shutting down"});
  inner_->pool.clear();
}

coro::Task<void> LoopProxy::join() { return inner_->scope.join(); }

std::size_t LoopProxy::connections() const { return inner_->connections; }
std::size_t LoopProxy::exchanges() const {
  return inner_->exchanges - std::min(inner_->exchanges, inner_->idle_clients);
}

void LoopProxy::tick() {
  inner_->refresh_date();
  if (inner_->parts.access_log != nullptr) inner_->parts.access_log->flush_if_due(inner_->now());
}

}  // namespace perigee::proxy
