// A Stream over a polled descriptor: libuv says when, recv() and send() do it. Reading stays armed for the
// connection's life; writing tries first and queues what is left; the object dies in its close callback and
// nowhere else.
//
// Not libuv's own streams: those go through read() and write(), whose way to a socket inside the kernel is
// longer by a tenth of a microsecond a call, and they take a request object and a callback for what is
// nearly always one call that succeeds.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "perigee/net/loop.h"
#include "perigee/net/socket.h"

namespace perigee::net {
namespace {

// Parts of one write that are passed on without being joined first.
constexpr std::size_t kPartsMax = 16;

// Reads of one wake-up, so that one fast sender does not hold up the loop.
constexpr int kReadsMax = 8;
// What was sent of a queue is dropped from its front once it is this much.
constexpr std::size_t kSentMax = 64UL * 1024;

// `code`: as in errno.
Error error_of(int code) {
  switch (code) {
    case ECONNRESET:
    case EPIPE:
    case ECONNABORTED:
      return Error{ErrorKind::reset, Side::internal, Sent::maybe, code, "the connection was reset"};
    case ECONNREFUSED:
    case ENOENT:
    case EHOSTUNREACH:
    case ENETUNREACH:
      return Error{ErrorKind::refused, Side::internal, Sent::nothing, code, "the connection was refused"};
    case ETIMEDOUT:
      return Error{ErrorKind::timeout, Side::internal, Sent::maybe, code, "the peer does not answer"};
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case EADDRNOTAVAIL:
      return Error{ErrorKind::exhausted, Side::internal, Sent::nothing, code, "out of descriptors, ports or memory"};
    default: return Error{ErrorKind::io, Side::internal, Sent::maybe, code, "the system reports an error"};
  }
}

class ConnectWait;

class SocketStream final : public Stream {
 public:
  SocketStream(Loop& loop, bool is_unix) : loop_(loop), is_unix_(is_unix) { poll_.data = this; }

