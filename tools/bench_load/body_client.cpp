// One large body through a proxy, up or down, with a length or in chunks, and whether all of it was right.
// Beside body_origin.
//
//   body_client --target 127.0.0.1:3000 --way down --framing chunked --bytes 1073741824
//
// Prints one line of JSON; status 1 where a byte was missing or wrong.
#include "body_load.h"

namespace {

using namespace bench;

int connect_to(const std::string& where) {
  sockaddr_in to = address_of(where);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  set(fd, IPPROTO_TCP, TCP_NODELAY);
  if (connect(fd, generic(to), sizeof to) != 0) fail("cannot connect to " + where);
  return fd;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options(argc, argv, " --target --way --framing --bytes ");
  prepare_process();
  const auto size = static_cast<std::uint64_t>(options.number("--bytes", 1 << 20));
  const bool down = options.text("--way", "down") == "down";
  const bool chunked = options.text("--framing", "length") == "chunked";
  const int fd = connect_to(options.text("--target", "127.0.0.1:3000"));
  const std::int64_t began = now_ns();
  const std::string bytes = std::to_string(size);
  Answer answer;
  Received received;
  std::string said;
  bool right = false;
  if (down) {
    send_all(fd, "GET /down/" + bytes + (chunked ? "/chunked" : "") + " HTTP/1.1\r\nHost: bench\r\n\r\n");
    right = receive(fd, answer, received) && received.right && received.bytes == size;
  } else {
    right = send_all(fd, "PUT /up HTTP/1.1\r\nHost: bench\r\nContent-Type: application/octet-stream\r\n" +
                             (chunked ? "Transfer-Encoding: chunked" : "Content-Length: " + bytes) +
                             "\r\n\r\n") &&
            send_body(fd, size, chunked);
    char data[4096];
    for (ssize_t got; answer.state() == Answer::State::head || answer.state() == Answer::State::body;) {
      got = recv(fd, data, sizeof data, 0);
      if (got <= 0) {
        answer.end();
        break;
      }
      answer.feed({data, static_cast<std::size_t>(got)}, [&](std::string_view part) { said += part; });
    }
    right = right && said == bytes + " right\n";
  }
  right = right && answer.status() == 200 && answer.state() == Answer::State::complete;
  std::printf("{\"bytes\":%s,\"right\":%s,\"status\":%d,\"seconds\":%.4f}\n", bytes.c_str(),
              right ? "true" : "false", answer.status(), static_cast<double>(now_ns() - began) / 1e9);
  return right ? 0 : 1;
}
