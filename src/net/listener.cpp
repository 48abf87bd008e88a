// Accepting with accept4() on a polled descriptor instead of uv_listen(): the descriptor can go to another
// loop without a dup, and when descriptors run out connections wait in the system's queue (libuv would
// accept and close them).
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include <cerrno>
#include <utility>

#include "perigee/net/loop.h"
#include "perigee/net/socket.h"

namespace perigee::net {
namespace {

constexpr int kBacklog = 4096;
// Connections taken in one turn before others get theirs.
constexpr int kBatch = 64;
constexpr Duration kExhaustedPause = std::chrono::milliseconds(100);

// A Unix socket's file survives its process. It may be taken over only when nobody listens on it.
bool stale_unix_socket(const Endpoint& at) {
  const int probe = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (probe < 0) return false;
  const bool refused = ::connect(probe, at.raw(), at.length) != 0 && errno == ECONNREFUSED;
  ::close(probe);
  return refused;
}

Result<int> listening_socket(const Endpoint& at) {
  const int fd = ::socket(at.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail(ErrorKind::io, "no socket could be made", Side::internal, errno);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (at.storage.ss_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  int rc = ::bind(fd, at.raw(), at.length);
  if (rc != 0 && errno == EADDRINUSE && at.is_unix() && stale_unix_socket(at)) {
    ::unlink(reinterpret_cast<const sockaddr_un*>(at.raw())->sun_path);
    rc = ::bind(fd, at.raw(), at.length);
  }
  if (rc == 0) rc = ::listen(fd, kBacklog);
  if (rc == 0) return fd;
  const int code = errno;
  ::close(fd);
  const char* detail = code == EADDRINUSE      ? "the address is in use"
                       : code == EACCES        ? "not allowed to listen on this address"
                       : code == EADDRNOTAVAIL ? "the address is not one of this machine's"
                                               : "the address cannot be listened on";
  return fail(ErrorKind::refused, detail, Side::internal, code);
}

}  // namespace

struct Listener::Impl {
  // The handle outlives the listener until its close callback.
  struct Poll {
    uv_poll_t handle{};
    Impl* impl = nullptr;
  };

  // Takes one connection: true when there may be more.
  bool accept_one() {
    const int accepted = ::accept4(fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (accepted >= 0) {
      on_accept(accepted, is_unix);
      return !paused;
    }
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      uv_poll_stop(&poll->handle);
      loop->executor().arm(retry, loop->now() + kExhaustedPause);
      return false;
    }
    return errno == EINTR || errno == ECONNABORTED;
  }
  void accept_some() {
    for (int i = 0; i < kBatch && accept_one(); ++i) {
    }
  }
  void start() {
    uv_poll_start(&poll->handle, UV_READABLE, [](uv_poll_t* p, int, int) {
      Loop::of(p->loop).enter();
      static_cast<Poll*>(p->data)->impl->accept_some();
    });
  }

  struct Retry : coro::Timer {
    explicit Retry(Impl& impl)
        : Timer([](Timer& t) {
            Impl& self = static_cast<Retry&>(t).impl_;
            if (!self.paused) self.start();
          }),
          impl_(impl) {}
    Impl& impl_;
  };

  Loop* loop = nullptr;
  Poll* poll = nullptr;
  int fd = -1;
  bool is_unix = false;
  bool paused = false;
  std::string text;
  std::string unix_path;
  OnAccept on_accept;
  Retry retry{*this};
};

Listener::Listener(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<Listener>> Listener::open(Loop& loop, const Endpoint& at, OnAccept on_accept) {
  TRY(const int fd, listening_socket(at));
  auto impl = std::make_unique<Impl>();
  impl->loop = &loop;
  impl->fd = fd;
  impl->is_unix = at.is_unix();
  impl->text = at.text();
  if (at.is_unix()) impl->unix_path = reinterpret_cast<const sockaddr_un*>(at.raw())->sun_path;
  impl->on_accept = std::move(on_accept);
  impl->poll = new Impl::Poll;
  impl->poll->impl = impl.get();
  uv_poll_init(loop.uv(), &impl->poll->handle, fd);
  impl->poll->handle.data = impl->poll;
  impl->start();
  return std::unique_ptr<Listener>(new Listener(std::move(impl)));
}

Listener::~Listener() {
  uv_poll_stop(&impl_->poll->handle);
  uv_close(reinterpret_cast<uv_handle_t*>(&impl_->poll->handle),
           [](uv_handle_t* h) { delete static_cast<Impl::Poll*>(h->data); });
  ::close(impl_->fd);
  if (!impl_->unix_path.empty()) ::unlink(impl_->unix_path.c_str());
}

void Listener::pause(bool pause) {
  if (impl_->paused == pause) return;
  impl_->paused = pause;
  impl_->retry.disarm();
  if (pause) {
    uv_poll_stop(&impl_->poll->handle);
  } else {
    impl_->start();
  }
}

const std::string& Listener::text() const { return impl_->text; }

}  // namespace perigee::net
