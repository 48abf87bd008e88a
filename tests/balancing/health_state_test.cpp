#include "perigee/balancing/health_state.h"

#include <doctest/doctest.h>

using namespace perigee;
using namespace perigee::balancing;
using std::chrono::milliseconds;
using std::chrono::seconds;
using State = HealthState::State;
constexpr auto kOk = ProbeResult::ok;
constexpr auto kNotReady = ProbeResult::not_ready;
constexpr auto kRefused = ProbeResult::refused;
constexpr auto kTimeout = ProbeResult::timeout;

namespace {

struct Bench {
  TimePoint now{seconds(100)};
  HealthState health{now};
  bool probe(ProbeResult result, Duration later = seconds(2)) {
    now += later;
    return health.on_probe(result, now);
  }
  void up() { probe(kOk); }
};

}  // namespace

TEST_CASE("unprobed: the first answer decides, at once") {
  Bench b;
  CHECK(b.health.state() == State::unprobed);
  CHECK_FALSE(b.health.probed());
  CHECK_FALSE(b.health.eligible());
  SUBCASE("ready") {
    CHECK(b.probe(kOk));
    CHECK(b.health.state() == State::up);
    CHECK(b.health.eligible());
    CHECK_FALSE(b.health.recovered());
  }
  SUBCASE("not ready") {
    CHECK_FALSE(b.probe(kNotReady));
    CHECK(b.health.state() == State::down);
    CHECK(b.health.probed());
  }
  SUBCASE("refused, and then it comes up: it starts slowly") {
    CHECK_FALSE(b.probe(kRefused));
    CHECK(b.health.state() == State::refused);
    CHECK_FALSE(b.probe(kOk));
    CHECK(b.probe(kOk));
    CHECK(b.health.recovered());
  }
  SUBCASE("no answer for ten seconds is an answer too") {
    CHECK_FALSE(b.probe(kTimeout, seconds(5)));
    CHECK_FALSE(b.health.probed());
    CHECK_FALSE(b.probe(kTimeout, seconds(5)));
    CHECK(b.health.state() == State::silent);
    CHECK(b.health.probed());
    CHECK(b.probe(kOk));
    CHECK(b.health.eligible());
  }
}

TEST_CASE("three bad answers in a row take it down, two good ones bring it back") {
  Bench b;
  b.up();
  CHECK_FALSE(b.probe(kNotReady));
  CHECK_FALSE(b.probe(kNotReady));
  CHECK_FALSE(b.probe(kOk));
  CHECK_FALSE(b.probe(kNotReady));
  CHECK_FALSE(b.probe(kNotReady));
  CHECK(b.probe(kNotReady));
  CHECK(b.health.state() == State::down);
  CHECK(b.health.since() == b.now);
  CHECK_FALSE(b.probe(kOk));
  CHECK_FALSE(b.probe(kTimeout));
  CHECK_FALSE(b.probe(kOk));
  CHECK_FALSE(b.probe(kNotReady));
  CHECK_FALSE(b.probe(kOk));
  CHECK(b.probe(kOk));
  CHECK(b.health.state() == State::up);
  CHECK(b.health.recovered());
}

TEST_CASE("refusing is believed at once, from a probe or an exchange") {
  Bench b;
  b.up();
  CHECK(b.probe(kRefused));
  CHECK(b.health.state() == State::refused);
  b.probe(kOk);
  // An exchange that was refused meanwhile begins the count anew.
  CHECK_FALSE(b.health.on_refused_exchange(b.now));
  CHECK_FALSE(b.probe(kOk));
  CHECK(b.probe(kOk));
  CHECK(b.health.on_refused_exchange(b.now));
  CHECK_FALSE(b.health.reachable());
}

TEST_CASE("a slow answer is load: only ten seconds of silence stop new work") {
  Bench b;
  b.up();
  const TimePoint answered = b.now;
  CHECK_FALSE(b.probe(kTimeout));
  CHECK_FALSE(b.probe(kTimeout));
  CHECK_FALSE(b.probe(kTimeout));
  CHECK_FALSE(b.probe(kTimeout));
  CHECK(b.health.eligible());
  CHECK_FALSE(b.health.advance(answered + seconds(10) - milliseconds(1)));
  CHECK(b.health.advance(answered + seconds(10)));
  CHECK(b.health.state() == State::silent);
  SUBCASE("one good answer is enough, and it does not start slowly") {
    CHECK(b.probe(kOk));
    CHECK(b.health.state() == State::up);
    CHECK_FALSE(b.health.recovered());
  }
  SUBCASE("so is any sign of life") {
    CHECK(b.health.on_sign_of_life(b.now + seconds(3)));
    CHECK(b.health.eligible());
  }
  SUBCASE("but an answer that says not ready is no invitation") {
    CHECK_FALSE(b.probe(kNotReady));
    CHECK(b.health.state() == State::down);
  }
  SUBCASE("or it refuses after all") {
    CHECK_FALSE(b.probe(kRefused));
    CHECK(b.health.state() == State::refused);
  }
}

TEST_CASE("a sign of life postpones silence, and readies nobody") {
  Bench b;
  CHECK_FALSE(b.health.on_sign_of_life(b.now));
  CHECK(b.health.state() == State::unprobed);
  b.up();
  CHECK_FALSE(b.health.on_sign_of_life(b.now + seconds(9)));
  CHECK_FALSE(b.health.advance(b.now + seconds(18)));
  CHECK(b.health.advance(b.now + seconds(19)));
  b.probe(kRefused, seconds(30));
  CHECK_FALSE(b.health.on_sign_of_life(b.now));
  CHECK(b.health.state() == State::refused);
}

TEST_CASE("what is down does not fall silent") {
  Bench b;
  b.probe(kNotReady);
  CHECK_FALSE(b.health.advance(b.now + std::chrono::hours(1)));
  CHECK(b.health.state() == State::down);
}

TEST_CASE("recovered, then silent, then back: that was no restart") {
  Bench b;
  b.probe(kRefused);
  b.probe(kOk);
  b.probe(kOk);
  CHECK(b.health.recovered());
  b.now += seconds(11);
  CHECK(b.health.advance(b.now));
  b.probe(kOk);
  CHECK(b.health.eligible());
  CHECK_FALSE(b.health.recovered());
}

TEST_CASE("draining is the operator's word, whatever the probes say") {
  Bench b;
  b.up();
  CHECK(b.health.set_draining(true));
  CHECK_FALSE(b.health.set_draining(true));
  CHECK(b.health.reachable());
  CHECK_FALSE(b.health.eligible());
  CHECK_FALSE(b.probe(kOk));
  CHECK_FALSE(b.probe(kRefused));
  CHECK_FALSE(b.health.set_draining(false));
  b.probe(kOk);
  CHECK(b.probe(kOk));
  CHECK(to_string(b.health.state()) == "up");
}
