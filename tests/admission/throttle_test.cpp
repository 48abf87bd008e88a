// What a machine short of CPU or memory refuses, what it only lets wait, and that it does not flap.
#include "perigee/admission/throttle.h"

#include <doctest/doctest.h>

#include <set>

namespace perigee::admission::test {

namespace {

using namespace std::chrono_literals;

constexpr Duration kLook = 500ms;

struct Machine {
  Throttle throttle{ThrottleMarks{}};
  TimePoint now{1000s};
  double standing = 0;

  const ThrottleState& look(const ResourceSample& sample) {
    now += kLook;
    return throttle.update(sample, standing, now);
  }
  const ThrottleState& look_for(Duration time, const ResourceSample& sample) {
    for (Duration t{}; t < time; t += kLook) look(sample);
    return throttle.state();
  }
};

ResourceSample cpu(double share) { return {.cpu = share}; }
ResourceSample memory(double share) { return {.memory = share}; }

bool refused(const ThrottleState& s, Priority p, bool retry = false) {
  return shed_rank(p, retry) > s.orders.refuse_above;
}

}  // namespace

TEST_CASE("what is not known throttles nothing") {
  Machine m;
  const ThrottleState& s = m.look_for(20s, {});
  CHECK(s.level == 0);
  CHECK(s.step == ThrottleStep::calm);
  CHECK(s.orders == ThrottleOrders{});
}

TEST_CASE("switched off it does nothing, whatever the machine says") {
  Machine m;
  m.throttle.configure({.enabled = false});
  m.standing = 1;
  CHECK(m.look_for(20s, {.cpu = 1.0, .memory = 1.0}).orders == ThrottleOrders{});
}

TEST_CASE("the curve of what is shed") {
  CHECK(shed_above(0.35) == doctest::Approx(95.7).epsilon(0.001));
  CHECK(shed_above(0.5) == doctest::Approx(87.5));
  CHECK(shed_above(0.8) == doctest::Approx(48.8));
  CHECK(shed_rank(Priority::low, false) > shed_above(0.6));
  CHECK_FALSE(shed_rank(Priority::low, false) > shed_above(0.58));
  CHECK(shed_rank(Priority::normal, true) > shed_above(0.8));  // what was tried before goes first
  CHECK_FALSE(shed_rank(Priority::normal, false) > shed_above(0.84));
  CHECK(shed_rank(Priority::normal, false) > shed_above(0.85));
  for (const bool retry : {false, true}) {
    CHECK_FALSE(shed_rank(Priority::high, retry) > shed_above(1.0));
    CHECK_FALSE(shed_rank(Priority::critical, retry) > shed_above(1.0));
  }
}

TEST_CASE("CPU alone refuses nobody: low waits, nothing grows") {
  Machine m;
  CHECK(m.look_for(20s, cpu(0.79)).step == ThrottleStep::calm);
  const ThrottleState& s = m.look_for(60s, cpu(1.0));
  CHECK(s.level == 1.0);
  CHECK(s.cause == ThrottleCause::cpu);
  CHECK(s.orders.above_soft);
  CHECK(s.orders.no_retries);
  CHECK_FALSE(s.orders.halve_streams);
  CHECK_FALSE(refused(s, Priority::low));
  CHECK(s.step == ThrottleStep::no_retries);
}

TEST_CASE("a queue that stands refuses nobody while the CPU has room") {
  Machine m;
  m.standing = 1;
  const ThrottleState& s = m.look_for(60s, cpu(0.94));
  CHECK(s.orders.above_soft);
  CHECK_FALSE(refused(s, Priority::low));
}

TEST_CASE("with a full machine a standing queue refuses low, then normal, and never high") {
  Machine m;
  m.look_for(30s, cpu(1.0));
  m.standing = 0.49;
  CHECK_FALSE(refused(m.look_for(10s, cpu(1.0)), Priority::low));
  m.standing = 0.55;
  const ThrottleState& s = m.look_for(10s, cpu(1.0));
  CHECK(refused(s, Priority::low));
  CHECK_FALSE(refused(s, Priority::normal));
  CHECK(s.step == ThrottleStep::low_refused);
  m.standing = 0.95;
  m.look_for(1s, cpu(1.0));
  CHECK(refused(s, Priority::normal));
  CHECK_FALSE(refused(s, Priority::high));
  CHECK_FALSE(refused(s, Priority::critical));
  CHECK(s.step == ThrottleStep::normal_refused);
  // The queue is gone: held for five seconds, then normal comes back before low.
  m.standing = 0;
  CHECK(refused(m.look_for(4s, cpu(1.0)), Priority::normal));
  m.look_for(3s, cpu(1.0));
  CHECK_FALSE(refused(s, Priority::normal));
  CHECK(refused(s, Priority::low));
  m.look_for(4s, cpu(1.0));
  CHECK_FALSE(refused(s, Priority::low));
}

TEST_CASE("memory above its hard mark refuses by itself: low at once, normal at the second look") {
  Machine m;
  CHECK_FALSE(refused(m.look_for(10s, memory(0.94)), Priority::low));
  CHECK(m.throttle.state().orders.halve_streams);
  CHECK(m.throttle.state().cause == ThrottleCause::memory);
  const ThrottleState& s = m.look(memory(0.96));
  CHECK(refused(s, Priority::low));
  CHECK_FALSE(refused(s, Priority::normal));
  m.look(memory(0.96));
  CHECK(s.level == 1.0);
  CHECK(refused(s, Priority::normal));
  CHECK_FALSE(refused(s, Priority::high));
  // It leaves saturation only after five seconds below the soft mark.
  CHECK(refused(m.look_for(30s, memory(0.90)), Priority::normal));
  CHECK(refused(m.look_for(4s, memory(0.5)), Priority::normal));
  CHECK_FALSE(refused(m.look_for(2s, memory(0.5)), Priority::normal));
  CHECK(s.orders.above_soft);
  CHECK(m.look_for(20s, memory(0.5)).step == ThrottleStep::calm);
}

TEST_CASE("one look at the hard mark is not yet saturation") {
  Machine m;
  CHECK(m.look(memory(1.0)).level == doctest::Approx(0.99));
  CHECK(m.look_for(4s, memory(0.5)).level == doctest::Approx(0.99));  // held
  CHECK(m.look_for(20s, memory(0.5)).level == 0);
}

TEST_CASE("it falls by a tenth a second at most") {
  Machine m;
  m.look_for(5s, memory(0.94));
  double before = m.throttle.state().level;
  for (int i = 0; i < 40; ++i) {
    const double level = m.look(memory(0.1)).level;
    CHECK(before - level <= 0.0501);
    before = level;
  }
  CHECK(before == 0);
}

TEST_CASE("a square wave gives one rise and no further change of the step") {
  for (const bool of_memory : {false, true}) {
    CAPTURE(of_memory);
    Machine m;
    ThrottleStep before = ThrottleStep::calm;
    std::set<ThrottleStep> after_a_while;
    for (int i = 0; i < 480; ++i) {  // four minutes, period 4 s
      const double y = i % 8 < 4 ? 0.7 : 1.0;
      const ThrottleStep step = m.look(of_memory ? memory(y) : cpu(y)).step;
      CHECK(step >= before);
      before = step;
      if (i > 60) after_a_while.insert(step);
    }
    CHECK(after_a_while.size() == 1);
    CHECK(before > ThrottleStep::calm);
  }
}

TEST_CASE("stalls and a quota count too") {
  struct Row {
    ResourceSample below;
    ResourceSample above;
    ThrottleCause cause;
  };
  for (const Row& row : {Row{{.cpu_pressure = .39}, {.cpu_pressure = .41}, ThrottleCause::cpu_pressure},
                         Row{{.memory_pressure = .09}, {.memory_pressure = .11}, ThrottleCause::memory_pressure},
                         Row{{.memory_full_pressure = .04}, {.memory_full_pressure = .06}, ThrottleCause::memory_pressure},
                         Row{{.io_pressure = .29}, {.io_pressure = .31}, ThrottleCause::io_pressure},
                         Row{{.cpu_quota = .09}, {.cpu_quota = .11}, ThrottleCause::cpu_quota}}) {
    CAPTURE(to_string(row.cause));
    Machine below;
    CHECK(below.look_for(30s, row.below).step == ThrottleStep::calm);
    Machine above;
    CHECK(above.look_for(30s, row.above).step == ThrottleStep::low_waits);
    CHECK(above.throttle.state().cause == row.cause);
    CHECK(above.look_for(60s, row.below).step == ThrottleStep::calm);
  }
}

TEST_CASE("a signal that stops coming is forgotten") {
  Machine m;
  m.look_for(20s, cpu(1.0));
  CHECK(m.look_for(9s, {}).level == 1.0);
  CHECK(m.look_for(40s, {}).level == 0);
}

// --- the queue -------------------------------------------------------------------------------------------------------

TEST_CASE("a queue stands when even the quickest of a class waited long, for five seconds") {
  StandingQueue q;
  TimePoint now{1000s};
  q.begin(now);
  for (int i = 0; i < 40; ++i) {
    q.note(RequestClass::chat, 0.7, now);
    q.note(RequestClass::search, 0.0, now);
    if (i < 10) CHECK(q.share(now) == 0);  // too early to say
    now += 500ms;
  }
  CHECK(q.share(now) == doctest::Approx(0.7));  // a class that flows does not hide one that stands
  q.note(RequestClass::chat, 0.1, now);
  CHECK(q.share(now) == doctest::Approx(0.1));
  for (int i = 0; i < 12; ++i) {
    now += 500ms;
    q.note(RequestClass::chat, 1.0, now);
  }
  CHECK(q.share(now) == doctest::Approx(1.0));
  CHECK(q.share(now + 6s) == 0);  // nobody waits any longer
  q.begin(now);
  CHECK(q.share(now) == 0);
}

// --- one worker --------------------------------------------------------------------------------------------------------

TEST_CASE("a worker is hot after two looks at .90 and cold again below .80") {
  WorkerHeat w;
  CHECK_FALSE(w.update(0.95, {}, 0.85));
  CHECK_FALSE(w.update(0.85, {}, 0.85));
  CHECK_FALSE(w.update(0.95, {}, 0.85));
  CHECK(w.update(0.90, {}, 0.85));
  CHECK(w.update(0.81, {}, 0.85));
  CHECK(w.update({}, {}, 0.85));
  CHECK_FALSE(w.update(0.79, {}, 0.85));
}

TEST_CASE("a worker near its memory's limit is hot until it is well below") {
  WorkerHeat w;
  CHECK_FALSE(w.update(0.1, 0.84, 0.85));
  CHECK(w.update(0.1, 0.86, 0.85));
  CHECK(w.update(0.1, 0.81, 0.85));
  CHECK(w.memory_hot());
  CHECK_FALSE(w.cpu_hot());
  CHECK_FALSE(w.update(0.1, 0.79, 0.85));
}

TEST_CASE("a worker died of its memory: its own group says so, or a shared one when its process went as well") {
  TimePoint now{100s};
  SUBCASE("alone in its group") {
    MemoryDeath death;
    CHECK_FALSE(death.update(7, false, false, now));  // of the past
    CHECK_FALSE(death.update(7, true, false, now += 500ms));  // a restart is no death of memory
    CHECK(death.update(8, false, false, now += 500ms));
    CHECK_FALSE(death.update(8, false, false, now += 500ms));  // once
    CHECK_FALSE(death.update({}, false, false, now += 500ms));
    CHECK(death.update(10, true, false, now += 500ms));
    CHECK_FALSE(death.update(0, true, false, now += 500ms));  // a new group
    CHECK_FALSE(death.update(0, false, false, now += 500ms));
  }
  SUBCASE("with others in it") {
    MemoryDeath death;
    CHECK_FALSE(death.update(0, false, true, now));
    CHECK_FALSE(death.update(1, false, true, now += 500ms));  // somebody else
    CHECK_FALSE(death.update(1, false, true, now += 3s));
    CHECK_FALSE(death.update(1, true, true, now += 500ms));  // this one went, for another reason
    CHECK_FALSE(death.update(1, false, true, now += 3s));
    CHECK_FALSE(death.update(2, false, true, now += 500ms));
    CHECK(death.update(2, true, true, now += 500ms));  // noticed one look later
    CHECK_FALSE(death.update(2, true, true, now += 500ms));
  }
}

}  // namespace perigee::admission::test
