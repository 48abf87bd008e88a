// The loop itself: time, turns, and what other threads may do to it.
#include "perigee/net/loop.h"

#include <atomic>
#include <thread>

#include "worlds.h"

namespace perigee::test {
namespace {

using coro::Task;

TEST_CASE("loop: sleeps end in order, not early, and not much too late") {
  struct Body {
    static Task<void> run(RealLoop& r) {
      for (const Duration d : {Duration(1ms), Duration(5ms), Duration(20ms), Duration(1500us)}) {
        const TimePoint begun = r.loop().clock().now();
        const auto slept = co_await coro::sleep_until(begun + d);
        CHECK(slept.has_value());
        const Duration took = r.loop().clock().now() - begun;
        CHECK(took >= d);
        CHECK(took < d + 500ms);
      }
    }
  };
  RealLoop r;
  r.run(Body::run(r));
}

TEST_CASE("loop: the end of a turn comes before it sleeps, and what it makes ready runs in the same turn") {
  RealLoop r;
  int turns = 0;
  struct Ready : coro::ReadyNode {
    Ready() : ReadyNode([](coro::ReadyNode& n) { ++static_cast<Ready&>(n).ran; }) {}
    int ran = 0;
  } ready;
  r.loop().on_turn_end([&] {
    if (++turns == 1) r.executor().post(ready);
  });
  r.run(nap(5ms));
  CHECK(turns >= 1);
  CHECK(ready.ran == 1);
}

TEST_CASE("loop: wake calls on_wake on the loop's thread") {
  RealLoop r;
  std::atomic<int> woken{0};
  r.loop().on_wake([&] { ++woken; });
  std::thread other([&] {
    for (int i = 0; i < 1000; ++i)
      r.loop().wake();
  });
  r.run(nap(50ms));
  other.join();
  r.run(nap(20ms));
  CHECK(woken >= 1);
  CHECK(woken <= 1000);
}

// Two loops on two threads that play ball with letters.
struct Player {
  net::Loop* loop = nullptr;
  int caught = 0;
};

void throw_ball(Player& from, Player& to, int left, std::atomic<bool>& over) {
  ++from.caught;
  if (left == 0) {
    over = true;
    to.loop->post([&to] { to.loop->stop(); });
    from.loop->stop();
    return;
  }
  to.loop->post([&from, &to, left, &over] { throw_ball(to, from, left - 1, over); });
}

TEST_CASE("loop: letters between two threads, each on its own loop") {
  constexpr int kThrows = 20'000;
  SystemClock clock;
  net::Loop here(clock);
  Player a{&here, 0};
  Player b;
  std::atomic<bool> ready{false};
  std::atomic<bool> over{false};
  std::thread other([&] {
    net::Loop there(clock);
    b.loop = &there;
    ready = true;
    ready.notify_all();
    there.run();
  });
  ready.wait(false);
  here.post([&] { throw_ball(a, b, kThrows, over); });
  here.run();
  other.join();
  CHECK(over);
  CHECK(a.caught + b.caught == kThrows + 1);
}

TEST_CASE("loop: letters of many threads all arrive, in the order of each, and coroutines get them") {
  constexpr int kThreads = 4;
  constexpr int kLetters = 5'000;
  SystemClock clock;
  net::Loop loop(clock);
  std::array<int, kThreads> next{};
  int total = 0;
  bool in_order = true;
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kLetters; ++i) {
        loop.post([&, t, i] {
          in_order &= next[t]++ == i;
          if (++total == kThreads * kLetters) loop.stop();
        });
      }
    });
  }
  loop.run();
  for (auto& t : threads)
    t.join();
  CHECK(in_order);
  CHECK(total == kThreads * kLetters);
}

TEST_CASE("loop: stopped while it does not run, it still closes what is left in its destructor") {
  ::signal(SIGPIPE, SIG_IGN);
  SystemClock clock;
  net::Loop loop(clock);
  int fds[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
  auto stream = net::adopt(loop, fds[0], true);
  CHECK(stream.has_value());
  ::close(fds[1]);
  loop.stop();
}

TEST_CASE("loop: letters that were never delivered are destroyed with it") {
  auto witness = std::make_shared<int>(1);
  {
    SystemClock clock;
    net::Loop loop(clock);
    loop.post([witness] { FAIL("not to be run"); });
    CHECK(witness.use_count() == 2);
  }
  CHECK(witness.use_count() == 1);
}

}  // namespace
}  // namespace perigee::test
