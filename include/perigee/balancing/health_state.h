// What is known of a backend from its probes, and whether it may get new work.
//
//   unprobed --answered--> up <--2 good answers-- down, refused      up --3 bad answers--> down
//   any --connect refused, by a probe or an exchange--> refused      up --10 s without an answer--> silent
//   silent --one answer--> up
//
// A slow answer is load, not death: a busy ORBIT worker answers /health after seconds, and its collector
// stops it for half a second. Only refusing, saying "not ready", or 10 s of silence take a backend out,
// and none of them touches what already runs there. Pure; guarded by the dispatcher's lock.
#pragma once

#include <cstdint>
#include <string_view>

#include "perigee/base/time.h"

namespace perigee::balancing {

enum class ProbeResult : std::uint8_t {
  ok,         // answered, and ready
  not_ready,  // answered, but says it is not ready, or with an error or nonsense
  refused,    // nobody listens
  timeout,    // no answer in the probe's own time, or the connection broke
};

struct HealthOptions {
  std::uint32_t fall = 3;  // bad answers in a row
  std::uint32_t rise = 2;  // good answers in a row, after it was down
  Duration silence = std::chrono::seconds(10);
};

class HealthState {
 public:
  enum class State : std::uint8_t { unprobed, up, down, refused, silent };

  explicit HealthState(TimePoint now, HealthOptions options = {})
      : options_(options), last_answer_(now), since_(now) {}

  // Each returns true when eligible() changed: look for waiters, or for the pool's standing, then.
  bool on_probe(ProbeResult result, TimePoint now);
  // An exchange's connect was refused. Believed at once.
  bool on_refused_exchange(TimePoint now);
  // Any other answer from it, such as that of a lag probe: says that it lives, not that it is ready.
  bool on_sign_of_life(TimePoint now);
  // Turns to silent when it is time and no probe has ended meanwhile. Call with each probe timer.
  bool advance(TimePoint now);
  // By the operator; survives probes.
  bool set_draining(bool draining);

  [[nodiscard]] State state() const { return state_; }
  [[nodiscard]] bool draining() const { return draining_; }
  // Up by its probes, whatever the operator says.
  [[nodiscard]] bool reachable() const { return state_ == State::up; }
  // May get new exchanges, as far as health goes.
  [[nodiscard]] bool eligible() const { return reachable() && !draining_; }
  [[nodiscard]] bool probed() const { return state_ != State::unprobed; }
  // Up now, and was down or refused just before: starts slowly (slow_start.h) and its breaker gets
  // half_open_early(). False for a backend that was up at its first probe, and after a mere silence.
  [[nodiscard]] bool recovered() const { return recovered_ && reachable(); }
  [[nodiscard]] TimePoint since() const { return since_; }              // of the present state
  [[nodiscard]] TimePoint last_answer() const { return last_answer_; }  // construction before the first
  void configure(HealthOptions options) { options_ = options; }

 private:
  void enter(State to, TimePoint now);

  HealthOptions options_;
  State state_ = State::unprobed;
  bool draining_ = false;
  bool recovered_ = false;
  std::uint32_t good_ = 0;  // in a row
  std::uint32_t bad_ = 0;   // in a row
  TimePoint last_answer_;
  TimePoint since_;
};

std::string_view to_string(HealthState::State state);

}  // namespace perigee::balancing
