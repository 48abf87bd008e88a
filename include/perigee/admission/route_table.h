// What a request is, from its method and path alone: class, priority, replay rule, and how to treat it.
//
// ORBIT's routes are known here without configuration; in front of any other worker all is `other`.
// Pure and allocation-free (a switch on the first segment, then a few string compares), any thread.
// The table of routes it implements is tested line by line against tests/data/orbit_routes.tsv.
#pragma once

#include <cstdint>
#include <string_view>

#include "perigee/base/vocabulary.h"

namespace perigee::admission {

// What in the first 64 KiB of the JSON body says that the answer will be a stream.
enum class StreamLook : std::uint8_t {
  none,          // never streams as far as the request can tell: do not look
  stream_field,  // a top-level "stream": true
  a2a_method,    // a top-level "method": "tasks/sendSubscribe"
};

struct RouteVerdict {
  RequestClass request_class = RequestClass::other;
  Priority priority = Priority::normal;
  Replay replay = Replay::unsent;  // while `streamed` is not yet known; see effective_replay
  StreamLook stream_look = StreamLook::none;

  bool outside_slots : 1 = false;  // critical lane: health, metrics, stop, pause, resume, GET /admin/info
  bool no_ticket : 1 = false;      // a CORS preflight: forwarded at once, counted nowhere
  bool stop_call : 1 = false;      // POST /v1/chat/stop: asked of all workers, `cancelled` wins
  bool endless_get : 1 = false;    // GET /mcp: gives its ticket back at the head of the answer
  bool websocket : 1 = false;      // a tunnel once the worker answered 101
  bool upload : 1 = false;         // multipart: the larger bound of bodies
  bool rewrite_host : 1 = false;   // /mcp refuses a Host that is not loopback: send the backend's own
  bool openai_errors : 1 = false;  // our own errors take OpenAI's shape, else FastAPI's
  bool operators_only : 1 = false; // an operator's: pause, shutdown, keys …; ORBIT would let any client key
  bool known : 1 = false;          // a route of ORBIT's; false = the worker will answer 404
};

// `path`: percent-decoded once, without query, `%2F` already counted as `/` in front of ORBIT.
// `method`: as received, upper case. `cors_preflight`: the head has both Origin and
// Access-Control-Request-Method. A worker of unknown kind is taken for ORBIT.
[[nodiscard]] RouteVerdict classify(std::string_view method, std::string_view path, WorkerKind kind,
                                    bool cors_preflight = false);

// The replay rule once the look at the body is done: a stream of ORBIT may be sent again until its head
// came (ORBIT sends it before any work). Elsewhere a head says nothing, and the rule stays as it was.
[[nodiscard]] constexpr Replay effective_replay(const RouteVerdict& verdict, bool streamed) {
  const bool head_only = streamed && verdict.known && verdict.replay == Replay::unsent;
  return head_only ? Replay::no_head : verdict.replay;
}

}  // namespace perigee::admission
