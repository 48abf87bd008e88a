// What the requests of one loop share: pools, scratch memory, the clock's text, counters.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "exchange.h"
#include "perigee/base/random.h"
#include "perigee/coro/scope.h"
#include "perigee/http/date.h"
#include "perigee/http/message.h"
#include "perigee/proxy/loop_proxy.h"

namespace perigee::proxy {

// The address of a worker as this loop knows it, looked up once a generation.
struct KnownBackend {
  bool known = false;
  std::uint16_t generation = 0;
  net::ProxyVersion proxy_protocol = net::ProxyVersion::none;  // how its connections begin
  net::Endpoint endpoint;
  net::TlsClientPtr tls;  // null: plain
  std::string name;
};

struct LoopProxy::Inner {
  Inner(const LoopParts& parts, PlanPtr plan);

  LoopParts parts;
  PlanPtr plan;
  Rng rng;
  coro::Scope scope;  // every coroutine of the data plane
  UpstreamPool pool;
  MemoryWatch memory;
  std::array<KnownBackend, dispatch::kMaxBackends> backends;
  IntrusiveList<ConnectionTag> clients;
  std::size_t connections = 0;
  std::size_t exchanges = 0;     // Exchange objects and detached answers …
  std::size_t idle_clients = 0;  // … of which these wait for a first byte
  bool draining = false;

  // Used within one turn, never across a wait.
  http::RequestHead request_head;
  http::HeaderTable request_table;
  http::HeaderTable response_table;
  ByteBuffer scratch;  // bytes on their way to a client
  Answering answering;  // between its head and its delivery
  std::array<std::string_view, 32> pieces;  // of a body
  std::array<char, http::kHttpDateBytes> date{};
  std::vector<char> path_buffer;

  [[nodiscard]] coro::Executor& executor() const { return parts.executor; }
  [[nodiscard]] TimePoint now() const { return parts.executor.now(); }
  [[nodiscard]] telemetry::LoopMetrics& metrics() const { return parts.metrics; }
  [[nodiscard]] std::string_view date_text() const { return {date.data(), date.size()}; }
  void refresh_date();

  // A buffer with memory from earlier requests; keep() takes it back when it is not too large.
  [[nodiscard]] ByteBuffer borrow();
  void keep(ByteBuffer buffer);

  // 24 characters: a random prefix of this start and loop, and a counter. Until the next one is made.
  [[nodiscard]] std::string_view make_request_id();

  // The worker a ticket is for, with its address (its length is 0 where neither the current plan nor `plan` has it).
  [[nodiscard]] const KnownBackend& backend(const dispatch::BackendIdentity& identity, const Plan& plan);

 private:
  std::vector<ByteBuffer> spare_;
  static constexpr std::ptrdiff_t kIdPrefix = 12;
  std::array<char, 24> id_{};  // the last one made
};

}  // namespace perigee::proxy
