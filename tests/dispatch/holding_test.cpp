// Slow workers beside fast ones behind the real dispatcher, in virtual time: who waits how long with and without
// leaving slow places idle, and the corners of that rule.
#include "rig.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <queue>

#include "perigee/base/random.h"
#include "perigee/base/sanitizer.h"

namespace perigee::dispatch::test {
namespace {

// Four workers of eight places; work is log-normal, mean 40 ms, σ .8. Worker 2 takes four times as long, worker 3
// ten times during five seconds.
struct Load {
  double rate = 455;
  double seconds = 24;
  double hold = 2;
  double high_share = 0;
  Duration longest_wait = 30s;
  std::array<double, 4> slowness{1, 1, 4, 1};
  bool bad_spell = true;
  double spike = 1;  // times the rate in [spike_from, spike_to), seconds
  double spike_from = 0, spike_to = 0;
};

struct Answered {
  std::vector<double> all, high;  // arrival → end, ms, of those served
  struct One {
    double at, ms;  // arrival, seconds; how long it took, or < 0: refused
  };
  std::vector<One> each;
  std::size_t offered_high = 0;
  std::uint32_t most_waiting = 0;
  std::array<std::uint64_t, 4> grants{};
  std::uint32_t greatest_speed = 1;  // of any worker at any look
  static double quantile(std::vector<double> v, double q) {
    const auto at = v.begin() + static_cast<std::ptrdiff_t>(q * static_cast<double>(v.size() - 1));
    std::nth_element(v.begin(), at, v.end());
    return *at;
  }
  static double mean(const std::vector<double>& v) {
    double sum = 0;
    for (const double x : v) sum += x;
    return sum / static_cast<double>(v.size());
  }
};

class Workers {
 public:
  Workers(const Load& load, std::uint64_t seed) : load_(load), rng_(seed), rig_(setup(load)) {
    for (std::size_t i = 0; i < 4; ++i) refs_[i] = rig_.ref(i);
    start_ = rig_.now();
    next_arrival_ = start_;
  }

  Answered run() {
    const TimePoint end = start_ + from_seconds(load_.seconds);
    next_look_ = start_ + 100ms;
    while (step(next_arrival_ < end)) {
    }
    for (std::size_t i = 0; i < 4; ++i) out_.grants[i] = rig_.status(i).grants;
    return std::move(out_);
  }

 private:
  struct Job {
    Client waiter;
    Ticket ticket;
    TimePoint arrived{};
    double work = 0;  // seconds on a usual worker
    bool high = false;
  };
  struct End {
    TimePoint at;
    std::size_t job;
    bool operator>(const End& o) const { return at > o.at; }
  };
  static Setup setup(const Load& load) {
    Setup s = setup_of(4, WorkerKind::http, 8);
    s.policy.hold.hold = load.hold;
    return s;
  }
  double normal() {
    constexpr double kTwoPi = 6.283185307179586;
    return std::sqrt(-2 * std::log(1 - rng_.uniform())) * std::cos(kTwoPi * rng_.uniform());
  }

