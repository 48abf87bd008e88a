// What a request belongs to: a session, whose turns come one after the other and prefer one worker, or something that one
// worker's memory holds. Allocated for such requests alone, and kept to their end.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "exchange.h"
#include "perigee/admission/session_name.h"
#include "perigee/coro/task.h"
#include "perigee/proxy/sessions.h"

namespace perigee::proxy {

class TurnWait;

struct Belonging {
  // What in a worker's answer tells an id that only this worker knows.
  enum class Learn : std::uint8_t { nothing, header, body, request };
  // A session that its client did not name: what the head said of it, and where the name goes in the forwarded head.
  struct Unnamed {
    admission::SessionSeed seed;
    std::size_t at = 0;  // in x.out; 0 = not yet written
  };

  std::uint64_t owner = 0;     // hash of the key
  std::uint64_t session = 0;   // of key and session, where turns are taken; 0 = none
  std::uint64_t affinity = 0;  // hash of what should keep to one worker; 0 = nothing
  dispatch::BackendRef home;   // the one that it prefers, because it was there last
  std::uint64_t known_id = 0;  // hash of what a worker's memory holds, as the request names it; 0 = nothing
  std::unique_ptr<Unnamed> unnamed;
  Duration waited{};           // for its turn
  TurnWait* waiting = nullptr;
  Learn learn = Learn::nothing;
  bool was_in_line = false;    // before draining began
  std::uint64_t stream_id = 0; // hash of the worker's request id, for stops
  Turn turn;
  RunningStream stream;
};

// In the turn in which the head was parsed, behind its classification.
void belong(Exchange& x, std::string_view path);
// Behind the forwarded head: room for the name of a session that has none.
void leave_room_for_name(Exchange& x);
// What came of the body was looked at: `task` is the id of an A2A task, as JSON has it. Names the session.
void belong_by_body(Exchange& x, std::string_view task);

inline constexpr const char* kNoTurn = "an earlier turn of this session is still running";

// Asks for the session's turn; true where there is none to wait for.
[[nodiscard]] bool has_turn(Exchange& x);
// To be awaited where has_turn() said false: the refusal, or the turn.
coro::Task<Result<void>> wait_for_turn(Exchange& x);

// Where its ticket should be for, and how long it may still wait for it.
void prefer(const Exchange& x, dispatch::Ask& ask);
// `ask` was refused, because the worker that it names is gone: true where another one may answer, with `ask` changed.
[[nodiscard]] bool go_elsewhere(Exchange& x, dispatch::Ask& ask);

// The final head of the answer, and its first bytes where `learn` is `body`.
void learn_from_head(Exchange& x);
void learn_from_body(Exchange& x, std::string_view piece);
// The worker has named its stream: from here on a stop finds it.
void name_stream(Exchange& x, std::uint64_t stream_id);
// A worker said that it cancels this stream: it is ended towards its worker, so that the provider stops too.
void end_stopped(Exchange& x, std::uint64_t stream_id);
// Whether an answer was ended by that.
[[nodiscard]] bool ended_by_stop(const Error& error);

}  // namespace perigee::proxy
