// Accepting with accept4() on a polled descriptor instead of uv_listen(): the descriptor can go to another
// loop without a dup, and when descriptors run out connections wait in the system's queue (libuv would
// accept and close them).
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
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

const char* path_of(const Endpoint& at) {
  return reinterpret_cast<const sockaddr_un*>(at.raw())->sun_path;
}

// A Unix socket's file survives its process. It may be taken over only when nobody listens on it; a file that is no
// socket refuses connections just the same, and is somebody's.
bool stale_unix_socket(const Endpoint& at) {
  struct stat found{};
  if (::lstat(path_of(at), &found) != 0 || !S_ISSOCK(found.st_mode)) return false;
  const int probe = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (probe < 0) return false;
  const bool refused = ::connect(probe, at.raw(), at.length) != 0 && errno == ECONNREFUSED;
  ::close(probe);
  return refused;
}

// A Unix socket has its permissions before anybody can connect: until listen() the system refuses.
int bind_to(int fd, const Endpoint& at, unsigned mode) {
  if (!at.is_unix() || mode == 0) return ::bind(fd, at.raw(), at.length);
  int rc = ::bind(fd, at.raw(), at.length);
  if (rc == 0 && ::chmod(path_of(at), mode) != 0) {
    const int code = errno;
    ::unlink(path_of(at));
    errno = code;
    rc = -1;
  }
  return rc;
}

Result<int> listening_socket(const Endpoint& at, unsigned mode) {
  const int fd = ::socket(at.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail(ErrorKind::io, "no socket could be made", Side::internal, errno);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (at.storage.ss_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  int rc = bind_to(fd, at, mode);
  if (rc != 0 && errno == EADDRINUSE && at.is_unix() && stale_unix_socket(at)) {
    ::unlink(path_of(at));
    rc = bind_to(fd, at, mode);
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

// Which file it is: another perigee may have replaced ours.
struct FileId {
  dev_t device = 0;
  ino_t inode = 0;
  bool operator==(const FileId&) const = default;
};
FileId file_id(const std::string& path) {
  struct stat found{};
  return ::lstat(path.c_str(), &found) == 0 ? FileId{found.st_dev, found.st_ino} : FileId{};
}

}  // namespace

Endpoint local_endpoint(int fd) {
  Endpoint at;
  at.length = sizeof at.storage;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&at.storage), &at.length) != 0) return {};
  return at;
}

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
  std::string unix_path;  // of a file that is ours to remove
  FileId unix_file;
  OnAccept on_accept;
  Retry retry{*this};
};

Listener::Listener(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<Listener>> Listener::open(Loop& loop, const Endpoint& at, OnAccept on_accept, unsigned mode) {
  TRY(const int fd, listening_socket(at, mode));
  auto listener = on(loop, fd, at, std::move(on_accept));
  if (at.is_unix()) {
    listener->impl_->unix_path = path_of(at);
    listener->impl_->unix_file = file_id(listener->impl_->unix_path);
  }
  return listener;
}

Result<std::unique_ptr<Listener>> Listener::adopt(Loop& loop, int fd, OnAccept on_accept) {
  const Endpoint at = local_endpoint(fd);
  const auto family = at.storage.ss_family;
  int type = 0;
  int listens = 0;
  socklen_t length = sizeof type;
  const bool known = at.length != 0 && (family == AF_INET || family == AF_INET6 || family == AF_UNIX);
  if (!known || ::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) != 0 || type != SOCK_STREAM) {
    return fail(ErrorKind::invalid, "not a stream socket over IP or of the Unix kind");
  }
  length = sizeof listens;
  if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) != 0 || listens == 0) {
    return fail(ErrorKind::invalid, "not a listening socket (Accept=yes is not for us)");
  }
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  return on(loop, fd, at, std::move(on_accept));
}

std::unique_ptr<Listener> Listener::on(Loop& loop, int fd, const Endpoint& at, OnAccept on_accept) {
  auto impl = std::make_unique<Impl>();
  impl->loop = &loop;
  impl->fd = fd;
  impl->is_unix = at.is_unix();
  impl->text = at.text();
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
  if (!impl_->unix_path.empty() && file_id(impl_->unix_path) == impl_->unix_file) ::unlink(impl_->unix_path.c_str());
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