  bool step(bool more) {
    TimePoint next = more ? next_arrival_ : kNever;
    if (!ends_.empty()) next = std::min(next, ends_.top().at);
    if (const TimePoint due = rig_.d.take_wakeup(); due != kNever) rig_.timer = std::min(rig_.timer, due);
    if (next == kNever && waiting_.empty()) return false;
    next = std::min(next, rig_.timer);
    rig_.clock.set(std::max(next, rig_.now()));
    if (rig_.now() >= rig_.timer) rig_.pass(Duration::zero());
    if (!ends_.empty() && ends_.top().at <= rig_.now()) {
      const std::size_t i = ends_.top().job;
      ends_.pop();
      finish(i);
    } else if (more && next_arrival_ <= rig_.now()) {
      const double at = to_seconds(rig_.now() - start_);
      const bool spike = at >= load_.spike_from && at < load_.spike_to;
      next_arrival_ += from_seconds(rng_.exponential(1 / (load_.rate * (spike ? load_.spike : 1))));
      arrive();
    }
    rig_.loop.port.deliver();
    collect();
    if (++steps_ % 16 == 0) rig_.check();
    if (rig_.now() >= next_look_) {
      next_look_ += 100ms;
      for (std::size_t i = 0; i < 4; ++i) out_.greatest_speed = std::max(out_.greatest_speed, rig_.status(i).speed);
    }
    return true;
  }
  void arrive() {
    jobs_.push_back(std::make_unique<Job>());
    Job& j = *jobs_.back();
    j.arrived = rig_.now();
    j.work = 0.040 * std::exp(0.8 * normal() - 0.32);
    j.high = rng_.uniform() < load_.high_share;
    out_.offered_high += j.high ? 1 : 0;
    Ask a;
    a.priority = j.high ? Priority::high : Priority::normal;
    a.queue_wait = load_.longest_wait;
    const Verdict v = rig_.ask(j.waiter, a);
    if (v == Verdict::granted) begin(jobs_.size() - 1);
    if (v == Verdict::waiting) waiting_.push_back(jobs_.size() - 1);
    if (v == Verdict::refused) refused(j);
    out_.most_waiting = std::max(out_.most_waiting, static_cast<std::uint32_t>(waiting_.size()));
  }
  void refused(const Job& j) { out_.each.push_back({to_seconds(j.arrived - start_), -1}); }
  void begin(std::size_t i) {
    Job& j = *jobs_[i];
    j.ticket = j.waiter.take();
    const std::size_t w =
        static_cast<std::size_t>(std::ranges::find(refs_, j.ticket.backend().ref) - refs_.begin());
    const double at = to_seconds(rig_.now() - start_);
    const bool spell = load_.bad_spell && w == 3 && at >= 0.4 * load_.seconds && at < 0.4 * load_.seconds + 5;
    ends_.push({rig_.now() + from_seconds(j.work * load_.slowness[w] * (spell ? 10 : 1)), i});
  }
  void finish(std::size_t i) {
    Job& j = *jobs_[i];
    j.ticket.finish(Outcome::success, rig_.now());
    const double ms = 1e3 * to_seconds(rig_.now() - j.arrived);
    out_.all.push_back(ms);
    out_.each.push_back({to_seconds(j.arrived - start_), ms});
    if (j.high) out_.high.push_back(ms);
  }
  void collect() {
    std::erase_if(waiting_, [&](std::size_t i) {
      Client& c = jobs_[i]->waiter;
      if (c.state() == Waiter::State::waiting) return false;
      if (c.state() == Waiter::State::granted) begin(i);
      else refused(*jobs_[i]);
      return true;
    });
  }

