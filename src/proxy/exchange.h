// What one request carries with it from its head to its log line, and the connection it came on.
//
// An Exchange lives in the frame of serve_request(); a stream holds it for minutes, so it stays small: no
// buffer (`out` is given back when the answer's head came), no configuration, no views into received bytes.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "perigee/admission/route_table.h"
#include "perigee/admission/tenant.h"
#include "perigee/balancing/outcome.h"
#include "perigee/base/byte_buffer.h"
#include "perigee/coro/cancel.h"
#include "perigee/coro/deadline.h"
#include "perigee/coro/scope.h"
#include "perigee/dispatch/dispatcher.h"
#include "perigee/http/error_body.h"
#include "perigee/http/forward.h"
#include "perigee/http/parser.h"
#include "perigee/http/sse.h"
#include "perigee/http/usage.h"
#include "perigee/net/address.h"
#include "perigee/net/stream.h"
#include "perigee/proxy/loop_proxy.h"
#include "perigee/telemetry/reason.h"
#include "memory_watch.h"
#include "upstream_pool.h"

namespace perigee::proxy {

struct Belonging;
struct ConnectionTag;
struct Exchange;
class HeartBeat;
struct RateHold;
struct ModelRoutes;

// Texts of the request in hand, in one piece of memory: most of them are empty, and a stream keeps them for
// minutes. They belong to the connection, so that its next request finds their memory. A view lives until
// the next set().
class Texts {
 public:
  // In the order in which they become known: then each is appended.
  enum Part : std::uint8_t {
    kClientAddress,    // the client's, as trusted peers tell it; empty: the peer is the client
    kRequestId,        // as forwarded
    kCors,             // whole lines for our own errors
    kPath,             // where there is a log to be written
    kUpgradeProtocol,  // that the client asks for
    kWorkerRequestId,
    kParts
  };

  void clear() {
    all_.clear();
    ends_ = {};
  }
  [[nodiscard]] std::string_view get(Part part) const { return {all_.data() + begin(part), ends_[part] - begin(part)}; }
  void set(Part part, std::string_view text);
  // Gives back what one takes.
  void drop(Part part);

 private:
  [[nodiscard]] std::uint32_t begin(Part part) const { return part == 0 ? 0 : ends_[part - 1U]; }
  std::string all_;
  std::array<std::uint32_t, kParts> ends_{};
};

// A client's connection. Belongs to serve_client().
struct Client : ListNode<ConnectionTag> {
  Client(LoopProxy::Inner& proxy, net::StreamPtr stream, const net::Peer& peer);
  ~Client();
  void set_idle(bool now_idle);

  LoopProxy::Inner& proxy;
  net::StreamPtr stream;
  net::Peer peer;
  http::RequestParser parser;
  std::unique_ptr<std::string> partial_head;  // a head of which only a part has come
  Texts texts;
  Exchange* exchange = nullptr;  // the request in hand
  std::uint32_t held_before = 0;  // bytes in buffers when it was looked at last (memory_watch.h)
  // Cancels whatever the current exchange waits for: the client left, a clock ran out, the process stops.
  coro::ChildCancelSource source;
  coro::Deadline deadline;
  TimePoint idle_since;
  bool idle = false;     // waiting for a first byte
  bool first = true;     // no request has come yet
  bool draining = false; // ends with its next answer
  bool linger = false;   // the client may still be sending: read on for a while before closing
};

using ClientPtr = std::unique_ptr<Client>;

// When each stage was reached; kNever = it was not.
struct Times {
  TimePoint begun = kNever;    // first byte of the request
  TimePoint read = kNever;     // enough of it to go on
  TimePoint asked = kNever;    // asked for a ticket
  TimePoint granted = kNever;  // of the last attempt, as all below
  TimePoint connected = kNever;
  TimePoint sent = kNever;
  TimePoint head = kNever;
  TimePoint first_event = kNever;
};

// Operator's routes whose head fits and whose model is still to be seen, and what the request is without them.
struct ModelRoutes {
  std::vector<std::uint16_t> candidates;  // indices into config.routes, in order
  // In front of others, and in front of ORBIT: a route may lead from one kind to the other.
  std::array<admission::RouteVerdict, 2> plain;
  std::array<http::SseDialect, 2> dialect{};
  std::optional<Priority> earned;         // by a trusted peer's word or the tenant's key
};

// An answer whose head has come on x.upstream, under x.ticket. The head itself lies ready in the loop's
// scratch buffer, or has been sent (a tunnel); `bytes` came behind it. Both only until the next wait.
struct Answering {
  http::ResponsePlan plan;
  net::Bytes bytes;
};

struct Exchange {
  explicit Exchange(Client& c);
  ~Exchange();
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  Client& client;
  LoopProxy::Inner& proxy;
  PlanPtr plan;  // from the first byte of the request until its answer's head is out

