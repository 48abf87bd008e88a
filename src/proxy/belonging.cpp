// Sessions of chats and ids of workers, as one request meets them. The tables are proxy/sessions.h's.
//
// ORBIT keeps a session's history by (key, session): both go into one hash. A key is what selects an adapter and may carry
// thousands of people, so that what names a session for a client that names none has to tell them apart.
#include "belonging.h"

#include <algorithm>
#include <array>
#include <vector>

#include "heart_beat.h"
#include "inner.h"
#include "perigee/admission/tenant.h"
#include "perigee/coro/wait.h"
#include "perigee/http/conversation.h"
#include "stages.h"

namespace perigee::proxy {

using coro::Task;
using http::HeaderName;

namespace {

// Not secret, so that all sidecars in front of the same workers, and those after a restart, prefer the same one.
constexpr admission::TenantSecret kPublic{0x5045524947454531ULL, 0x53455353494F4E53ULL};
constexpr Error kStopped{ErrorKind::cancelled, Side::internal, Sent::maybe, 0, "stopped for its client"};
constexpr std::string_view kNameField = "X-Session-ID: ";
constexpr std::string_view kJobs = "/admin/jobs/";

// Never 0.
std::uint64_t hash(std::string_view text, std::uint64_t domain) { return std::max<std::uint64_t>(admission::keyed_hash(kPublic, text, domain), 1); }

// The value of `name` in a target's query, escapes and all.
std::string_view in_query(std::string_view target, std::string_view name) {
  const std::size_t mark = target.find('?');
  for (std::string_view rest = mark == std::string_view::npos ? std::string_view{} : target.substr(mark + 1); !rest.empty();) {
    const std::string_view one = rest.substr(0, rest.find('&'));
    if (one.size() > name.size() && one.starts_with(name) && one[name.size()] == '=') return one.substr(name.size() + 1);
    rest.remove_prefix(std::min(rest.size(), one.size() + 1));
  }
  return {};
}

std::string_view key_of(const http::HeaderTable& table) {
  return admission::api_key_of(table.value(HeaderName::x_api_key), table.value(HeaderName::authorization));
}

std::string_view client_of(const Exchange& x) {
  const std::string_view told = x.text(Texts::kClientAddress);
  return told.empty() ? std::string_view(x.client.peer.text.data()) : told;
}

Belonging& belonging(Exchange& x) {
  if (!x.belonging) x.belonging = std::make_unique<Belonging>();
  return *x.belonging;
}

config::Affinity affinity(const Exchange& x) { return x.plan->config->balancing.affinity; }

void set_session(Exchange& x, std::string_view name) {
  Belonging& b = *x.belonging;
  const std::uint64_t session = hash(name, b.owner);
  if (x.plan->config->sessions.turns) b.session = session;
  if (affinity(x) != config::Affinity::none) b.affinity = session;
}

bool same_name(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) { return (x | 0x20) == (y | 0x20); });
}

// What the head tells of a conversation whose client names no session.
admission::SessionSeed seed_of(const Exchange& x) {
  const config::Sessions& config = x.plan->config->sessions;
  const http::HeaderTable& table = x.proxy.request_table;
  std::vector<std::string_view> parts{key_of(table), config.by_address ? client_of(x) : std::string_view{}};
  for (const std::string& name : config.told_by) {
    const auto* field = std::ranges::find_if(table, [&](const http::Header& h) { return same_name(h.name, name); });
    parts.push_back(field == table.end() ? std::string_view{} : field->value);
  }
  return admission::session_seed(parts);
}

void belong_to_session(Exchange& x) {
  const http::HeaderTable& table = x.proxy.request_table;
  Belonging& b = belonging(x);
  b.owner = hash(key_of(table), 0);
  if (table.has(HeaderName::x_session_id)) {
    if (const std::string_view name = table.value(HeaderName::x_session_id); !name.empty()) set_session(x, name);
    return;
  }
  const bool orbits_own = x.verdict.known && x.verdict.stream_look == admission::StreamLook::stream_field;
  if (!x.plan->config->sessions.supply || !orbits_own || x.head.framing == http::Framing::none) return;
  b.unnamed = std::make_unique<Belonging::Unnamed>(seed_of(x));
}

// The first connection of a dashboard or a voice chat may go anywhere; the next one should find the same worker.
void belong_as_websocket(Exchange& x) {
  if (affinity(x) == config::Affinity::none) return;
  const http::HeaderTable& table = x.proxy.request_table;
  const std::string_view target = x.proxy.request_head.target;
  std::string_view key = in_query(target, "api_key");
  if (key.empty()) key = key_of(table);
  if (key.empty()) key = table.value(HeaderName::cookie);
  const std::string_view session = in_query(target, "session_id");
  belonging(x).affinity = hash(session.empty() ? client_of(x) : session, hash(key, 0));
}

