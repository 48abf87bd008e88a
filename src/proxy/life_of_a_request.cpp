// life_of_a_request.cpp: what happens to one request, from its first byte to its log line.
//
// Read this file first. Each stage is one call into one file of this room; what a stage decides is explained
// there. It all runs on the loop thread of the client's connection and never leaves it. When the client goes
// away or a clock runs out, the connection's cancel source fires: the wait that is under way returns the
// reason as an error, every stage hands it up, and account() still runs, exactly once.
#include "belonging.h"
#include "inner.h"
#include "rates.h"
#include "stages.h"

namespace perigee::proxy {

using coro::Task;

namespace {

// read the head → classify → guard (its rate) → (body) → (its session's turn) → wait for a ticket → connect or reuse → send → head of the
// answer. The first stage that fails ends the walk.
Task<Result<void>> seek_answer(Exchange& x) {
  auto taken = co_await take_request(x);
  CO_TRY_VOID(taken);
  if (x.rates) {
    auto within = co_await within_rates(x);
    CO_TRY_VOID(within);
  }
  if (!x.body_complete) {
    auto body = co_await take_body(x);
    CO_TRY_VOID(body);
  }
  x.times.read = x.proxy.now();
  CO_TRY_VOID(look_into_body(x));

  if (x.verdict.stop_call) co_return co_await stop_everywhere(x);
  start_heart_beats(x);
  // Of a session one chat at a time; before it asks for a ticket, so that no slot waits for a turn.
  if (x.belonging && !has_turn(x)) {
    auto turn = co_await wait_for_turn(x);
    CO_TRY_VOID(turn);
  }
  // Each attempt: a ticket (the only place where a request waits for a worker), a connection, the head of an
  // answer.
  co_return co_await obtain_answer(x);
}

Task<Result<void>> deliver(Exchange& x) { return x.tunnelled ? tunnel(x) : relay(x); }

// One request. True when the connection may carry another. All that was needed to find the answer is gone while
// it is delivered: a stream may take minutes.
Task<bool> serve_request(Client& client) {
  Exchange x(client);
  auto outcome = co_await seek_answer(x);
  if (x.times.begun == kNever) co_return false;  // no request: the client is done, or was idle for long
  if (outcome && !x.answered) {
    outcome = co_await deliver(x);
    client.deadline.clear();
    if (x.upload) co_await end_upload(x);
    settle(x, outcome);
  }
  if (outcome) {
    client.linger = !x.keep_alive;
  } else {
    answer_error(x, outcome.error());
  }
  account(x);
  co_return x.keep_alive;
}

// A client's connection: one request after the other, as long as both sides want.
Task<void> serve_client(ClientPtr client) {
  LoopProxy::Inner& proxy = client->proxy;
  bool more = true;
  while (more) {
    client->source.reset();
    more = co_await coro::under(client->source, serve_request(*client));
    if (proxy.scope.source().cancelled()) break;
    if (more && client->stream->backlog() > net::kBacklogHigh) more = co_await let_client_read(*client);
  }
  client->deadline.clear();
  if (client->linger) co_await linger(*client);
}

// The same where something comes before the first request.
Task<void> serve_entrant(ClientPtr client, Entrance entrance) {
  bool welcome = true;
  if (entrance.proxy_header) welcome = co_await learn_peer(*client);
  if (!welcome) co_return;
  if (entrance.tls) {  // shaken hands while the first head is awaited
    client->peer.secure = true;
    client->stream = net::accept_tls(std::move(client->stream), std::move(entrance.tls), client->peer);
  }
  co_await serve_client(std::move(client));
}

}  // namespace

void LoopProxy::serve(net::StreamPtr stream, const net::Peer& peer, Entrance entrance) {
  if (inner_->scope.source().cancelled()) return;  // accepted before the cut, handed over after it
  auto client = std::make_unique<Client>(*inner_, std::move(stream), peer);
  const bool plain = !entrance.proxy_header && !entrance.tls;
  inner_->scope.spawn(plain ? serve_client(std::move(client)) : serve_entrant(std::move(client), std::move(entrance)));
}

}  // namespace perigee::proxy
