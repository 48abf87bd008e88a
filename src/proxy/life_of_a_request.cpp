// life_of_a_request.cpp: what happens to one request, from its first byte to its log line.
//
// Read this file first. Each stage is one call into one file of this room; what a stage decides is explained
// there. It all runs on the loop thread of the client's connection and never leaves it. When the client goes
// away or a clock runs out, the connection's cancel source fires: the wait that is under way returns the
// reason as an error, every stage hands it up, and account() still runs, exactly once.
#include "inner.h"
#include "rates.h"
#include "stages.h"

namespace perigee::proxy {

using coro::Task;

namespace {

Task<Result<void>> deliver(Exchange& x, const Answering& answering) {
  return x.tunnelled ? tunnel(x) : relay(x, answering);
}

// classify → guard (its rate) → (body) → wait for a ticket → connect or reuse → send → head → deliver. The first stage
// that fails ends the walk.
Task<Result<void>> answer(Exchange& x) {
  if (x.rates) {
    auto within = co_await within_rates(x);
    CO_TRY_VOID(within);
  }
  if (!x.body_complete) {
    auto body = co_await take_body(x);
    CO_TRY_VOID(body);
  }
  x.times.read = x.proxy.now();
  look_into_body(x);

  if (x.verdict.stop_call) co_return co_await stop_everywhere(x);
  start_heart_beats(x);
  // Each attempt: a ticket (the only place where a request waits for its turn), a connection, the head of an
  // answer. What the attempts needed is gone while the answer is delivered: a stream may take minutes.
  auto answering = co_await obtain_answer(x);
  CO_TRY_VOID(answering);
  auto delivered = co_await deliver(x, *answering);
  x.client.deadline.clear();
  if (x.upload) co_await end_upload(x);
  if (delivered) {
    conclude(x, answering->reusable);
  } else {
    give_up(x, delivered.error());
  }
  co_return delivered;
}

// One request. True when the connection may carry another.
Task<bool> serve_request(Client& client) {
  Exchange x(client);
  auto taken = co_await take_request(x);
  if (!taken) {
    if (x.times.begun == kNever) co_return false;  // no request: the client is done, or was idle for long
    answer_bad_head(x, taken.error());
    account(x);
    co_return x.keep_alive;
  }
  auto outcome = co_await answer(x);
  if (outcome) {
    client.linger = !x.keep_alive;
  } else {
    answer_error(x, outcome.error());
  }
  account(x);
  co_return x.keep_alive;
}

// A client's connection: one request after the other, as long as both sides want.
Task<void> serve_client(LoopProxy::Inner& proxy, net::StreamPtr stream, net::Peer peer, Entrance entrance) {
  Client client(proxy, std::move(stream), peer);
  bool more = true;
  if (entrance.proxy_header) more = co_await learn_peer(client);
  if (more && entrance.tls) {  // shaken hands while the first head is awaited
    client.peer.secure = true;
    client.stream = net::accept_tls(std::move(client.stream), std::move(entrance.tls), client.peer);
  }
  while (more) {
    client.source.reset();
    more = co_await coro::under(client.source, serve_request(client));
    if (proxy.scope.source().cancelled()) break;
    if (more && client.stream->backlog() > net::kBacklogHigh) more = co_await coro::under(client.source, let_client_read(client));
  }
  client.deadline.clear();
  if (client.linger) co_await linger(client);
}

}  // namespace

void LoopProxy::serve(net::StreamPtr stream, const net::Peer& peer, Entrance entrance) {
  if (inner_->scope.source().cancelled()) return;  // accepted before the cut, handed over after it
  inner_->scope.spawn(serve_client(*inner_, std::move(stream), peer, std::move(entrance)));
}

}  // namespace perigee::proxy
