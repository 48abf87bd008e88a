#include "orbit_worker_model.h"

#include <algorithm>
#include <utility>

namespace perigee::model {

std::uint32_t OrbitWorkerModel::allocate(Task task) {
  if (free_.empty()) {
    tasks_.push_back(task);
    return static_cast<std::uint32_t>(tasks_.size() - 1);
  }
  const std::uint32_t slot = free_.back();
  free_.pop_back();
  tasks_[slot] = task;
  return slot;
}

void OrbitWorkerModel::start_chat(TimePoint now, std::uint64_t id, const ChatShape& shape) {
  ++in_flight_;
  ++started_;
  if (costs_.pause_every != 0 && started_ % costs_.pause_every == 0) {
    Task pause;
    pause.stage = Stage::pause;
    pause.left = costs_.pause;
    ready_.push_front(allocate(pause));
  }
  Task chat;
  chat.id = id;
  chat.left = std::min(costs_.before_head, shape.work);
  chat.shape = shape;
  ready_.push_back(allocate(chat));
  if (!running_) begin_piece(now);
}

void OrbitWorkerModel::start_probe(TimePoint now, std::uint64_t id) {
  Task probe;
  probe.id = id;
  probe.stage = Stage::probe;
  probe.left = costs_.probe;
  ready_.push_back(allocate(probe));
  if (!running_) begin_piece(now);
}

TimePoint OrbitWorkerModel::next_event() const {
  const TimePoint timer = timers_.empty() ? kNever : timers_.top().at;
  return running_ ? std::min(piece_end_, timer) : timer;
}

void OrbitWorkerModel::run_until(TimePoint now) {
  for (TimePoint next = next_event(); next <= now; next = next_event()) {
    // What falls due during a piece is ready when the piece ends, before the loop turns.
    while (!timers_.empty() && timers_.top().at <= next) {
      const std::uint32_t task = timers_.top().task;
      timers_.pop();
      begin_token(task);
    }
    if (running_ && piece_end_ <= next) finish_piece(next);
    if (!running_) begin_piece(next);
  }
}

void OrbitWorkerModel::wake(std::uint32_t task, TimePoint at) {
  timers_.push({at, ++timer_order_, task});
}

void OrbitWorkerModel::begin_token(std::uint32_t task) {
  tasks_[task].stage = Stage::streaming;
  tasks_[task].left = costs_.token;
  ready_.push_back(task);
}

void OrbitWorkerModel::begin_piece(TimePoint now) {
  if (ready_.empty()) return;
  const std::size_t ready = ready_.size();
  const std::uint32_t next = ready_.front();
  ready_.pop_front();
  Task& task = tasks_[next];
  if (task.stage == Stage::streaming && ready > costs_.busy_above) task.left = costs_.token_busy;
  turn_used_ = Duration::zero();
  run_piece(next, task.stage == Stage::pause ? task.left : std::min(task.left, costs_.piece), now);
}

void OrbitWorkerModel::run_piece(std::uint32_t task, Duration piece, TimePoint now) {
  current_ = task;
  current_piece_ = piece;
  piece_end_ = now + piece;
  running_ = true;
}

void OrbitWorkerModel::ask_provider(std::uint32_t task, TimePoint now) {
  Task& t = tasks_[task];
  if (connections_used_ >= costs_.provider_connections) {
    t.stage = Stage::connection;
    awaiting_connection_.push_back(task);
    return;
  }
  ++connections_used_;
  t.stage = Stage::provider;
  t.due = now + (t.shape.provider ? *t.shape.provider : from_seconds(rng_.uniform(0.3, 3.0)));
  wake(task, t.due);
}

void OrbitWorkerModel::finish_piece(TimePoint now) {
  running_ = false;
  const std::uint32_t current = current_;
  Task& task = tasks_[current];
  task.left -= current_piece_;
  if (task.left > Duration::zero()) {
    ready_.push_back(current);
    return;
  }
  const std::uint64_t id = task.id;
  switch (task.stage) {
    case Stage::pause: free_.push_back(current); return;
    case Stage::probe:
      free_.push_back(current);
      listener_.on_probe(number_, id, now);
      return;
    case Stage::before_head:
      task.stage = Stage::after_head;
      task.left = task.shape.work - std::min(costs_.before_head, task.shape.work);
      if (task.left > Duration::zero()) {
        ready_.push_back(current);
      } else {
        ask_provider(current, now);
      }
      listener_.on_head(number_, id, now);
      return;
    case Stage::after_head: ask_provider(current, now); return;
    case Stage::connection:
    case Stage::provider: return;  // no CPU in these: never on the loop
    case Stage::streaming: break;
  }
  const TimePoint due = task.due;
  const std::uint32_t number = ++task.sent;
  const bool last = task.sent >= task.shape.tokens;
  if (last) {
    free_.push_back(current);
    --connections_used_;
    --in_flight_;
    if (!awaiting_connection_.empty()) {
      const std::uint32_t next = awaiting_connection_.front();
      awaiting_connection_.pop_front();
      ask_provider(next, now);
    }
  } else {
    task.due += task.shape.gap;
    turn_used_ += current_piece_;
    const Duration cost = ready_.size() + 1 > costs_.busy_above ? costs_.token_busy : costs_.token;
    if (task.due > now) {
      wake(current, task.due);
    } else if (turn_used_ + cost <= costs_.piece) {
      task.left = cost;
      run_piece(current, cost, now);
    } else {
      begin_token(current);
    }
  }
  listener_.on_token(number_, id, number, due, now);
  if (last) listener_.on_end(number_, id, now);
}

}  // namespace perigee::model
