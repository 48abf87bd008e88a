// An origin of large bodies: `GET /down/BYTES` and `GET /down/BYTES/chunked` are answered by so many bytes, a
// request with a body by how many came and whether each was the right one; any other request by a short 200,
// which satisfies a proxy's health check. A thread for each connection, blocking, big buffers.
//
//   body_origin --listen 127.0.0.1:9000
//
// Runs until a signal ends it.
#include <poll.h>

#include <thread>

#include "body_load.h"

namespace {

using namespace bench;

bool answer(int fd, const std::string& text) {
  return send_all(fd, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " +
                          std::to_string(text.size()) + "\r\n\r\n" + text);
}

// The framing of a request's body is that of an answer's: its fields make the head of one, and the reader of
// answers does the rest.
bool take_upload(int fd, const std::string& fields, std::string_view early) {
  Answer body;
  Received received;
  body.feed("HTTP/1.1 200 OK\r\n" + fields + "\r\n\r\n", [](std::string_view) {});
  if (body.state() == Answer::State::body) body.feed(early, [&](std::string_view part) { received(part); });
  if (!receive(fd, body, received)) return false;
  return answer(fd, std::to_string(received.bytes) + (received.right ? " right\n" : " wrong\n"));
}

void serve(int fd) {
  set(fd, IPPROTO_TCP, TCP_NODELAY);
  std::string held;
  for (bool go_on = true; go_on;) {
    std::size_t end;
    while ((end = held.find("\r\n\r\n")) == std::string::npos && held.size() < 65536) {
      char data[16384];
      const ssize_t size = recv(fd, data, sizeof data, 0);
      if (size <= 0) break;
      held.append(data, static_cast<std::size_t>(size));
    }
    if (end == std::string::npos) break;
    const std::string head = held.substr(0, end);
    const std::string early = held.substr(end + 4);
    held = {};
    constexpr std::string_view kDown = "GET /down/";
    if (head.starts_with(kDown)) {
      const std::uint64_t size = std::strtoull(head.c_str() + kDown.size(), nullptr, 10);
      const bool chunked = head.find("/chunked ") < head.find("\r\n");
      go_on = send_all(fd, "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n" +
                               (chunked ? "Transfer-Encoding: chunked"
                                        : "Content-Length: " + std::to_string(size)) +
                               "\r\n\r\n") &&
              send_body(fd, size, chunked);
    } else if (head.starts_with("PUT ") || head.starts_with("POST ")) {
      go_on = take_upload(fd, head.substr(head.find("\r\n") + 2), early);
    } else {
      go_on = answer(fd, "ok\n");
    }
  }
  close(fd);
}

}  // namespace

int main(int argc, char** argv) {
  const Options options(argc, argv, " --listen ");
  prepare_process();
  const std::string where = options.text("--listen", "127.0.0.1:9000");
  const int listener = listen_on(where);
  std::printf("body_origin ready %s\n", where.c_str());
  for (;;) {
    pollfd ready{listener, POLLIN, 0};
    poll(&ready, 1, -1);
    const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd >= 0) std::thread(serve, fd).detach();
  }
}
