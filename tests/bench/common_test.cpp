// The load programs' reader of answers: what it calls complete is complete, however the bytes are cut.
#include "common.h"

#include <doctest/doctest.h>

namespace {

using bench::Answer;

struct Read {
  Answer::State state;
  std::string body;
  int status;
};

// Feeds `bytes` in two pieces, the first of `cut` bytes, and then the end of the connection if `closed`.
Read read(std::string_view bytes, std::size_t cut, bool closed = false) {
  Answer answer;
  std::string body;
  const auto take = [&](std::string_view part) { body += part; };
  answer.feed(bytes.substr(0, cut), take);
  answer.feed(bytes.substr(cut), take);
  if (closed && answer.state() != Answer::State::complete) answer.end();
  return {answer.state(), body, answer.status()};
}

constexpr std::string_view kChunked =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    "a\r\n0123456789\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n";

}  // namespace

TEST_CASE("a chunked answer is complete after its last chunk, wherever it is cut") {
  for (std::size_t cut = 0; cut <= kChunked.size(); ++cut) {
    const Read whole = read(kChunked, cut);
    CHECK(whole.state == Answer::State::complete);
    CHECK(whole.body == "01234567890123456789abcdef");
    CHECK(whole.status == 200);
  }
}

TEST_CASE("a chunked answer without its last chunk is broken") {
  for (std::size_t size = 0; size < kChunked.size(); ++size) {
    CHECK(read(kChunked.substr(0, size), size / 2, true).state == Answer::State::broken);
  }
}

TEST_CASE("an answer with a length, without one, and one that is refused with a reason") {
  constexpr std::string_view kLength =
      "HTTP/1.1 503 No\r\nX-Perigee-Reason: queue_full\r\ncontent-length: 4\r\n\r\nbusy";
  for (std::size_t cut = 0; cut <= kLength.size(); ++cut) {
    const Read whole = read(kLength, cut);
    CHECK(whole.state == Answer::State::complete);
    CHECK(whole.status == 503);
    CHECK(whole.body == "busy");
  }
  CHECK(read(kLength.substr(0, kLength.size() - 1), 9, true).state == Answer::State::broken);

  Answer answer;
  answer.feed(kLength, [](std::string_view) {});
  CHECK(answer.reason() == "queue_full");

  CHECK(read("HTTP/1.1 200 OK\r\n\r\nto the end", 5, true).state == Answer::State::complete);
  CHECK(read("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 5).state == Answer::State::complete);
  CHECK(read("nonsense\r\n\r\n", 3).state == Answer::State::broken);
  CHECK(read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 3).state ==
        Answer::State::broken);
}

TEST_CASE("events are whole, whatever the pieces") {
  constexpr std::string_view kEvents = "data: {\"n\":0}\n\ndata: {\"n\":1}\n\ndata: {\"n\":2}\n\nda";
  for (std::size_t cut = 0; cut <= kEvents.size(); ++cut) {
    std::string held;
    std::vector<std::string> events;
    const auto take = [&](std::string_view event) { events.emplace_back(event); };
    bench::split_events(held, kEvents.substr(0, cut), take);
    bench::split_events(held, kEvents.substr(cut), take);
    REQUIRE(events.size() == 3);
    CHECK(events[1] == "data: {\"n\":1}");
    CHECK(held == "da");
  }
}

TEST_CASE("quantiles are samples that were taken") {
  bench::Samples samples;
  for (int i = 100; i >= 1; --i)
    samples.add(i * bench::kMilli);
  CHECK(samples.quantile_ms(.5) == doctest::Approx(50));
  CHECK(samples.quantile_ms(.99) == doctest::Approx(99));
  CHECK(samples.quantile_ms(1) == doctest::Approx(100));
  CHECK(samples.mean_ms() == doctest::Approx(50.5));
  bench::Samples none;
  CHECK(none.quantile_ms(.99) == doctest::Approx(0));
}

TEST_CASE("what an answer says of coming back, and of its connection") {
  Answer told;
  told.feed("HTTP/1.1 503 No\r\nRetry-After: 12\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", [](std::string_view) {});
  CHECK(told.retry_after() == 12);
  CHECK(told.closes());
  Answer silent;
  silent.feed("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", [](std::string_view) {});
  CHECK(silent.retry_after() == -1);
  CHECK_FALSE(silent.closes());
}
