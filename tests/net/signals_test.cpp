#include "perigee/net/signals.h"

#include <signal.h>

#include <vector>

#include "worlds.h"

namespace perigee::test {
namespace {

TEST_CASE("signals: come as callbacks on the loop, and no longer when the object is gone") {
  struct Body {
    static coro::Task<void> run(RealLoop& r) {
      std::vector<int> seen;
      {
        const net::Signals signals(r.loop(), {SIGUSR1, SIGHUP}, [&seen](int n) { seen.push_back(n); });
        ::kill(::getpid(), SIGUSR1);
        co_await nap(50ms);
        CHECK(seen == std::vector<int>{SIGUSR1});
        ::kill(::getpid(), SIGHUP);
        co_await nap(50ms);
        CHECK(seen == std::vector<int>{SIGUSR1, SIGHUP});
      }
      ::signal(SIGUSR1, SIG_IGN);
      ::kill(::getpid(), SIGUSR1);
      co_await nap(20ms);
      CHECK(seen.size() == 2);
    }
  };
  RealLoop r;
  r.run(Body::run(r));
}

}  // namespace
}  // namespace perigee::test