  Load load_;
  Rng rng_;
  Rig rig_;
  std::array<BackendRef, 4> refs_;
  TimePoint start_, next_arrival_, next_look_;
  std::vector<std::unique_ptr<Job>> jobs_;
  std::vector<std::size_t> waiting_;
  std::priority_queue<End, std::vector<End>, std::greater<>> ends_;
  std::uint64_t steps_ = 0;
  Answered out_;
};

struct Figures {
  double mean, p95, p99, high_p95, goodput;
};
// Medians over the seeds, each figure by itself.
Figures measure(const Load& load) {
  std::array<std::vector<double>, 5> of;
  for (const std::uint64_t seed : {1U, 2U, 3U}) {
    const Answered a = Workers(load, seed).run();
    of[0].push_back(Answered::mean(a.all));
    of[1].push_back(Answered::quantile(a.all, .95));
    of[2].push_back(Answered::quantile(a.all, .99));
    of[3].push_back(a.high.empty() ? 0 : Answered::quantile(a.high, .95));
    of[4].push_back(static_cast<double>(a.all.size()) / load.seconds);
  }
  const Figures f{Answered::quantile(of[0], .5), Answered::quantile(of[1], .5), Answered::quantile(of[2], .5),
                  Answered::quantile(of[3], .5), Answered::quantile(of[4], .5)};
  MESSAGE("rate " << load.rate << " hold " << load.hold << ": mean " << f.mean << " p95 " << f.p95 << " p99 " << f.p99
                  << " high p95 " << f.high_p95 << " served/s " << f.goodput);
  return f;
}

}  // namespace

// As published for this load: one blind queue 58 / 172 / 388 ms, by connections 59 / 184 / 447.
TEST_CASE("at 70 percent of what they serve, slow places left idle make everybody faster") {
  Load load;
  load.seconds = kFastBuild ? 24 : 12;
  load.hold = 0;
  const Figures blind = measure(load);
  load.hold = 2;
  const Figures held = measure(load);
  CHECK(held.mean < 0.98 * blind.mean);
  CHECK(held.p95 < 0.95 * blind.p95);
  CHECK(held.p99 < 0.90 * blind.p99);
  if (!kFastBuild) return;
  CHECK(held.mean == doctest::Approx(53.2).epsilon(.05));
  CHECK(held.p95 == doctest::Approx(145).epsilon(.05));
  CHECK(held.p99 == doctest::Approx(298).epsilon(.05));
}

TEST_CASE("at three times what they serve, slow workers get what is less important") {
  Load load;
  load.rate = 1950;
  load.seconds = kFastBuild ? 12 : 4;
  load.high_share = .2;
  load.longest_wait = 500ms;
  load.bad_spell = false;
  load.hold = 0;
  const Figures blind = measure(load);
  load.hold = 2;
  const Figures held = measure(load);
  CHECK(held.high_p95 < (kFastBuild ? 0.85 : 0.90) * blind.high_p95);  // four seconds tell less exactly
  CHECK(held.goodput > 0.98 * blind.goodput);
  if (kFastBuild) CHECK(held.high_p95 == doctest::Approx(112.2).epsilon(.05));
}

TEST_CASE("nobody is held back from equal workers, whatever the work looks like") {
  Load load;
  load.seconds = kFastBuild ? 120 : 10;
  load.rate = 720;  // 90 percent
  load.slowness = {1, 1, 1, 1};
  load.bad_spell = false;
  for (const std::uint64_t seed : {4U, 5U}) CHECK(Workers(load, seed).run().greatest_speed == 1);
}

namespace {

// Two workers of one place each; the second takes ten times as long, and that is known.
struct Pair {
  Rig rig;
  Client a, b, c;
  explicit Pair(double hold = 2) : rig(setup(hold)) {
    // Two workers that are always busy, and always one who waits.
    Client waiting;
    std::array<Ticket, 2> at;
    for (int i = 0; i < 400; ++i) {
      while (waiting.state() != Waiter::State::waiting) {
        if (waiting.state() == Waiter::State::granted) keep(at, waiting.take());
        if (rig.ask(waiting) == Verdict::granted) keep(at, waiting.take());
      }
      const bool slow = i % 11 == 10;
      rig.pass(slow ? 0ms : 10ms);
      if (!at[slow ? 1 : 0]) continue;
      at[slow ? 1 : 0].finish(Outcome::success, rig.now());
      rig.loop.port.deliver();
    }
    rig.d.cancel(waiting, Cancelled::client_gone, rig.now());
    for (Ticket& t : at) {
      if (t) t.finish(Outcome::client_gone, rig.now());
    }
  }
  void keep(std::array<Ticket, 2>& at, Ticket t) {
    const std::size_t i = t.backend().ref == rig.ref(0) ? 0 : 1;
    at[i] = std::move(t);
  }
  static Setup setup(double hold) {
    Setup s = setup_of(2, WorkerKind::http, 1);
    s.policy.hold.hold = hold;
    return s;
  }
};

}  // namespace

TEST_CASE("a slow place stays free for two waiters, and is given when enough wait") {
  Pair p;
  Rig& rig = p.rig;
  REQUIRE(rig.status(0).speed == 1);
  REQUIRE(rig.status(1).speed >= 2);
  const Ticket fast = rig.grant();
  CHECK(fast.backend().ref == rig.ref(0));
  REQUIRE(rig.ask(p.a) == Verdict::waiting);
  REQUIRE(rig.ask(p.b) == Verdict::waiting);
  CHECK(rig.status(1).in_flight == 0);
  rig.check();

  SUBCASE("the first in line gets it once the fast one's queue is longer than its saving") {
    std::vector<std::unique_ptr<Client>> more;
    while (rig.status(1).in_flight == 0 && more.size() < 16) {
      more.push_back(std::make_unique<Client>());
      (void)rig.ask(*more.back());
      rig.check();
    }
    rig.loop.port.deliver();
    CHECK(p.a.state() == Waiter::State::granted);
    CHECK(p.b.state() == Waiter::State::waiting);
    CHECK(more.size() < 8);
  }
  SUBCASE("the fast one goes down: nobody waits for it") {
    rig.d.drain_backend(rig.ref(0), true, rig.now());
    rig.loop.port.deliver();
    CHECK(p.a.state() == Waiter::State::granted);
    rig.check();
  }
  SUBCASE("the fast one hangs: nobody waits for it for long") {
    rig.pass(4s);
    rig.loop.port.deliver();
    CHECK(p.a.state() == Waiter::State::granted);
    rig.check();
  }
  SUBCASE("who has failed on the fast one does not wait for it") {
    Client again;
    Ask ask;
    ask.excluded = BackendSet{1} << rig.ref(0).id;
    CHECK(rig.ask(again, ask) == Verdict::granted);
  }
  SUBCASE("what is pinned to the slow one goes there") {
    Ask ask;
    ask.pinned = rig.ref(1);
    CHECK(rig.grant(ask).backend().ref == rig.ref(1));
  }
  SUBCASE("a reload that switches it off lets go") {
    rig.setup.policy.hold.hold = 0;
    REQUIRE(rig.d.configure(rig.setup, rig.now()).has_value());
    rig.loop.port.deliver();
    CHECK(p.a.state() == Waiter::State::granted);
    rig.check();
  }
}

TEST_CASE("switched off, every free place is used at once") {
  Pair p(0);
  const Ticket one = p.rig.grant();
  const Ticket other = p.rig.grant();
  CHECK(p.rig.status(0).speed == 1);
  CHECK(p.rig.status(1).speed == 1);
}

TEST_CASE("while others wait, important ones leave the slow place to them") {
  Pair p;
  Rig& rig = p.rig;
  const Ticket fast = rig.grant();
  Ask high;
  high.priority = Priority::high;
  REQUIRE(rig.ask(p.a, high) == Verdict::waiting);
  // Normal ones until the slow place is given: to the first of them, not to the important one before them.
  std::vector<std::unique_ptr<Client>> normal;
  while (rig.status(1).in_flight == 0 && normal.size() < 16) {
    normal.push_back(std::make_unique<Client>());
    (void)rig.ask(*normal.back());
    rig.check();
  }
  rig.loop.port.deliver();
  CHECK(p.a.state() == Waiter::State::waiting);
  REQUIRE(!normal.empty());
  CHECK(normal.front()->state() == Waiter::State::granted);
}

TEST_CASE("a held worker is tried every five seconds") {
  Load load;
  load.seconds = 12;
  load.rate = 120;  // the two fast ones of eight places each would do
  load.slowness = {1, 1, 16, 16};
  load.bad_spell = false;
  const Answered a = Workers(load, 9).run();
  CHECK(a.grants[2] >= 2);
  CHECK(a.grants[3] >= 2);
}

TEST_CASE("ten times what they serve, and back: no collapse, no more than may wait, over within two seconds") {
  Load load;
  load.slowness = {1, 1, 1, 1};
  load.bad_spell = false;
  load.rate = 400;  // half of what they serve
  load.spike = 20;
  load.spike_from = 4;
  load.spike_to = 7;
  load.seconds = 13;
  load.longest_wait = 500ms;
  const Answered a = Workers(load, 3).run();
  std::vector<double> before, after;
  double during = 0, refused_after = 0;
  for (const Answered::One& one : a.each) {
    const double end = one.at + one.ms / 1e3;
    if (one.at < 4) before.push_back(one.ms);
    if (one.at >= 9 && one.ms < 0) ++refused_after;
    if (one.at >= 9) after.push_back(one.ms);
    if (one.ms >= 0 && end >= 4.5 && end < 7) ++during;
  }
  during /= 2.5;
  MESSAGE("served in the spike " << during << "/s of 800, most waiting " << a.most_waiting << ", p95 before "
                                 << Answered::quantile(before, .95) << " after " << Answered::quantile(after, .95));
  CHECK(during >= 0.97 * 800);
  CHECK(refused_after == 0);
  CHECK(Answered::quantile(after, .95) <= 1.1 * Answered::quantile(before, .95));
  CHECK(a.most_waiting <= 600);  // what is served in half a second, and what came before that was known
}

}  // namespace perigee::dispatch::test
