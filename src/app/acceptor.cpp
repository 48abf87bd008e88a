#include "acceptor.h"

#include <algorithm>

namespace perigee::app {

namespace {
constexpr Duration kRecheck = std::chrono::milliseconds(20);
}

Acceptor::Acceptor(std::vector<std::unique_ptr<IoThread>>& threads, std::size_t most) : threads_(threads), most_(most) {}
Acceptor::~Acceptor() = default;

Result<void> Acceptor::listen(const net::Endpoint& at, net::TlsServerPtr tls) {
  auto door = std::make_unique<Door>();
  door->tls = std::move(tls);
  auto opened = net::Listener::open(threads_.front()->loop(), at,
                                    [this, d = door.get()](int fd, bool is_unix) { accepted(fd, is_unix, *d); });
  TRY(door->listener, std::move(opened));
  doors_.push_back(std::move(door));
  return {};
}

void Acceptor::close() {
  recheck_.disarm();
  doors_.clear();
}

bool Acceptor::full() const {
  std::size_t open = 0;
  for (const auto& thread : threads_) open += thread->connections();
  return open >= most_;
}

void Acceptor::accepted(int fd, bool is_unix, const Door& door) {
  const auto least = std::min_element(threads_.begin(), threads_.end(), [](const auto& a, const auto& b) {
    return a->connections() < b->connections();
  });
  (*least)->take(fd, is_unix, door.tls);
  if (!full()) return;
  pause(true);
  net::Loop& loop = threads_.front()->loop();
  loop.executor().arm(recheck_, loop.now() + kRecheck);
}

void Acceptor::recheck() {
  if (full()) {
    net::Loop& loop = threads_.front()->loop();
    loop.executor().arm(recheck_, loop.now() + kRecheck);
  } else {
    pause(false);
  }
}

void Acceptor::pause(bool pause) {
  for (const auto& door : doors_) door->listener->pause(pause);
}

}  // namespace perigee::app
