// A Stream over libuv. Reading stays armed for the connection's life; writing tries first and queues what is
// left; the object dies in its close callback and nowhere else.
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "perigee/net/loop.h"
#include "perigee/net/socket.h"

namespace perigee::net {
namespace {

// Parts of one write that are passed on without being joined first.
constexpr std::size_t kPartsMax = 16;

Error error_of(int status) {
  const int code = -status;
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

class SocketStream final : public Stream {
 public:
  explicit SocketStream(Loop& loop, bool is_unix) : is_unix_(is_unix) {
    if (is_unix_) {
      uv_pipe_init(loop.uv(), &handle_.pipe, 0);
    } else {
      uv_tcp_init(loop.uv(), &handle_.tcp);
    }
    handle_.any.data = this;
  }

  Result<void> open(int fd) {
    const int rc = is_unix_ ? uv_pipe_open(&handle_.pipe, fd) : uv_tcp_open(&handle_.tcp, fd);
    if (rc != 0) {
      ::close(fd);
      return std::unexpected(error_of(rc));
    }
    return start();
  }
  Result<void> start() {
    if (!is_unix_) uv_tcp_nodelay(&handle_.tcp, 1);
    if (const int rc = uv_read_start(&handle_.stream, &lend, &on_read); rc != 0) return std::unexpected(error_of(rc));
    return {};
  }

  // The connecting half, used by ConnectWait below.
  int begin_connect(const Endpoint& to, uv_connect_t* request, uv_connect_cb done) {
    if (!is_unix_) return uv_tcp_connect(request, &handle_.tcp, to.raw(), done);
    uv_pipe_connect(request, &handle_.pipe, reinterpret_cast<const sockaddr_un*>(to.raw())->sun_path, done);
    return 0;
  }

  [[nodiscard]] std::size_t backlog() const override { return uv_stream_get_write_queue_size(&handle_.stream); }

  [[nodiscard]] bool peer_has_left() const override {
    uv_os_fd_t fd = -1;
    if (ended() || uv_fileno(&handle_.any, &fd) != 0) return ended();
    pollfd asked{fd, POLLRDHUP, 0};
    return ::poll(&asked, 1, 0) == 1;
  }

  void shutdown() override {
    if (shut_) return;
    shut_ = true;
    auto* request = new uv_shutdown_t;
    if (uv_shutdown(request, &handle_.stream, [](uv_shutdown_t* r, int) { delete r; }) != 0) delete request;
  }
  void reset_on_close() override { reset_ = true; }

 private:
  union Handle {
    uv_handle_t any;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
  };
  // What the peer did not take at once.
  struct Rest {
    uv_write_t request{};
    std::string bytes;
  };

  Result<void> send(std::span<const Bytes> parts, std::size_t total) override {
    if (shut_) return fail(ErrorKind::reset, "written after our end");
    std::size_t taken = 0;
    if (parts.size() <= kPartsMax && backlog() == 0) {
      std::array<uv_buf_t, kPartsMax> buffers;
      for (std::size_t i = 0; i < parts.size(); ++i) {
        buffers[i] = uv_buf_init(const_cast<char*>(parts[i].data()), static_cast<unsigned>(parts[i].size()));
      }
      const int rc = uv_try_write(&handle_.stream, buffers.data(), static_cast<unsigned>(parts.size()));
      if (rc >= 0) {
        taken = static_cast<std::size_t>(rc);
        if (taken == total) return {};
      } else if (rc != UV_EAGAIN) {
        return std::unexpected(error_of(rc));
      }
    }
    return queue(parts, taken, total);
  }

  Result<void> queue(std::span<const Bytes> parts, std::size_t skip, std::size_t total) {
    auto rest = std::make_unique<Rest>();
    rest->bytes.reserve(total - skip);
    for (Bytes part : parts) {
      const std::size_t gone = std::min(skip, part.size());
      skip -= gone;
      rest->bytes.append(part.data() + gone, part.size() - gone);
    }
    rest->request.data = rest.get();
    const uv_buf_t buffer = uv_buf_init(rest->bytes.data(), static_cast<unsigned>(rest->bytes.size()));
    const int rc = uv_write(&rest->request, &handle_.stream, &buffer, 1, &on_written);
    if (rc != 0) return std::unexpected(error_of(rc));
    rest.release();  // freed by on_written
    return {};
  }

  static void on_written(uv_write_t* request, int status) {
    const std::unique_ptr<Rest> rest(static_cast<Rest*>(request->data));
    auto* self = static_cast<SocketStream*>(request->handle->data);
    Loop::of(request->handle->loop).enter();
    if (self->closing_) return;
    if (status < 0) {
      self->received_end(error_of(status));
    } else {
      self->writable();
    }
  }

  void pause_reading(bool pause) override {
    if (pause) {
      uv_read_stop(&handle_.stream);
    } else if (uv_read_start(&handle_.stream, &lend, &on_read) != 0) {
      received_end(error_of(UV_ECONNRESET));
    }
  }

  static void lend(uv_handle_t* handle, std::size_t, uv_buf_t* buffer) {
    const auto memory = Loop::of(handle->loop).read_buffer();
    *buffer = uv_buf_init(memory.data(), static_cast<unsigned>(memory.size()));
  }
  static void on_read(uv_stream_t* handle, ssize_t got, const uv_buf_t* buffer) {
    if (got == 0) return;  // nothing there after all
    auto* self = static_cast<SocketStream*>(handle->data);
    Loop::of(handle->loop).enter();
    if (got > 0) {
      self->received({buffer->base, static_cast<std::size_t>(got)});
      return;
    }
    uv_read_stop(handle);
    if (got == UV_EOF) {
      self->received_end(Error{ErrorKind::eof, Side::internal, Sent::maybe, 0, "the peer ended the connection"});
    } else {
      self->received_end(error_of(static_cast<int>(got)));
    }
  }

  void close() override {
    closing_ = true;
    const auto closed = [](uv_handle_t* handle) { delete static_cast<SocketStream*>(handle->data); };
    if (reset_ && !is_unix_ && uv_tcp_close_reset(&handle_.tcp, closed) == 0) return;
    uv_close(&handle_.any, closed);
  }

  Handle handle_{};
  bool is_unix_;
  bool shut_ = false;
  bool reset_ = false;
  bool closing_ = false;
};

// Waits for one connect. The request is on the heap: libuv calls back even after the handle was closed.
class ConnectWait : public coro::Wait {
 public:
  ConnectWait(SocketStream& stream, const Endpoint& to) : Wait(&on_cancel) {
    auto request = std::make_unique<Request>();
    request->wait = this;
    request->uv.data = request.get();
    const int rc = stream.begin_connect(to, &request->uv, &done);
    if (rc != 0) {
      result_ = std::unexpected(error_of(rc));
    } else {
      request_ = request.release();
    }
  }
  bool await_ready() const noexcept { return request_ == nullptr; }
  template <typename P>
  bool await_suspend(std::coroutine_handle<P> h) {
    return suspend(h);
  }
  Result<void> await_resume() const { return result_; }

 private:
  struct Request {
    uv_connect_t uv{};
    ConnectWait* wait = nullptr;  // null after a cancel
  };
  static void done(uv_connect_t* uv, int status) {
    const std::unique_ptr<Request> request(static_cast<Request*>(uv->data));
    Loop::of(uv->handle->loop).enter();
    if (request->wait == nullptr) return;
    request->wait->request_ = nullptr;
    if (status != 0) request->wait->result_ = std::unexpected(error_of(status));
    request->wait->wake();
  }
  static void on_cancel(Wait& w, const Error& reason) {
    auto& self = static_cast<ConnectWait&>(w);
    if (self.request_ != nullptr) self.request_->wait = nullptr;
    self.request_ = nullptr;
    self.result_ = std::unexpected(reason);
  }
  Request* request_ = nullptr;
  Result<void> result_;
};

}  // namespace

Result<StreamPtr> adopt(Loop& loop, int fd, bool is_unix) {
  auto* socket = new SocketStream(loop, is_unix);
  StreamPtr stream(socket);
  TRY_VOID(socket->open(fd));
  return stream;
}

coro::Task<Result<StreamPtr>> SocketConnector::connect(const Endpoint& to) {
  auto* socket = new SocketStream(loop_, to.is_unix());
  StreamPtr stream(socket);
  ConnectWait wait(*socket, to);
  auto connected = co_await wait;
  if (!connected) {
    Error error = connected.error();
    error.sent = Sent::nothing;
    co_return std::unexpected(error);
  }
  CO_TRY_VOID(socket->start());
  co_return stream;
}

}  // namespace perigee::net