  // Takes over a descriptor that is connected, or is being connected.
  Result<void> take(int fd) {
    fd_ = fd;
    if (const int rc = uv_poll_init(loop_.uv(), &poll_, fd); rc != 0) {
      ::close(std::exchange(fd_, -1));
      return std::unexpected(error_of(-rc));
    }
    if (!is_unix_) {
      const int on = 1;
      setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    return {};
  }
  void start() { want(UV_READABLE); }

  [[nodiscard]] std::size_t backlog() const override { return queue_ == nullptr ? 0 : queue_->left(); }

  [[nodiscard]] bool peer_has_left() const override {
    if (ended()) return true;
    pollfd asked{fd_, POLLRDHUP, 0};
    return ::poll(&asked, 1, 0) == 1;
  }

  void shutdown() override {
    if (shut_) return;
    shut_ = true;
    if (queue_ == nullptr) ::shutdown(fd_, SHUT_WR);
  }
  void reset_on_close() override { reset_ = true; }

 private:
  friend class ConnectWait;
  // What the peer did not take at once.
  struct Queue {
    std::string bytes;
    std::size_t sent = 0;
    [[nodiscard]] std::size_t left() const { return bytes.size() - sent; }
  };

  // --- writing
  // Bytes taken by the system, or -1.
  ssize_t try_send(std::span<const Bytes> parts) {
    ssize_t taken = 0;
    do {
      if (parts.size() == 1) {
        taken = ::send(fd_, parts[0].data(), parts[0].size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        continue;
      }
      std::array<iovec, kPartsMax> pieces;
      msghdr message{};
      message.msg_iov = pieces.data();
      for (const Bytes& part : parts) pieces[message.msg_iovlen++] = {const_cast<char*>(part.data()), part.size()};
      taken = ::sendmsg(fd_, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (taken < 0 && errno == EINTR);
    return taken;
  }

  Result<void> send(std::span<const Bytes> parts, std::size_t total) override {
    if (shut_) return fail(ErrorKind::reset, "written after our end");
    std::size_t taken = 0;
    if (parts.size() <= kPartsMax && queue_ == nullptr) {
      const ssize_t sent = try_send(parts);
      if (sent >= 0) {
        taken = static_cast<std::size_t>(sent);
        if (taken == total) return {};
      } else if (errno != EAGAIN && errno != ENOBUFS) {
        return std::unexpected(error_of(errno));
      }
    }
    keep(parts, taken, total);
    return {};
  }

  void keep(std::span<const Bytes> parts, std::size_t skip, std::size_t total) {
    if (queue_ == nullptr) {
      queue_ = std::make_unique<Queue>();
      want(wanted_ | UV_WRITABLE);
    }
    queue_->bytes.reserve(queue_->bytes.size() + total - skip);
    for (const Bytes part : parts) {
      const std::size_t gone = std::min(skip, part.size());
      skip -= gone;
      queue_->bytes.append(part.data() + gone, part.size() - gone);
    }
  }

  void flush() {
    const std::array<Bytes, 1> rest{Bytes(queue_->bytes).subspan(queue_->sent)};
    const ssize_t taken = try_send(rest);
    if (taken < 0) {
      if (errno == EAGAIN || errno == ENOBUFS) return;
      const int code = errno;
      want(wanted_ & ~UV_WRITABLE);
      received_end(error_of(code));
      return;
    }
    queue_->sent += static_cast<std::size_t>(taken);
    if (queue_->left() == 0) {
      queue_.reset();
      want(wanted_ & ~UV_WRITABLE);
      if (shut_) ::shutdown(fd_, SHUT_WR);
    } else if (queue_->sent >= kSentMax) {
      queue_->bytes.erase(0, queue_->sent);
      queue_->sent = 0;
    }
    writable();
  }

  // --- reading
  void pause_reading(bool pause) override { want(pause ? wanted_ & ~UV_READABLE : wanted_ | UV_READABLE); }

  void read_some() {
    const auto memory = loop_.read_buffer();
    for (int i = 0; i < kReadsMax && (wanted_ & UV_READABLE) != 0 && !closing_; ++i) {
      const ssize_t got = ::recv(fd_, memory.data(), memory.size(), MSG_DONTWAIT);
      if (got > 0) {
        received({memory.data(), static_cast<std::size_t>(got)});
        if (static_cast<std::size_t>(got) < memory.size()) return;
        continue;
      }
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && errno == EAGAIN) return;
      const Error end = got == 0 ? Error{ErrorKind::eof, Side::internal, Sent::maybe, 0, "the peer ended the connection"}
                                 : error_of(errno);
      want(wanted_ & ~UV_READABLE);
      received_end(end);
      return;
    }
  }

  // --- the descriptor
  void want(int events) {
    if (events == wanted_ || closing_) return;
    wanted_ = events;
    if (events == 0) {
      uv_poll_stop(&poll_);
    } else {
      uv_poll_start(&poll_, events, &on_ready);
    }
  }

  static void on_ready(uv_poll_t* poll, int status, int events) {
    auto* self = static_cast<SocketStream*>(poll->data);
    self->loop_.enter();
    if (self->connecting_ != nullptr) {
      self->connected();
      return;
    }
    // On an error libuv has stopped polling. What had arrived before is still there, and comes first.
    if (status != 0) {
      self->broken();
      return;
    }
    if ((events & UV_READABLE) != 0) self->read_some();
    if ((events & UV_WRITABLE) != 0 && self->queue_ != nullptr && !self->closing_) self->flush();
  }

  void broken() {
    const int before = std::exchange(wanted_, 0);
    if ((before & UV_READABLE) == 0) {
      received_end(error_of(pending_error()));
      return;
    }
    wanted_ = UV_READABLE;
    read_some();
    if (closing_) return;
    if (ended()) {  // perhaps in good order, and broken behind that
      received_end(error_of(pending_error()));
      return;
    }
    // More to read, or held back: polling goes on, and says again what is wrong.
    const int next = wanted_ == 0 ? before & ~UV_READABLE : before;
    wanted_ = 0;
    want(next);
  }
  [[nodiscard]] int pending_error() const {
    int code = 0;
    socklen_t size = sizeof code;
    getsockopt(fd_, SOL_SOCKET, SO_ERROR, &code, &size);
    return code != 0 ? code : ECONNRESET;
  }

  void connected();

  void close() override {
    closing_ = true;
    if (fd_ < 0) {
      delete this;
      return;
    }
    if (reset_ && !is_unix_) {
      const linger hard{1, 0};
      setsockopt(fd_, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    }
    uv_close(reinterpret_cast<uv_handle_t*>(&poll_),
             [](uv_handle_t* handle) { delete static_cast<SocketStream*>(handle->data); });
    ::close(fd_);
  }

  Loop& loop_;
  uv_poll_t poll_{};
  std::unique_ptr<Queue> queue_;
  ConnectWait* connecting_ = nullptr;
  int fd_ = -1;
  int wanted_ = 0;  // UV_READABLE, UV_WRITABLE: what is polled for
  bool is_unix_;
  bool shut_ = false;
  bool reset_ = false;
  bool closing_ = false;
};

// Waits for one connect.
class ConnectWait : public coro::Wait {
 public:
  explicit ConnectWait(SocketStream& stream) : Wait(&on_cancel), stream_(stream) {}

  // False when the system said no at once.
  Result<void> begin(const Endpoint& to) {
    const int fd = ::socket(to.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return std::unexpected(error_of(errno));
    TRY_VOID(stream_.take(fd));
    if (::connect(fd, to.raw(), to.length) == 0) return {};
    // A Unix socket whose queue is full says EAGAIN and means: not now.
    if (errno != EINPROGRESS) return std::unexpected(error_of(errno == EAGAIN ? ECONNREFUSED : errno));
    stream_.connecting_ = this;
    stream_.want(UV_WRITABLE);
    return {};
  }
  bool await_ready() const noexcept { return stream_.connecting_ == nullptr; }
  template <typename P>
  bool await_suspend(std::coroutine_handle<P> h) {
    return suspend(h);
  }
  Result<void> await_resume() const { return result_; }

  void decided(int code) {
    if (code != 0) result_ = std::unexpected(error_of(code));
    wake();
  }

 private:
  static void on_cancel(Wait& w, const Error& reason) {
    auto& self = static_cast<ConnectWait&>(w);
    self.stream_.connecting_ = nullptr;
    self.result_ = std::unexpected(reason);
  }
  SocketStream& stream_;
  Result<void> result_;
};

void SocketStream::connected() {
  int code = 0;
  socklen_t size = sizeof code;
  getsockopt(fd_, SOL_SOCKET, SO_ERROR, &code, &size);
  wanted_ = UV_WRITABLE;  // libuv may have stopped it
  want(0);
  std::exchange(connecting_, nullptr)->decided(code);
}

}  // namespace

Result<StreamPtr> adopt(Loop& loop, int fd, bool is_unix) {
  auto* socket = new SocketStream(loop, is_unix);
  StreamPtr stream(socket);
  TRY_VOID(socket->take(fd));
  socket->start();
  return stream;
}

coro::Task<Result<StreamPtr>> SocketConnector::connect(const Endpoint& to) {
  auto* socket = new SocketStream(loop_, to.is_unix());
  StreamPtr stream(socket);
  ConnectWait wait(*socket);
  auto connected = wait.begin(to);
  if (connected) connected = co_await wait;
  if (!connected) {
    Error error = connected.error();
    error.sent = Sent::nothing;
    co_return std::unexpected(error);
  }
  socket->start();
  co_return stream;
}

}  // namespace perigee::net