void belong_to_job(Exchange& x, std::string_view path) {
  if (path.starts_with(kJobs)) {
    belonging(x).known_id = hash(path.substr(kJobs.size()), 0);
  } else if (path.ends_with("/async") && x.proxy.request_head.method == http::Method::post) {
    belonging(x).learn = Belonging::Learn::body;
  }
}

void belong_to_mcp(Exchange& x) {
  Belonging& b = belonging(x);
  const std::string_view id = x.proxy.request_table.value(HeaderName::mcp_session_id);
  if (!id.empty()) b.known_id = hash(id, 0);
  b.learn = Belonging::Learn::header;
}

}  // namespace

void belong(Exchange& x, std::string_view path) {
  if (!x.orbit || x.proxy.parts.sessions == nullptr) return;
  const bool calls = x.plan->config->sessions.calls;
  switch (x.verdict.request_class) {
    case RequestClass::chat: return belong_to_session(x);
    case RequestClass::mcp: return calls ? belong_to_mcp(x) : void();
    case RequestClass::a2a:
      if (calls && x.verdict.stream_look == admission::StreamLook::a2a_method) {
        belonging(x).learn = Belonging::Learn::request;
        x.belonging->owner = hash(key_of(x.proxy.request_table), 0);
      }
      return;
    case RequestClass::admin: return calls && !x.verdict.outside_slots ? belong_to_job(x, path) : void();
    case RequestClass::health:
    case RequestClass::voice: return x.verdict.websocket ? belong_as_websocket(x) : void();
    case RequestClass::embeddings:
    case RequestClass::search:
    case RequestClass::files:
    case RequestClass::other: return;
  }
}

void leave_room_for_name(Exchange& x) {
  constexpr std::array<char, admission::kSessionNameBytes> kRoom{};
  x.out.truncate(x.out.size() - 2);  // the empty line
  x.out.append(kNameField);
  x.belonging->unnamed->at = x.out.size();
  x.out.append({kRoom.data(), kRoom.size()});
  x.out.append("\r\n\r\n");
}

void belong_by_body(Exchange& x, std::string_view task) {
  Belonging& b = *x.belonging;
  if (const auto unnamed = std::move(b.unnamed)) {
    const http::ConversationStart start = http::conversation_start(x.out.view().substr(x.out_head_bytes));
    const std::array<std::string_view, 3> parts{start.person, start.system, start.user};
    const admission::SessionName name = admission::session_name(unnamed->seed, parts);
    std::ranges::copy(name, x.out.data() + unnamed->at);
    set_session(x, {name.data(), name.size()});
    x.proxy.metrics().add(telemetry::Count::sessions_supplied);
  }
  if (b.learn == Belonging::Learn::request && !task.empty()) {
    b.known_id = hash(task, b.owner);
    // Of a task that was forgotten, or that another sidecar knows, its hash still tells where it was begun.
    if (affinity(x) == config::Affinity::hash) b.affinity = b.known_id;
  }
  // A route by model may have led it away from ORBIT.
  if (!x.orbit) x.belonging.reset();
}

// --- its turn -----------------------------------------------------------------------------------------------------

// The wait for it: a leaf like any other.
class TurnWait : public coro::Wait, private coro::Timer {
 public:
  explicit TurnWait(Exchange& x)
      : Wait([](coro::Wait& w, const Error& reason) { static_cast<TurnWait&>(w).left(reason); }),
        Timer([](coro::Timer& t) { static_cast<TurnWait&>(t).too_long(); }),
        x_(x) {
    x.belonging->waiting = this;
    // A client that leaves is out of the line at once.
    if (x.body_complete) x.client.stream->watch_end(&x.client.source, Side::client);
    const dispatch::Ask ask = ask_of(x);
    const TimePoint asked = x.times.asked;
    x.proxy.executor().arm(*this, std::min(ask.queue_wait > kNever - asked ? kNever : asked + ask.queue_wait, ask.deadline));
  }
  ~TurnWait() { x_.belonging->waiting = nullptr; }

  bool await_ready() const noexcept { return false; }
  template <typename P>
  bool await_suspend(std::coroutine_handle<P> h) {
    return suspend(h);
  }
  Result<void> await_resume() {
    disarm();
    x_.belonging->waited = x_.proxy.now() - x_.times.asked;
    if (cancelled_) return std::unexpected(*cancelled_);
    if (timed_out_) return fail(ErrorKind::unavailable, kNoTurn);
    return {};
  }
  void granted() { wake(); }

 private:
  void too_long() {
    x_.belonging->turn.leave();
    x_.refusal = {dispatch::Refused::queue_timeout, false, 1};
    timed_out_ = true;
    wake();
  }
  void left(const Error& reason) {
    x_.belonging->turn.leave();
    cancelled_ = reason;
  }

  Exchange& x_;
  std::optional<Error> cancelled_;
  bool timed_out_ = false;
};

