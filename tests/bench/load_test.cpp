// What the load programs send and check: WebSocket frames, and bodies whose every byte is known.
#include <doctest/doctest.h>

#include <thread>

#include "body_load.h"
#include "websocket.h"

namespace {

using namespace bench;

// Sends a body through a socket pair and reads it back as the body of an answer.
Received through(std::uint64_t size, bool chunked, bool& complete) {
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  std::thread sender([&] {
    send_body(ends[0], size, chunked);
    close(ends[0]);
  });
  Answer answer;
  Received received;
  answer.feed(
      "HTTP/1.1 200 OK\r\n" +
          (chunked ? std::string("Transfer-Encoding: chunked") : "Content-Length: " + std::to_string(size)) +
          "\r\n\r\n",
      [](std::string_view) {});
  complete = receive(ends[1], answer, received);
  sender.join();
  close(ends[1]);
  return received;
}

}  // namespace

TEST_CASE("a piece that is lost, doubled or changed is seen") {
  std::string body;
  for (std::size_t i = 0; i < 10 * kPeriod; ++i)
    body.push_back(byte_at(i));
  const std::string_view all = body;
  Received right;
  right(all.substr(0, 1000));
  right(all.substr(1000));
  CHECK(right.right);
  CHECK(right.bytes == all.size());
  Received lost;
  lost(all.substr(0, 1000));
  lost(all.substr(1001));
  CHECK_FALSE(lost.right);
  Received doubled;
  doubled(all.substr(0, 1000));
  doubled(all.substr(0, 1000));
  CHECK_FALSE(doubled.right);
}

TEST_CASE("bodies arrive whole, with a length and in chunks, whatever their size") {
  for (const std::uint64_t size :
       {std::uint64_t{1}, std::uint64_t{kChunk}, std::uint64_t{kPiece} * 2 + kChunk + 7}) {
    for (const bool chunked : {false, true}) {
      bool complete = false;
      const Received received = through(size, chunked, complete);
      CHECK(complete);
      CHECK(received.right);
      CHECK(received.bytes == size);
    }
  }
}

TEST_CASE("a frame is taken when it is whole, masked or not") {
  for (const bool masked : {false, true}) {
    const std::string all = frame(Opcode::text, "hello", masked) + frame(Opcode::close, "", masked);
    for (std::size_t cut = 0; cut <= all.size(); ++cut) {
      std::string held = all.substr(0, cut);
      std::vector<Frame> taken;
      while (const auto got = take_frame(held))
        taken.push_back(*got);
      held += all.substr(cut);
      while (const auto got = take_frame(held))
        taken.push_back(*got);
      REQUIRE(taken.size() == 2);
      CHECK(taken[0].text == "hello");
      CHECK(taken[0].opcode == Opcode::text);
      CHECK(taken[0].masked == masked);
      CHECK(taken[1].opcode == Opcode::close);
    }
  }
  // RFC 6455, section 5.7: "Hello", unmasked and masked.
  CHECK(frame(Opcode::text, "Hello", false) == "\x81\x05Hello");
  std::string masked = "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
  CHECK(take_frame(masked)->text == "Hello");
}

TEST_CASE("a frame that neither program sends is not taken for one") {
  std::string longer = "\x81\x7e\x01";
  const auto got = take_frame(longer);
  REQUIRE(got);
  CHECK(got->opcode != Opcode::text);
  CHECK(got->opcode != Opcode::close);
}
