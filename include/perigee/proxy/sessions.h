// What all loops know together of sessions: whose turn it is, which streams run, and which worker knows an id.
//
// ORBIT loses history where two chat turns of one session run at once, so that the second has to wait for the end of the
// first, wherever the two came in. It stops a stream only where it runs, and even then leaves its provider running, so
// that a stop has to find the stream here. And it keeps jobs, MCP sessions and A2A tasks in the memory of one worker, and
// what it caches of a session in that of the worker that served it last.
//
// One short lock, taken four times a chat: no I/O or call-back under it, and no allocation but of a set of ids when one is
// first needed. What was decided for somebody lies on the list of his loop's SessionPort and is told from deliver(), on that
// loop, so that everything here may be called from a destructor. Turns and running streams are nodes that their owners
// hold; the table is buckets of them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "perigee/base/intrusive_list.h"
#include "perigee/base/time.h"
#include "perigee/dispatch/dispatcher.h"

namespace perigee::proxy {

class SessionPort;
class Sessions;
struct TurnTag;
struct StreamTag;
struct NewsTag;

// One chat of a session: in line, or having its turn. Dies in any state; gives its turn to the next one then.
class Turn : public ListNode<TurnTag>, public ListNode<NewsTag> {
 public:
  // On the own loop, from SessionPort::deliver(), once for each enter() that answered `waits`, unless it left before.
  using Granted = void (*)(void* whom);

  Turn() = default;
  ~Turn() { leave(); }
  // Its turn is over, or it will not wait any longer. On its own loop.
  void leave();
  // In line or having it. On its own loop.
  [[nodiscard]] bool entered() const { return port_ != nullptr; }

 private:
  friend class Sessions;
  friend class SessionPort;
  SessionPort* port_ = nullptr;  // null: idle
  std::uint64_t session_ = 0;
  Granted granted_ = nullptr;
  void* whom_ = nullptr;
  bool waits_ = false;  // under the lock
};

// One stream that a stop can name.
class RunningStream : public ListNode<StreamTag>, public ListNode<NewsTag> {
 public:
  using Stop = void (*)(void* whom);

  RunningStream() = default;
  ~RunningStream() { ended(); }
  void ended();

 private:
  friend class Sessions;
  friend class SessionPort;
  SessionPort* port_ = nullptr;
  std::uint64_t id_ = 0;
  Stop stop_ = nullptr;
  void* whom_ = nullptr;
};

// Who serves what: ids that a worker's memory holds (MCP sessions, jobs, A2A tasks), or sessions; the least recently used of
// a set forgotten first. A backend keeps its BackendRef over reloads, so what is known here stays true. Eight ids a set, 8192 sets, made when they are needed: 128 bytes each. An id is forgotten 30 minutes after its last use.
class KnownIds {
 public:
  static constexpr Duration kLife = std::chrono::minutes(30);
  static constexpr std::size_t kWays = 8;
  static constexpr std::size_t kSets = 8192;

  void note(std::uint64_t id, dispatch::BackendRef worker, TimePoint now);
  // Who knows it; a use of it.
  [[nodiscard]] std::optional<dispatch::BackendRef> find(std::uint64_t id, TimePoint now);
  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  struct Entry {
    std::uint64_t id = 0;  // 0 = free
    dispatch::BackendRef worker;
    std::uint32_t used = 0;  // seconds
  };
  static_assert(sizeof(Entry) == 16);
  using Set = std::array<Entry, kWays>;
  std::vector<std::unique_ptr<Set>> sets_;
  std::size_t size_ = 0;
};

class Sessions {
 public:
  struct Bounds {
    std::uint32_t waiting = 16;         // of one session
    std::uint32_t waiting_total = 2000;
  };
  enum class Entered : std::uint8_t { has_turn, waits, full };

  Sessions() : turns_(kBuckets), streams_(kBuckets) {}
  Sessions(const Sessions&) = delete;
  Sessions& operator=(const Sessions&) = delete;

  // `turn` is idle. `session`: a good hash of key and session, never 0.
  Entered enter(Turn& turn, std::uint64_t session, const Bounds& bounds, SessionPort& port, Turn::Granted granted, void* whom);
  // From now on `to_stop` is called once, on this loop, where somebody stops the stream of this id.
  void runs(RunningStream& stream, std::uint64_t id, SessionPort& port, RunningStream::Stop to_stop, void* whom);
  // Ends the stream of this id, if it runs here, on any loop.
  void stop(std::uint64_t id, SessionPort& port);

  void note(std::uint64_t id, dispatch::BackendRef worker, TimePoint now);
  [[nodiscard]] std::optional<dispatch::BackendRef> worker_of(std::uint64_t id, TimePoint now);
  // The worker that answered the last request of a session. A table of its own: many sessions push no id out.
  void note_home(std::uint64_t session, dispatch::BackendRef worker, TimePoint now);
  [[nodiscard]] std::optional<dispatch::BackendRef> home_of(std::uint64_t session, TimePoint now);

  struct Status {
    std::uint32_t turns = 0;    // that chats have now
    std::uint32_t waiting = 0;  // chats in line
    std::uint32_t streams = 0;  // that a stop can name
    std::size_t known_ids = 0;
    std::size_t homes = 0;
  };
  [[nodiscard]] Status status() const;

 private:
  friend class SessionPort;
  friend class Turn;
  friend class RunningStream;
  static constexpr std::size_t kBuckets = 1024;

  void leave(Turn& turn);

  mutable std::mutex mutex_;
  std::vector<IntrusiveList<TurnTag>> turns_;      // by session: those in one bucket by arrival, the first of each has its turn
  std::vector<IntrusiveList<StreamTag>> streams_;  // by id
  KnownIds known_;
  KnownIds homes_;
  Status status_;
};

// One for each event loop; `waker` is what wakes its LoopPort too. Destroyed when nothing of its loop is left.
class SessionPort {
 public:
  SessionPort(Sessions& sessions, dispatch::Waker& waker) : sessions_(sessions), waker_(waker) {}
  SessionPort(const SessionPort&) = delete;
  SessionPort& operator=(const SessionPort&) = delete;

  // On the own loop: tells everybody for whom something was decided.
  void deliver();
  [[nodiscard]] Sessions& shared() const { return sessions_; }

 private:
  friend class Sessions;
  friend class Turn;
  friend class RunningStream;
  Sessions& sessions_;
  dispatch::Waker& waker_;
  IntrusiveList<NewsTag> granted_;  // under the lock, both
  IntrusiveList<NewsTag> stopped_;
};

}  // namespace perigee::proxy
