// Turns of sessions, running streams and known ids: what all loops share.
#include "perigee/proxy/sessions.h"

#include <doctest/doctest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "perigee/base/random.h"
#include "perigee/base/sanitizer.h"

namespace perigee::proxy {
namespace {

struct CountingWaker final : dispatch::Waker {
  void wake() noexcept override { woken.fetch_add(1); }
  void soon() noexcept override { soons.fetch_add(1); }
  std::atomic<int> woken{0};
  std::atomic<int> soons{0};
};

struct Chat {
  Turn turn;
  int told = 0;
  static void granted(void* whom) { ++static_cast<Chat*>(whom)->told; }
  Sessions::Entered enter(Sessions& s, SessionPort& port, std::uint64_t session, Sessions::Bounds bounds = {}) {
    return s.enter(turn, session, bounds, port, &granted, this);
  }
};

using Entered = Sessions::Entered;

}  // namespace

TEST_CASE("turns: one at a time, by arrival; sessions do not meet, in one bucket or another") {
  Sessions s;
  CountingWaker waker;
  SessionPort port(s, waker);
  Chat a;
  Chat b;
  Chat c;
  Chat other;
  Chat neighbour;
  CHECK(a.enter(s, port, 7) == Entered::has_turn);
  CHECK(b.enter(s, port, 7) == Entered::waits);
  CHECK(c.enter(s, port, 7) == Entered::waits);
  CHECK(other.enter(s, port, 8) == Entered::has_turn);
  CHECK(neighbour.enter(s, port, 7 + 1024) == Entered::has_turn);
  CHECK(s.status().turns == 3);
  CHECK(s.status().waiting == 2);
  a.turn.leave();
  CHECK(b.told == 0);  // not from inside leave()
  CHECK(waker.soons == 1);
  port.deliver();
  CHECK(b.told == 1);
  CHECK(c.told == 0);
  b.turn.leave();
  b.turn.leave();
  port.deliver();
  CHECK(c.told == 1);
  c.turn.leave();
  other.turn.leave();
  neighbour.turn.leave();
  CHECK(s.status().turns == 0);
  CHECK(a.enter(s, port, 7) == Entered::has_turn);
}

TEST_CASE("turns: who leaves the line is not told, and holds up nobody; who was chosen and not yet told passes it on") {
  Sessions s;
  CountingWaker waker;
  SessionPort port(s, waker);
  Chat a;
  Chat c;
  CHECK(a.enter(s, port, 7) == Entered::has_turn);
  {
    Chat b;
    CHECK(b.enter(s, port, 7) == Entered::waits);
    CHECK(c.enter(s, port, 7) == Entered::waits);
    a.turn.leave();  // b is chosen
  }                  // and dies
  port.deliver();
  CHECK(c.told == 1);
  CHECK(s.status().turns == 1);
  {
    Chat d;
    CHECK(d.enter(s, port, 7) == Entered::waits);
  }
  CHECK(s.status().waiting == 0);
  c.turn.leave();
  port.deliver();
  CHECK(s.status().turns == 0);
}

TEST_CASE("turns: a line has an end, and so have all lines together") {
  Sessions s;
  CountingWaker waker;
  SessionPort port(s, waker);
  std::vector<std::unique_ptr<Chat>> chats;
  const auto enter = [&](std::uint64_t session, Sessions::Bounds bounds) {
    chats.push_back(std::make_unique<Chat>());
    return chats.back()->enter(s, port, session, bounds);
  };
  CHECK(enter(7, {2, 3}) == Entered::has_turn);
  CHECK(enter(7, {2, 3}) == Entered::waits);
  CHECK(enter(7, {2, 3}) == Entered::waits);
  CHECK(enter(7, {2, 3}) == Entered::full);
  CHECK_FALSE(chats.back()->turn.entered());
  CHECK(enter(8, {2, 3}) == Entered::has_turn);
  CHECK(enter(8, {2, 3}) == Entered::waits);
  CHECK(enter(8, {2, 3}) == Entered::full);   // of all
  CHECK(enter(9, {2, 3}) == Entered::has_turn);  // nobody waits for anything there
  CHECK(enter(9, {0, 3}) == Entered::full);
}

TEST_CASE("turns: loops on threads of their own never hold one turn twice, and nobody is forgotten") {
  constexpr int kThreads = 3;
  constexpr int kChats = kSanitized ? 2'000 : 10'000;
  constexpr std::uint64_t kSessions = 4;
  Sessions s;
  std::array<std::atomic<int>, kSessions> holding{};
  std::atomic<int> doubled{0};
  std::atomic<int> running{kThreads};
  struct SleeplessWaker final : dispatch::Waker {
    void wake() noexcept override {}
    void soon() noexcept override {}
  };
  std::array<SleeplessWaker, kThreads> wakers;
  std::vector<std::unique_ptr<SessionPort>> ports;
  for (auto& waker : wakers) ports.push_back(std::make_unique<SessionPort>(s, waker));
  const auto work = [&](std::size_t me) {
    Rng rng(me + 1);
    SessionPort& port = *ports[me];
    for (int i = 0; i < kChats; ++i) {
      Chat chat;
      const std::uint64_t session = rng.below(kSessions);
      bool mine = chat.enter(s, port, session + 1) == Entered::has_turn;
      const bool leaves = rng.below(8) == 0;
      while (!mine && !leaves) {
        port.deliver();
        mine = chat.told != 0;
        if (!mine) std::this_thread::yield();
      }
      if (!mine) continue;
      if (holding[session].fetch_add(1) != 0) doubled.fetch_add(1);
      holding[session].fetch_sub(1);
    }
    running.fetch_sub(1);
    while (running.load() != 0) {
      port.deliver();
      std::this_thread::yield();
    }
  };
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < kThreads; ++i) threads.emplace_back(work, i);
  for (std::thread& t : threads) t.join();
  CHECK(doubled == 0);
  CHECK(s.status().turns == 0);
  CHECK(s.status().waiting == 0);
}

