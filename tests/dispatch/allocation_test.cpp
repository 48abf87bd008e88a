// What an exchange does under the lock allocates nothing.
//
// Left out under the thread sanitizer, whose runtime does not let operator new be replaced.
#include "perigee/base/sanitizer.h"

#ifndef PERIGEE_THREAD_SANITIZER
#include "rig.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace {
std::atomic<std::size_t> allocations{0};
}

void* operator new(std::size_t size) {
  ++allocations;
  if (void* p = std::malloc(size == 0 ? 1 : size)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }

namespace perigee::dispatch::test {

TEST_CASE("nothing on the path of an exchange allocates") {
  Setup s = setup_of(4, WorkerKind::orbit, 8);
  Rig r(s);
  Ask chat;
  chat.request_class = RequestClass::chat;
  chat.streamed = true;
  std::array<Client, 20> clients;
  const std::size_t before = allocations.load();
  for (int round = 0; round < 200; ++round) {
    for (Client& c : clients) r.ask(c, chat);
    r.clock.advance(500ms);
    r.d.pump(r.now());
    r.loop.port.deliver();
    for (Client& c : clients) {
      if (c.state() != Waiter::State::granted) {
        r.d.cancel(c, Cancelled::client_gone, r.now());
        continue;
      }
      Ticket t = c.take();
      t.sent(r.now());
      t.bytes(r.now());
      t.head(r.now());
      t.first_event(r.now());
      t.finish(Outcome::success, r.now());
    }
  }
  CHECK(allocations == before);
  CHECK(r.d.snapshot().grants > 1000);
}

}  // namespace perigee::dispatch::test

#endif