bool has_turn(Exchange& x) {
  Belonging& b = *x.belonging;
  if (b.session == 0) return true;
  const config::Sessions& config = x.plan->config->sessions;
  SessionPort& port = *x.proxy.parts.sessions;
  const auto granted = [](void* whom) {
    if (TurnWait* waiting = static_cast<Belonging*>(whom)->waiting; waiting != nullptr) waiting->granted();
  };
  x.times.asked = x.proxy.now();
  switch (port.shared().enter(b.turn, b.session, {config.waiting, config.waiting_total}, port, granted, &b)) {
    case Sessions::Entered::has_turn: return true;
    case Sessions::Entered::waits: b.was_in_line = !x.proxy.parts.dispatcher.draining(); break;
    case Sessions::Entered::full: x.refusal = {dispatch::Refused::queue_full, true, 1}; break;
  }
  return false;
}

Task<Result<void>> wait_for_turn(Exchange& x) {
  Result<void> turn = fail(ErrorKind::unavailable, kNoTurn);
  if (x.belonging->turn.entered()) {
    x.proxy.metrics().add(telemetry::Count::turn_waits);
    turn = co_await TurnWait(x);
  }
  if (!turn && turn.error().kind == ErrorKind::unavailable) {
    x.refusal.retry_after_s = static_cast<std::uint16_t>(1 + x.proxy.rng.below(5));
    x.proxy.metrics().add(telemetry::Count::turn_refusals);
  }
  co_return turn;
}

// --- its worker -----------------------------------------------------------------------------------------------------

void prefer(const Exchange& x, dispatch::Ask& ask) {
  Belonging& b = *x.belonging;
  if (b.affinity != 0) {
    if (affinity(x) == config::Affinity::hash) {
      ask.affinity = b.affinity;
    } else if (const auto home = x.proxy.parts.sessions->shared().home_of(b.affinity, x.proxy.now())) {
      ask.home = b.home = *home;
    }
  }
  ask.queue_wait = std::max(ask.queue_wait - b.waited, Duration::zero());
  ask.in_line = b.was_in_line;
  if (b.known_id == 0) return;
  if (const auto worker = x.proxy.parts.sessions->shared().worker_of(b.known_id, x.proxy.now())) ask.pinned = *worker;
}

bool go_elsewhere(Exchange& x, dispatch::Ask& ask) {
  if (!ask.pinned.exists() || x.refusal.reason != dispatch::Refused::no_backend) return false;
  ask.pinned = {};
  if (ask.retry) x.proxy.parts.dispatcher.free_retry();  // the refusal gave this attempt back
  x.proxy.metrics().add(telemetry::Count::calls_rerouted);
  return true;
}

void learn_from_head(Exchange& x) {
  const Belonging& b = *x.belonging;
  if (x.worker_status >= 400) return;
  Sessions& shared = x.proxy.parts.sessions->shared();
  if (b.affinity != 0 && affinity(x) == config::Affinity::session) {
    if (b.home.exists() && b.home != x.backend) x.proxy.metrics().add(telemetry::Count::sessions_moved);
    if (b.home != x.backend) shared.note_home(b.affinity, x.backend, x.proxy.now());
  }
  if (b.learn == Belonging::Learn::header) {
    const std::string_view id = x.proxy.response_table.value(HeaderName::mcp_session_id);
    if (!id.empty()) shared.note(hash(id, 0), x.backend, x.proxy.now());
  } else if (b.learn == Belonging::Learn::request && b.known_id != 0) {
    shared.note(b.known_id, x.backend, x.proxy.now());
  }
}

void learn_from_body(Exchange& x, std::string_view piece) {
  Belonging& b = *x.belonging;
  if (b.learn != Belonging::Learn::body || x.worker_status >= 400) return;
  constexpr std::string_view kField = "\"job_id\"";
  const std::size_t field = piece.find(kField);
  if (field == std::string_view::npos) return;
  const std::size_t begin = piece.find('"', field + kField.size());
  const std::size_t end = begin == std::string_view::npos ? begin : piece.find('"', begin + 1);
  if (end == std::string_view::npos) return;
  x.proxy.parts.sessions->shared().note(hash(piece.substr(begin + 1, end - begin - 1), 0), x.backend, x.proxy.now());
  b.learn = Belonging::Learn::nothing;
}

// --- stops ------------------------------------------------------------------------------------------------------------

void name_stream(Exchange& x, std::uint64_t stream_id) {
  x.belonging->stream_id = stream_id;
  const auto stop = [](void* whom) {
    Exchange& stopped = *static_cast<Exchange*>(whom);
    stopped.proxy.metrics().add(telemetry::Count::streams_stopped);
    stopped.client.source.cancel(kStopped);
  };
  SessionPort& port = *x.proxy.parts.sessions;
  x.belonging->stream.ended();  // named twice: the last one counts
  port.shared().runs(x.belonging->stream, stream_id, port, stop, &x);
}

void end_stopped(Exchange& x, std::uint64_t stream_id) {
  if (x.proxy.parts.sessions != nullptr) x.proxy.parts.sessions->shared().stop(stream_id, *x.proxy.parts.sessions);
}

bool ended_by_stop(const Error& error) { return error.detail == kStopped.detail; }

}  // namespace perigee::proxy
