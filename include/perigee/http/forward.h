// Writes the heads that Perigee sends on: canonical, with only the fields that may pass.
//
// The rules, field by field, are in src/http/README.md. Everything is appended to `out`; nothing else is
// allocated. The source views must not point into `out`.
#pragma once

#include <cstdint>
#include <string_view>

#include "perigee/base/byte_buffer.h"
#include "perigee/http/message.h"

namespace perigee::http {

struct ForwardContext {
  std::string_view peer;             // address of the client's connection, no port, no brackets
  std::string_view scheme = "http";  // of the client's connection
  bool trusted = false;              // the peer is on the trust list: its X-Forwarded-*, Forwarded are believed
  std::string_view client;           // the client's address as HopWalk found it; empty = the peer is the client
  bool drop_traceparent = false;     // see trace_context.h
  bool drop_tracestate = false;
  std::string_view traceparent;      // of a trace that begins here; empty = none
  std::string_view request_id;       // ours, used unless the client sent a valid one of its own
  std::string_view host;             // replaces Host where not empty (for /mcp, and HTTP/1.0 without Host)
  Framing framing = Framing::none;   // of the body that we send: none, length or chunked
  std::uint64_t content_length = 0;
  bool upgrade = true;  // pass head.upgrade on where it is set
};

// Towards a worker, always HTTP/1.1.
void write_request_head(ByteBuffer& out, const RequestHead& head, const HeaderTable& table,
                        const ForwardContext& context);

// The request id that write_request_head puts in: the client's where it is valid, else `generated`.
std::string_view request_id_for(const HeaderTable& table, std::string_view generated);
// 1 to 128 characters of A-Z a-z 0-9 and - _ . : + / = @
bool valid_request_id(std::string_view id);

// How the body of an answer goes to this client.
struct ResponsePlan {
  Framing framing = Framing::none;
  std::uint64_t content_length = 0;
  bool close = false;  // our side ends after this answer
};
// An answer of known length keeps it, anything else is chunked, or for HTTP/1.0 ends by closing.
// `keep_alive`: the client wished it and nothing of ours (drain, an unread request body) forbids it.
ResponsePlan plan_response(const ResponseHead& response, const RequestFacts& request, bool keep_alive);

struct ResponseContext {
  ResponsePlan plan;
  std::uint8_t client_minor = 1;  // version of the request
  bool upgrade = false;           // this is the 101 of an upgrade that was asked for
  std::string_view request_id;    // added where the worker sent none; empty = add nothing
  std::string_view date;          // the same for Date
  std::string_view extra;         // whole lines, each with its CRLF, added as they are
};
// Towards a client. 1xx heads get neither framing, request id nor date.
void write_response_head(ByteBuffer& out, const ResponseHead& head, const HeaderTable& table,
                         const ResponseContext& context);

}  // namespace perigee::http
