// One ORBIT worker as a model in virtual time, for simulations of what stands in front of it.
//
// A worker is one serial event loop: ready tasks run in turn, in pieces of 5 ms at most. A chat is some
// CPU, its head, more CPU, one of the provider's connections (or a wait for one), the provider's own time,
// then tokens that fall due at a fixed gap; each costs CPU, less when the loop is busy because reads
// coalesce, and a stream that is behind sends all that is due in one turn. A probe is 1 ms of the same
// loop. Now and then the collector stops everything. Under fixed limits this agrees with a real worker
// within 5 %. No sockets, no test framework: tests of several rooms drive it. One thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <queue>
#include <vector>

#include "perigee/base/random.h"
#include "perigee/base/time.h"

namespace perigee::model {

struct ChatShape {
  Duration work = std::chrono::milliseconds(32);  // all of its CPU before the provider is asked
  std::uint32_t tokens = 40;
  Duration gap = std::chrono::milliseconds(50);
  std::optional<Duration> provider;  // its time to the first token; none = U(0.3, 3) s for each chat
};

struct WorkerCosts {
  Duration piece = std::chrono::milliseconds(5);
  Duration before_head = std::chrono::milliseconds(10);
  Duration token = std::chrono::microseconds(1500);
  Duration token_busy = std::chrono::microseconds(550);
  std::size_t busy_above = 3;  // ready tasks
  Duration probe = std::chrono::milliseconds(1);
  std::uint32_t provider_connections = 100;
  std::uint32_t pause_every = 110;  // chats started; 0 = never
  Duration pause = std::chrono::milliseconds(400);
};

// Told what the worker sends. `id` is the caller's. Called from run_until, in order of time; may start
// chats and probes.
class WorkerListener {
 public:
  virtual ~WorkerListener() = default;
  virtual void on_head(std::uint32_t worker, std::uint64_t id, TimePoint now) = 0;
  virtual void on_token(std::uint32_t worker, std::uint64_t id, std::uint32_t token, TimePoint due,
                        TimePoint now) = 0;
  virtual void on_end(std::uint32_t worker, std::uint64_t id, TimePoint now) = 0;
  virtual void on_probe(std::uint32_t worker, std::uint64_t id, TimePoint now) = 0;
};

class OrbitWorkerModel {
 public:
  OrbitWorkerModel(std::uint32_t number, const WorkerCosts& costs, std::uint64_t seed,
                   WorkerListener& listener)
      : number_(number), costs_(costs), rng_(seed), listener_(listener) {}

  void start_chat(TimePoint now, std::uint64_t id, const ChatShape& shape);
  void start_probe(TimePoint now, std::uint64_t id);

  // When something happens next of itself; kNever where nothing will.
  [[nodiscard]] TimePoint next_event() const;
  // Everything up to and including `now`.
  void run_until(TimePoint now);

  [[nodiscard]] std::uint32_t in_flight() const { return in_flight_; }

 private:
  enum class Stage : std::uint8_t { before_head, after_head, connection, provider, streaming, probe, pause };
  struct Task {
    std::uint64_t id = 0;
    Stage stage = Stage::before_head;
    Duration left{};  // CPU of this stage
    ChatShape shape;
    std::uint32_t sent = 0;  // tokens
    TimePoint due{};         // of the next token
  };
  struct Timer {
    TimePoint at;
    std::uint64_t order;  // equal times fire as they were set
    std::uint32_t task;
    bool operator>(const Timer& other) const { return at != other.at ? at > other.at : order > other.order; }
  };

  std::uint32_t allocate(Task task);
  void wake(std::uint32_t task, TimePoint at);
  void begin_piece(TimePoint now);
  void finish_piece(TimePoint now);
  void ask_provider(std::uint32_t task, TimePoint now);
  void begin_token(std::uint32_t task);
  void run_piece(std::uint32_t task, Duration piece, TimePoint now);

  std::uint32_t number_;
  WorkerCosts costs_;
  Rng rng_;
  WorkerListener& listener_;
  std::vector<Task> tasks_;
  std::vector<std::uint32_t> free_;
  std::deque<std::uint32_t> ready_;
  std::deque<std::uint32_t> awaiting_connection_;
  std::priority_queue<Timer, std::vector<Timer>, std::greater<>> timers_;
  bool running_ = false;
  std::uint32_t current_ = 0;
  Duration current_piece_{};
  Duration turn_used_{};  // by the streaming task whose turn it is
  TimePoint piece_end_{};
  std::uint64_t timer_order_ = 0;
  std::uint64_t started_ = 0;
  std::uint32_t connections_used_ = 0;
  std::uint32_t in_flight_ = 0;
};

}  // namespace perigee::model
