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

#include "perigee/admission/route_table.h"
#include "perigee/admission/tenant.h"
#include "perigee/balancing/outcome.h"
#include "perigee/base/byte_buffer.h"
#include "perigee/coro/cancel.h"
#include "perigee/coro/deadline.h"
#include "perigee/coro/scope.h"
#include "perigee/dispatch/dispatcher.h"
#include "perigee/http/error_body.h"
#include "perigee/http/parser.h"
#include "perigee/http/sse.h"
#include "perigee/net/address.h"
#include "perigee/net/stream.h"
#include "perigee/proxy/loop_proxy.h"
#include "perigee/telemetry/reason.h"
#include "memory_watch.h"
#include "upstream_pool.h"

namespace perigee::proxy {

struct ConnectionTag;
struct Exchange;
class HeartBeat;

// Texts of the request in hand. They belong to the connection, so that its next request finds their memory.
struct Texts {
  std::string request_id;  // as forwarded
  std::string worker_request_id;
  std::string path;  // where there is a log to be written
  void clear() {
    request_id.clear();
    worker_request_id.clear();
    path.clear();
  }
};

// A client's connection. Lives in the frame of serve_client().
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

struct Exchange {
  explicit Exchange(Client& c);
  ~Exchange();
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  Client& client;
  LoopProxy::Inner& proxy;
  PlanPtr plan;  // from the first byte of the request until its answer's head is out

  // --- the request. The views in `head` are valid only in the turn in which it was parsed.
  http::RequestHead head;
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
  bool keep_alive = true;      // this connection may carry another request
  ByteBuffer out;              // the forwarded head, then the decoded body (at most 64 KiB of it)
  std::uint32_t out_head_bytes = 0;
  std::string upgrade_protocol;

  // --- the attempt that is under way: its right to run, and its connection
  dispatch::Ticket ticket;
  UpstreamPtr upstream;

  // --- the answer
  bool head_sent = false;      // bytes of a worker's final answer, or of ours, went to the client
  bool stream_begun = false;   // a heart-beat came first: our own head of an event stream is out
  bool event_stream = false;
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
  std::uint64_t stream_id = 0;  // hash of the worker's request id, for stops
  balancing::Outcome outcome = balancing::Outcome::success;  // how the running attempt stands with its worker
  std::unique_ptr<coro::Scope> upload;    // the rest of a large body, on its way
  std::unique_ptr<coro::Deadline> total;  // the clock of the whole exchange, where one is set
  std::unique_ptr<HeartBeat> heart_beat;  // where there are any

  std::string client_address;  // the client's, as trusted peers tell it; empty: the peer is the client

  // --- for the log
  Times times;
  std::array<std::uint8_t, 16> trace_id{};  // of the W3C trace; all zero: none
  telemetry::Reason reason = telemetry::Reason::served;
  telemetry::StreamVerdict verdict_of_stream = telemetry::StreamVerdict::none;
  bool client_gone = false;
  std::uint8_t attempts = 0;
  std::uint32_t deadline_ms = 0;  // from the request's first byte, as a trusted peer wrote it; 0 = it did not
  std::uint32_t tokens = 0;       // generated, as far as passing events or bytes tell
  std::uint64_t client_in_before = 0;   // the connection's counters when the exchange began
  std::uint64_t client_out_before = 0;
  dispatch::BackendRef backend;
  std::uint64_t arrival = 0;   // place in the queue, for later attempts
  std::string cors;            // whole lines for our own errors
  std::string_view method;     // of static storage
  std::string& request_id;
  std::string& worker_request_id;
  std::string& path;
};

}  // namespace perigee::proxy
