// The stages of a request as life_of_a_request.cpp calls them, each in a file of its own.
//
// All run on the loop of the client's connection. An error says on which side it arose; answers.cpp turns
// it into what the client sees. `x.head_sent` tells whether that is still possible.
#pragma once

#include "exchange.h"
#include "perigee/base/result.h"
#include "perigee/coro/task.h"
#include "perigee/http/forward.h"
#include "perigee/net/proxy_connector.h"
#include "ticket_wait.h"

namespace perigee::proxy {

// --- proxy_header.cpp: whom a balancer's connection comes from, before any request on it.
// Waits for the PROXY header and takes the peer that it names. False: none came, or a broken one; close.
coro::Task<bool> learn_peer(Client& client);
// Makes connections to a worker that wants to be told of clients: with a header that names this request's.
[[nodiscard]] net::ProxyConnector connector_for(const Exchange& x, net::ProxyVersion version);

// --- intake.cpp: from the first byte to "enough to go on".
// Waits for a request head and takes it in: route, guard, forwarded head, what has come of the body.
// An error without a request (`eof`: the client is done; `timeout` while idle) ends the connection quietly.
coro::Task<Result<void>> take_request(Exchange& x);
// The body is not whole: waits until it is, or 64 KiB of it have come.
coro::Task<Result<void>> take_body(Exchange& x);

// --- routing.cpp. Called in the turn in which the head was parsed.
// Class, priority, replay, pool, bounds. Refuses ambiguous paths and bodies over their bound.
Result<void> route(Exchange& x);
void forward_head(Exchange& x);
// Later, of the first bytes of the body: streamed or not, and where a route by model leads.
Result<void> look_into_body(Exchange& x);

// --- tenants.cpp: whose request it is, and the rates that hold for it. In the turn in which the head was parsed.
void identify(Exchange& x, std::string_view path);

// --- rates.cpp: which rates hold for a request (x.rates; none: null); whether it may go; what it cost in the end.
void match_rates(Exchange& x, std::string_view path, const admission::Claims& claims);
coro::Task<Result<void>> within_rates(Exchange& x);
void settle_rates(Exchange& x);
// The RateLimit fields of its answer, whole lines; empty where no rate holds.
[[nodiscard]] std::string rate_lines(const Exchange& x, bool worker_tells = false);

// --- heart_beat.cpp: comments to a client that hears nothing, from here on.
void start_heart_beats(Exchange& x);

// --- attempts.cpp: tickets, retries. Ends with the head of an answer (`answering` of the loop), or with the last
// attempt's error.
coro::Task<Result<void>> obtain_answer(Exchange& x);
dispatch::Ask ask_of(const Exchange& x);

// --- attempt.cpp: one request under x.ticket, on one connection: connect or reuse, send, wait for the head of
// the answer. An error leaves ticket, connection and clocks to the caller.
coro::Task<Result<void>> attempt(Exchange& x);
// An idle connection to the ticket's worker that this request may use, or nothing.
UpstreamPtr reuse(Exchange& x, const dispatch::Ticket& ticket);
coro::Task<Result<UpstreamPtr>> connect(Exchange& x, const dispatch::Ticket& ticket);
// Writes the head in `x.out` and the part of the body behind it.
Result<void> send_request(Exchange& x, Upstream& upstream);
// Sends what follows the first part of the body. Ends in an error only by cancelling the exchange.
coro::Task<void> pass_body(Exchange& x, net::Stream& upstream);

// --- relay.cpp: the body of an answer, as it arrives. To be awaited in the turn in which the head was obtained.
coro::Task<Result<void>> relay(Exchange& x);

// --- tunnel.cpp: after a 101, bytes both ways until both sides have ended.
coro::Task<Result<void>> tunnel(Exchange& x);

// --- stop_everywhere.cpp: POST /v1/chat/stop, asked of every worker.
coro::Task<Result<void>> stop_everywhere(Exchange& x);

// --- farewell.cpp: how connections end.
// Lets a worker's connection go with FIN, reading what it still sends for a while (never an RST).
void part_from(LoopProxy::Inner& proxy, net::StreamPtr stream);
// Ends an attempt: its ticket, its connection, and a worker that goes on without a client.
void give_up(Exchange& x, const Error& error);
// The same for an answer that was delivered, whole or not.
void settle(Exchange& x, const Result<void>& delivered);
// Ends the rest of an upload that nobody needs any longer.
coro::Task<void> end_upload(Exchange& x);
// The client left, or was answered 504, while the worker goes on: keeps the ticket until it is done or `time` is up.
void detach(Exchange& x, Duration time);
// Reads on after our last word, so that the client can read it.
coro::Task<void> linger(Client& client);
// Waits until a client that sends requests has read its answers; false when it takes none.
coro::Task<bool> let_client_read(Client& client);

// --- answers.cpp: what the client sees when Perigee itself answers.
// Answers `error` if that is still possible, else ends the connection so that no cut answer looks whole.
void answer_error(Exchange& x, const Error& error);
[[nodiscard]] std::string cors_lines(const config::Cors& cors, std::string_view origin);

// --- account.cpp: the log line and the counters, exactly once a request.
void account(Exchange& x);

// Errors of the clocks, by name.
inline constexpr Error kHeadTooSlow{ErrorKind::timeout, Side::client, Sent::nothing, 0, "request head"};
inline constexpr Error kBodyTooSlow{ErrorKind::timeout, Side::client, Sent::nothing, 0, "request body"};
inline constexpr Error kIdleTooLong{ErrorKind::timeout, Side::client, Sent::nothing, 0, "idle"};
inline constexpr Error kClientStalled{ErrorKind::timeout, Side::client, Sent::maybe, 0, "client takes nothing"};
inline constexpr Error kOutOfMemory{ErrorKind::exhausted, Side::client, Sent::maybe, 0, "memory for buffers"};
inline constexpr Error kConnectTimeout{ErrorKind::timeout, Side::upstream, Sent::nothing, 0, "connect"};
inline constexpr Error kAnswerTimeout{ErrorKind::timeout, Side::upstream, Sent::maybe, 0, "head of the answer"};
inline constexpr Error kFirstEventTimeout{ErrorKind::timeout, Side::upstream, Sent::maybe, 0, "first event"};
inline constexpr Error kSilence{ErrorKind::timeout, Side::upstream, Sent::maybe, 0, "silence"};
inline constexpr Error kTotalTimeout{ErrorKind::timeout, Side::upstream, Sent::maybe, 0, "whole exchange"};

}  // namespace perigee::proxy