  // --- the request. Its texts are the connection's, its views into received bytes the loop's (inner.h).
  http::RequestFacts head;
  admission::RouteVerdict verdict;
  Replay replay = Replay::unsent;
  http::ErrorShape error_shape = http::ErrorShape::fastapi;
  http::SseDialect dialect = http::SseDialect::generic;
  admission::Tenant tenant;  // unknown where nobody asked: see Config::knows_tenants()
  dispatch::PoolId pool = 0;
  std::uint16_t pool_index = 0;  // the same in plan->config->pools
  bool trusted = false;        // the peer is on the trust list
  bool replay_written = false; // by the operator
  bool orbit = false;          // classified by ORBIT's routes
  bool streamed = false;       // asked for as a stream
  bool event_stream_accepted = false;  // Accept names it
  bool body_complete = false;  // all of it is in `out`, or has been sent
  bool body_passing = false;   // more of it went to a worker than `out` holds: no second attempt
  bool taken = false;          // its head was understood, and nothing in it forbids to go on
  bool answered = false;       // by a stage that needs no delivery
  bool keep_alive = true;      // this connection may carry another request
  bool reads_usage = false;    // somebody is charged by what its answer tells of tokens
  ByteBuffer out;              // the forwarded head, then the decoded body (at most 64 KiB of it)
  std::uint32_t out_head_bytes = 0;
  std::unique_ptr<ModelRoutes> model_routes;  // until the body was looked at, where routes ask for a model

  // --- the attempt that is under way: its right to run, and its connection
  dispatch::Ticket ticket;
  UpstreamPtr upstream;
  net::StreamPtr far_end;      // of a tunnel: all that is left of its `upstream`

  // --- the answer
  bool head_sent = false;      // bytes of a worker's final answer, or of ours, went to the client
  bool stream_begun = false;   // a heart-beat came first: our own head of an event stream is out
  bool event_stream = false;
  bool reusable = false;       // the worker keeps its connection open
  bool detached = false;
  bool cut_by_reset = false;   // the answer ends by closing: a FIN would make a cut one look whole
  bool tunnelled = false;
  bool endless = false;        // a GET /mcp: counted as a tunnel, silence is not bounded
  int status = 0;
  int worker_status = 0;
  dispatch::Refusal refusal;   // with ErrorKind::unavailable
  Duration silence{};          // copied from the plan: streams outlive it
  Duration stalled{};
  Duration first_event_limit{};
  balancing::Outcome outcome = balancing::Outcome::success;  // how the running attempt stands with its worker
  std::unique_ptr<coro::Scope> upload;    // the rest of a large body, on its way
  std::unique_ptr<coro::Deadline> total;  // the clock of the whole exchange, where one is set
  std::unique_ptr<HeartBeat> heart_beat;  // where there are any

  std::unique_ptr<RateHold> rates;        // where some rate holds for it
  std::unique_ptr<http::BodyTail> answer_tail;  // where an answer speaks of tokens, and somebody is charged
  std::unique_ptr<Belonging> belonging;   // where it is of a session, or names what one worker knows

  // --- for the log
  Times times;
  std::array<std::uint8_t, 16> trace_id{};  // of the W3C trace; all zero: none
  telemetry::Reason reason = telemetry::Reason::served;
  telemetry::StreamVerdict verdict_of_stream = telemetry::StreamVerdict::none;
  bool client_gone = false;
  std::uint8_t attempts = 0;
  std::uint32_t deadline_ms = 0;  // from the request's first byte, as a trusted peer wrote it; 0 = it did not
  std::uint32_t generated = 0;    // events of a stream, bytes of a whole answer: see token_count.h
  std::uint64_t client_in_before = 0;   // the connection's counters when the exchange began
  std::uint64_t client_out_before = 0;
  dispatch::BackendRef backend;
  std::uint64_t arrival = 0;   // place in the queue, for later attempts
  const char* method = "";     // of static storage

  [[nodiscard]] Texts& texts() const { return client.texts; }
  [[nodiscard]] std::string_view text(Texts::Part part) const { return client.texts.get(part); }
};

}  // namespace perigee::proxy
