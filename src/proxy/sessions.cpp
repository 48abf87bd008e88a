#include "perigee/proxy/sessions.h"

#include <algorithm>
#include <utility>

namespace perigee::proxy {

// --- turns ------------------------------------------------------------------------------------------------------

Sessions::Entered Sessions::enter(Turn& turn, std::uint64_t session, const Bounds& bounds, SessionPort& port,
                                  Turn::Granted granted, void* whom) {
  const std::lock_guard lock(mutex_);
  IntrusiveList<TurnTag>& bucket = turns_[session % kBuckets];
  std::uint32_t before = 0;
  for (const auto* t = bucket.front<Turn>(); t != nullptr; t = bucket.next_of<Turn>(*t)) before += t->session_ == session ? 1U : 0U;
  if (before > bounds.waiting || (before != 0 && status_.waiting >= bounds.waiting_total)) return Entered::full;
  turn.port_ = &port;
  turn.session_ = session;
  turn.granted_ = granted;
  turn.whom_ = whom;
  turn.waits_ = before != 0;
  ++(before == 0 ? status_.turns : status_.waiting);
  bucket.push_back(turn);
  return before == 0 ? Entered::has_turn : Entered::waits;
}

void Turn::leave() {
  if (port_ != nullptr) port_->shared().leave(*this);
}

void Sessions::leave(Turn& turn) {
  const SessionPort* const own = turn.port_;
  SessionPort* to_wake = nullptr;
  {
    const std::lock_guard lock(mutex_);
    turn.port_ = nullptr;
    IntrusiveList<TurnTag>& bucket = turns_[turn.session_ % kBuckets];
    const bool in_line = std::exchange(turn.waits_, false);
    static_cast<ListNode<TurnTag>&>(turn).unlink();
    static_cast<ListNode<NewsTag>&>(turn).unlink();
    --(in_line ? status_.waiting : status_.turns);
    if (in_line) return;
    auto* next = bucket.front<Turn>();
    while (next != nullptr && next->session_ != turn.session_) next = bucket.next_of<Turn>(*next);
    if (next == nullptr) return;
    next->waits_ = false;
    --status_.waiting;
    ++status_.turns;
    if (next->port_->granted_.empty() && next->port_->stopped_.empty()) to_wake = next->port_;
    next->port_->granted_.push_back(*next);
  }
  if (to_wake == nullptr) return;
  if (to_wake == own) to_wake->waker_.soon();
  else to_wake->waker_.wake();
}

// --- streams ----------------------------------------------------------------------------------------------------

void Sessions::runs(RunningStream& stream, std::uint64_t id, SessionPort& port, RunningStream::Stop to_stop, void* whom) {
  const std::lock_guard lock(mutex_);
  stream.port_ = &port;
  stream.id_ = id;
  stream.stop_ = to_stop;
  stream.whom_ = whom;
  streams_[id % kBuckets].push_back(stream);
  ++status_.streams;
}

void RunningStream::ended() {
  if (port_ == nullptr) return;
  Sessions& shared = port_->shared();
  const std::lock_guard lock(shared.mutex_);
  static_cast<ListNode<NewsTag>&>(*this).unlink();
  static_cast<ListNode<StreamTag>&>(*this).unlink();
  --shared.status_.streams;
  port_ = nullptr;
}

void Sessions::stop(std::uint64_t id, SessionPort& caller) {
  SessionPort* to_wake = nullptr;
  {
    const std::lock_guard lock(mutex_);
    IntrusiveList<StreamTag>& bucket = streams_[id % kBuckets];
    auto* found = bucket.front<RunningStream>();
    while (found != nullptr && found->id_ != id) found = bucket.next_of<RunningStream>(*found);
    if (found == nullptr || static_cast<ListNode<NewsTag>&>(*found).linked()) return;
    SessionPort& port = *found->port_;
    if (port.granted_.empty() && port.stopped_.empty()) to_wake = &port;
    port.stopped_.push_back(*found);
  }
  if (to_wake == nullptr) return;
  if (to_wake == &caller) to_wake->waker_.soon();
  else to_wake->waker_.wake();
}

// --- telling ----------------------------------------------------------------------------------------------------

// One at a time: what is called may end any other one, and may come back in here.
void SessionPort::deliver() {
  for (;;) {
    Turn::Granted call = nullptr;
    void* whom = nullptr;
    {
      const std::lock_guard lock(sessions_.mutex_);
      if (auto* turn = granted_.pop_front<Turn>(); turn != nullptr) {
        call = turn->granted_;
        whom = turn->whom_;
      } else if (auto* stream = stopped_.pop_front<RunningStream>(); stream != nullptr) {
        call = stream->stop_;
        whom = stream->whom_;
      } else {
        return;
      }
    }
    call(whom);
  }
}

// --- ids that a worker knows --------------------------------------------------------------------------------------

namespace {
std::uint32_t seconds(TimePoint t) {
  return static_cast<std::uint32_t>(std::chrono::duration_cast<std::chrono::seconds>(t.time_since_epoch()).count());
}
}  // namespace

void KnownIds::note(std::uint64_t id, dispatch::BackendRef worker, TimePoint now) {
  if (id == 0) return;
  if (sets_.empty()) sets_.resize(kSets);
  auto& set = sets_[id % kSets];
  if (set == nullptr) set = std::make_unique<Set>();
  Entry* place = set->data();
  for (Entry& e : *set) {
    if (e.id == id) {
      place = &e;
      break;
    }
    if (place->id != 0 && (e.id == 0 || e.used < place->used)) place = &e;
  }
  if (place->id == 0) ++size_;
  *place = {id, worker, seconds(now)};
}

std::optional<dispatch::BackendRef> KnownIds::find(std::uint64_t id, TimePoint now) {
  if (id == 0 || sets_.empty() || sets_[id % kSets] == nullptr) return std::nullopt;
  for (Entry& e : *sets_[id % kSets]) {
    if (e.id != id) continue;
    if (now - TimePoint(std::chrono::seconds(e.used)) > kLife) {
      e = {};
      --size_;
      return std::nullopt;
    }
    e.used = seconds(now);
    return e.worker;
  }
  return std::nullopt;
}

void Sessions::note(std::uint64_t id, dispatch::BackendRef worker, TimePoint now) {
  const std::lock_guard lock(mutex_);
  known_.note(id, worker, now);
}

std::optional<dispatch::BackendRef> Sessions::worker_of(std::uint64_t id, TimePoint now) {
  const std::lock_guard lock(mutex_);
  return known_.find(id, now);
}

void Sessions::note_home(std::uint64_t session, dispatch::BackendRef worker, TimePoint now) {
  const std::lock_guard lock(mutex_);
  homes_.note(session, worker, now);
}

std::optional<dispatch::BackendRef> Sessions::home_of(std::uint64_t session, TimePoint now) {
  const std::lock_guard lock(mutex_);
  return homes_.find(session, now);
}

Sessions::Status Sessions::status() const {
  const std::lock_guard lock(mutex_);
  Status status = status_;
  status.known_ids = known_.size();
  status.homes = homes_.size();
  return status;
}

}  // namespace perigee::proxy