TEST_CASE("streams: a stop reaches the one of its id, once, on its own loop") {
  Sessions s;
  CountingWaker here;
  CountingWaker there;
  SessionPort mine(s, here);
  SessionPort its(s, there);
  int stops = 0;
  const auto stopped = [](void* whom) { ++*static_cast<int*>(whom); };
  RunningStream stream;
  RunningStream other;
  s.runs(stream, 42, its, stopped, &stops);
  s.runs(other, 42 + 1024, its, stopped, &stops);
  s.stop(41, mine);
  CHECK(there.woken == 0);
  s.stop(42, mine);
  s.stop(42, mine);
  CHECK(there.woken == 1);
  CHECK(stops == 0);
  mine.deliver();
  CHECK(stops == 0);
  its.deliver();
  its.deliver();
  CHECK(stops == 1);
  s.stop(42 + 1024, its);
  CHECK(there.soons == 1);
  other.ended();  // in the meantime
  its.deliver();
  CHECK(stops == 1);
  stream.ended();
  s.stop(42, mine);
  CHECK(s.status().streams == 0);
}

TEST_CASE("known ids: found while they are used, forgotten half an hour later, bounded") {
  using namespace std::chrono_literals;
  KnownIds ids;
  TimePoint now{1000s};
  CHECK_FALSE(ids.find(5, now));
  ids.note(5, {3, 1}, now);
  ids.note(0, {4, 1}, now);
  CHECK(ids.find(5, now) == dispatch::BackendRef{3, 1});
  CHECK_FALSE(ids.find(0, now));
  ids.note(5, {2, 7}, now);
  CHECK(ids.find(5, now) == dispatch::BackendRef{2, 7});
  CHECK(ids.size() == 1);
  now += 29min;
  CHECK(ids.find(5, now));
  now += 29min;
  CHECK(ids.find(5, now));
  now += 31min;
  CHECK_FALSE(ids.find(5, now));
  CHECK(ids.size() == 0);
  // Nine of one set: the one that was not used for longest goes.
  for (std::uint64_t i = 1; i <= KnownIds::kWays; ++i) ids.note(i * KnownIds::kSets, {static_cast<dispatch::BackendId>(i), 0}, now += 1s);
  CHECK(ids.find(1 * KnownIds::kSets, now += 1s));
  ids.note(9 * KnownIds::kSets, {9, 0}, now += 1s);
  CHECK(ids.size() == KnownIds::kWays);
  CHECK(ids.find(1 * KnownIds::kSets, now));
  CHECK_FALSE(ids.find(2 * KnownIds::kSets, now));
  CHECK(ids.find(9 * KnownIds::kSets, now));
}

TEST_CASE("homes: a table of their own, so that no flood of sessions makes a job forgotten; as bounded as the other") {
  using namespace std::chrono_literals;
  Sessions s;
  const TimePoint now{1000s};
  s.note(5, {1, 0}, now);
  CHECK_FALSE(s.home_of(5, now));
  for (std::uint64_t i = 1; i <= 2 * KnownIds::kWays; ++i) s.note_home(5 + i * KnownIds::kSets, {2, 3}, now + i * 1s);
  CHECK(s.worker_of(5, now) == dispatch::BackendRef{1, 0});
  CHECK_FALSE(s.home_of(5 + KnownIds::kSets, now + 20s));
  CHECK(s.home_of(5 + 2 * KnownIds::kWays * KnownIds::kSets, now + 20s) == dispatch::BackendRef{2, 3});
  CHECK(s.status().homes == KnownIds::kWays);
  CHECK(s.status().known_ids == 1);
  s.note_home(5 + 2 * KnownIds::kWays * KnownIds::kSets, {4, 0}, now + 21s);
  CHECK(s.home_of(5 + 2 * KnownIds::kWays * KnownIds::kSets, now + 22s) == dispatch::BackendRef{4, 0});
  CHECK(s.status().homes == KnownIds::kWays);
  CHECK_FALSE(s.home_of(5 + 2 * KnownIds::kWays * KnownIds::kSets, now + 22s + KnownIds::kLife + 1s));
}

}  // namespace perigee::proxy
