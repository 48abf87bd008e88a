// Heart-beats: SSE comments to the client of a stream that has heard nothing for a while, because its request
// waits in the queue or its worker is silent. Off unless `heart_beats` is written.
//
// The first one, if the worker has not answered by then, comes behind a head of our own: 200, an event
// stream. What goes wrong from then on can only be told by an event. So they are sent only where the answer
// is sure to be an event stream: chats of ORBIT's and of OpenAI's shape that ask for one, and whoever says
// so in Accept; never to HTTP/1.0, which knows no chunks.
#pragma once

#include "exchange.h"
#include "perigee/coro/executor.h"

namespace perigee::proxy {

class TicketWait;

class HeartBeat : private coro::Timer {
 public:
  // Begins to count at once.
  HeartBeat(Exchange& x, Duration interval);
  // Something else went to the client.
  void heard();
  // It is in the queue, and its place there can be told; null: not any more.
  void waits_for(const TicketWait* wait) { wait_ = wait; }
  // A comment may stand where `scanner` is between two events. Null: nowhere, as from now on.
  void between_events_of(const http::SseScanner* scanner) {
    answered_ = true;
    scanner_ = scanner;
  }

 private:
  void beat();
  void send_comment();
  void begin_answer();

  Exchange& x_;
  Duration interval_;
  TimePoint last_;
  const TicketWait* wait_ = nullptr;
  const http::SseScanner* scanner_ = nullptr;
  bool answered_ = false;  // the worker has
};

// Gives `x` its heart-beats, if it is to have any.
void start_heart_beats(Exchange& x);

}  // namespace perigee::proxy
