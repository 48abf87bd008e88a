// What a Stream promises, of every kind of stream.
#include "perigee/net/stream.h"

#include <array>
#include <optional>

#include "tls_worlds.h"
#include "worlds.h"

namespace perigee::test {
namespace {

using coro::Task;

#define ALL_WORLDS \
  MemoryWorld, TcpWorld, UnixWorld, TlsWorld<MemoryWorld>, TlsWorld<TcpWorld>, TlsWorld<UnixWorld>

std::string pattern(std::size_t n) {
  std::string s(n, ' ');
  for (std::size_t i = 0; i < n; ++i)
    s[i] = static_cast<char>('a' + (i * 7 + i / 251) % 26);
  return s;
}

Task<void> write_all(net::Stream& s, const std::string& bytes, bool then_end) {
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t n = std::min<std::size_t>(10'007, bytes.size() - at);
    const auto written = s.write(net::Bytes(bytes.data() + at, n));
    if (!written) co_return;
    at += n;
    if (s.backlog() > net::kBacklogHigh) {
      const auto drained = co_await s.drained();
      if (!drained) co_return;
    }
  }
  if (then_end) s.shutdown();
}

template <typename W>
struct Body {
  static Task<void> both_ways(W& w) {
    auto p = co_await connected(w);
    const std::string bytes = pattern(3'000'000);
    coro::Scope writing(w.executor());
    writing.spawn(write_all(*p.a, bytes, true));
    writing.spawn(write_all(*p.b, bytes, true));
    ErrorKind end_a{};
    ErrorKind end_b{};
    std::string at_a;
    std::string at_b;
    struct Into {
      static Task<void> run(net::Stream& s, std::string& into, ErrorKind& end) {
        auto got = co_await read_all(s, end);
        into = std::move(got);
      }
    };
    writing.spawn(Into::run(*p.a, at_a, end_a));
    writing.spawn(Into::run(*p.b, at_b, end_b));
    co_await writing.join();
    CHECK(at_a == bytes);
    CHECK(at_b == bytes);
    CHECK(end_a == ErrorKind::eof);
    CHECK(end_b == ErrorKind::eof);
    CHECK(p.a->bytes_out() == bytes.size());
    CHECK(p.a->bytes_in() == bytes.size());
  }

  static Task<void> parts_in_order(W& w) {
    auto p = co_await connected(w);
    std::string expected;
    std::vector<std::string> texts;
    for (int i = 0; i < 40; ++i)
      texts.push_back("part " + std::to_string(i) + (i % 7 == 0 ? "" : ";"));
    texts[3].clear();
    std::vector<net::Bytes> parts;
    for (const auto& t : texts) {
      parts.emplace_back(t);
      expected += t;
    }
    CHECK(p.a->write(parts).has_value());  // more parts than go out in one system call
    CHECK(p.a->write(net::Bytes()).has_value());
    auto got = co_await read_bytes(*p.b, expected.size());
    CHECK(got == expected);
  }

  static Task<void> unread_first(W& w) {
    auto p = co_await connected(w);
    (void)p.a->write(net::Bytes("abcdef", 6));
    co_await settle(w);
    CHECK(p.b->has_pending());
    auto first = co_await p.b->read();
    REQUIRE(first.has_value());
    CHECK(std::string(first->data(), first->size()) == "abcdef");
    p.b->unread(first->subspan(4));
    (void)p.a->write(net::Bytes("gh", 2));
    co_await settle(w);
    auto rest = co_await read_bytes(*p.b, 4);
    CHECK(rest == "efgh");
    CHECK_FALSE(p.b->has_pending());
  }

  static Task<void> held_back(W& w) {
    auto p = co_await connected(w);
    const std::string bytes = pattern(20'000'000);
    coro::Scope writing(w.executor());
    writing.spawn(write_all(*p.a, bytes, true));
    co_await settle(w);
    co_await settle(w);
    // Nobody reads: little is kept here, the rest is with the system and the writer.
    CHECK(p.b->bytes_in() <= net::kPendingMax + 64UL * 1024);
    CHECK(p.a->backlog() > 0);
    CHECK(p.a->backlog() <= net::kBacklogHigh + 11'000);
    CHECK(writing.live() == 1);
    ErrorKind end{};
    auto got = co_await read_all(*p.b, end);
    CHECK(got == bytes);
    CHECK(end == ErrorKind::eof);
    co_await writing.join();
    CHECK(p.a->backlog() == 0);
  }

  // Who takes a little and gives back the rest, again and again, holds the writer back as well.
  static Task<void> held_back_by_small_bites(W& w) {
    auto p = co_await connected(w);
    coro::Scope writing(w.executor());
    const std::string bytes = pattern(20'000'000);
    writing.spawn(write_all(*p.a, bytes, false));
    co_await settle(w);
    for (int i = 0; i < 50; ++i) {
      auto got = co_await p.b->read();
      REQUIRE(got.has_value());
      p.b->unread(got->subspan(1));
      co_await settle(w);
    }
    CHECK(p.b->bytes_in() <= 2 * (net::kPendingMax + 64UL * 1024));
    p.b.reset();
    co_await writing.join();
  }

  static Task<void> drained_to_the_last_byte(W& w) {
    auto p = co_await connected(w);
    (void)p.a->write(net::Bytes(pattern(20'000'000)));
    CHECK(p.a->backlog() > 0);
    coro::Scope reading(w.executor());
    struct Reading {
      static Task<void> run(net::Stream& s) {
        ErrorKind end{};
        (void)co_await read_all(s, end);
      }
    };
    reading.spawn(Reading::run(*p.b));
    const auto out = co_await p.a->drained(0);
    CHECK(out.has_value());
    CHECK(p.a->backlog() == 0);
    p.a.reset();
    co_await reading.join();
    CHECK(p.b->bytes_in() == 20'000'000);
  }

  static Task<void> drained_cancelled_and_broken(W& w) {
    auto p = co_await connected(w);
    (void)p.a->write(net::Bytes(pattern(20'000'000)));
    CHECK(p.a->backlog() > 0);
    coro::CancelSource stop;
    struct Waiting {
      static Task<void> run(net::Stream& s, std::optional<Error>& error) {
        const auto r = co_await s.drained();
        if (!r) error = r.error();
      }
      static Task<void> outer(coro::CancelSource& under_, net::Stream& s, std::optional<Error>& error) {
        co_await coro::under(under_, run(s, error));
      }
    };
    std::optional<Error> cancelled;
    std::optional<Error> broken;
    coro::Scope scope(w.executor());
    scope.spawn(Waiting::outer(stop, *p.a, cancelled));
    stop.cancel(kStop);
    co_await scope.join();
    REQUIRE(cancelled.has_value());
    CHECK(cancelled->kind == ErrorKind::cancelled);
    scope.spawn(Waiting::run(*p.a, broken));
    CHECK(scope.live() == 1);
    p.b->reset_on_close();
    p.b.reset();
    co_await scope.join();
    REQUIRE(broken.has_value());
    CHECK(broken->kind == ErrorKind::reset);
  }

  // The peer's end in good order is not the last that may be heard of it.
  static Task<void> broken_after_its_end(W& w) {
    auto p = co_await connected(w);
    p.b->shutdown();
    ErrorKind end{};
    (void)co_await read_all(*p.a, end);
    CHECK(end == ErrorKind::eof);
    (void)p.a->write(net::Bytes(pattern(20'000'000)));
    CHECK(p.a->backlog() > 0);
    struct Waiting {
      static Task<void> run(net::Stream& s, std::optional<Error>& error) {
        const auto r = co_await s.drained();
        if (!r) error = r.error();
      }
    };
    std::optional<Error> broken;
    coro::Scope scope(w.executor());
    scope.spawn(Waiting::run(*p.a, broken));
    CHECK(scope.live() == 1);
    p.b->reset_on_close();
    p.b.reset();
    co_await scope.join();
    REQUIRE(broken.has_value());
    CHECK(broken->kind == ErrorKind::reset);
    // Later comers too; and reading still tells of the end as it was.
    scope.spawn(Waiting::run(*p.a, broken));
    co_await scope.join();
    CHECK(broken->kind == ErrorKind::reset);
    (void)co_await read_all(*p.a, end);
    CHECK(end == ErrorKind::eof);
  }

  static Task<void> half_close(W& w) {
    auto p = co_await connected(w);
    (void)p.a->write(net::Bytes("question", 8));
    p.a->shutdown();
    p.a->shutdown();  // again: nothing
    CHECK_FALSE(p.a->write(net::Bytes("x", 1)).has_value());
    ErrorKind end{};
    auto got = co_await read_all(*p.b, end);
    CHECK(got == "question");
    CHECK(end == ErrorKind::eof);
    CHECK(p.b->ended());
    (void)p.b->write(net::Bytes("answer", 6));
    p.b->shutdown();
    auto answer = co_await read_all(*p.a, end);
    CHECK(answer == "answer");
    auto again = co_await p.a->read();
    REQUIRE_FALSE(again.has_value());
    CHECK(again.error().kind == ErrorKind::eof);
  }

  static Task<void> closed_is_eof(W& w) {
    auto p = co_await connected(w);
    (void)p.a->write(net::Bytes("last words", 10));
    p.a.reset();
    ErrorKind end{};
    auto got = co_await read_all(*p.b, end);
    CHECK(got == "last words");
    CHECK(end == ErrorKind::eof);
  }

  static Task<void> reset(W& w) {
    auto p = co_await connected(w);
    p.a->reset_on_close();
    p.a.reset();
    ErrorKind end{};
    auto got = co_await read_all(*p.b, end);
    CHECK(got.empty());
    CHECK(end == (W::kResets ? ErrorKind::reset : ErrorKind::eof));
  }

  // Writing to who has gone ends in an error of the stream sooner or later, and nothing worse.
  static Task<void> write_to_nobody(W& w) {
    auto p = co_await connected(w);
    p.b.reset();
    co_await settle(w);
    bool failed = false;
    for (int i = 0; i < 10 && !failed; ++i) {
      failed = !p.a->write(net::Bytes("x", 1)).has_value();
      co_await settle(w);
    }
    CHECK(failed);
  }

  static Task<void> watch(W& w) {
    for (const bool hard : {false, true}) {
      auto p = co_await connected(w);
      coro::CancelSource gone;
      p.a->watch_end(&gone, Side::client);
      (void)p.b->write(net::Bytes("unread", 6));
      co_await settle(w);
      CHECK_FALSE(gone.cancelled());
      if (hard) p.b->reset_on_close();
      p.b.reset();
      co_await settle(w);
      REQUIRE(gone.cancelled());
      CHECK(gone.reason().side == Side::client);
      CHECK(gone.reason().kind == (hard && W::kResets ? ErrorKind::reset : ErrorKind::eof));
      // Seen before it was asked for: at once. What came before it can still be read.
      coro::CancelSource late;
      p.a->watch_end(&late, Side::upstream);
      CHECK(late.cancelled());
      CHECK(late.reason().side == Side::upstream);
      auto left = co_await read_bytes(*p.a, 6);
      CHECK(left == "unread");
    }
    auto p = co_await connected(w);
    coro::CancelSource nobody;
    p.a->watch_end(&nobody, Side::client);
    p.a->watch_end(nullptr, Side::client);
    p.b.reset();
    co_await settle(w);
    CHECK_FALSE(nobody.cancelled());
    CHECK(p.a->ended());
  }

  static Task<void> reader_hears_it_not_the_watch(W& w) {
    auto p = co_await connected(w);
    coro::CancelSource watch_source;
    p.a->watch_end(&watch_source, Side::client);
    struct Read {
      static Task<void> run(net::Stream& s, ErrorKind& end) {
        auto r = co_await s.read();
        if (!r) end = r.error().kind;
      }
    };
    ErrorKind end{};
    coro::Scope scope(w.executor());
    scope.spawn(Read::run(*p.a, end));
    p.b.reset();
    co_await scope.join();
    CHECK(end == ErrorKind::eof);
    CHECK_FALSE(watch_source.cancelled());
  }

  static Task<void> peer_left_behind_bytes(W& w) {
    auto p = co_await connected(w);
    CHECK_FALSE(p.a->peer_has_left());
    (void)p.b->write(net::Bytes(pattern(100'000)));
    co_await settle(w);
    CHECK_FALSE(p.a->peer_has_left());
    p.b->shutdown();
    co_await settle(w);
    CHECK_FALSE(p.a->ended());  // hidden behind what nobody reads
    CHECK(p.a->peer_has_left());
  }

  static Task<void> read_cancelled_loses_nothing(W& w) {
    auto p = co_await connected(w);
    struct Read {
      static Task<Result<std::string>> run(net::Stream& s) {
        auto r = co_await s.read();
        CO_TRY(const net::Bytes bytes, std::move(r));
        co_return std::string(bytes.data(), bytes.size());
      }
    };
    auto timed = co_await coro::with_timeout(5ms, kLate, Read::run(*p.a));
    REQUIRE_FALSE(timed.has_value());
    CHECK(timed.error().kind == ErrorKind::timeout);
    (void)p.b->write(net::Bytes("later", 5));
    co_await settle(w);
    auto got = co_await coro::with_timeout(1s, kLate, Read::run(*p.a));
    REQUIRE(got.has_value());
    CHECK(*got == "later");
  }

  // A reader may close its own stream, and the other's, from where it was woken.
  static Task<void> close_inside_a_read(W& w) {
    for (const bool both : {false, true}) {
      auto p = co_await connected(w);
      struct Closing {
        static Task<void> run(net::StreamPtr own, net::StreamPtr& other, bool too) {
          auto r = co_await own->read();
          CHECK(r.has_value());
          own.reset();
          if (too) other.reset();
        }
      };
      coro::Scope scope(w.executor());
      scope.spawn(Closing::run(std::move(p.b), p.a, both));
      (void)p.a->write(net::Bytes("x", 1));
      co_await scope.join();
      if (!both) {
        ErrorKind end{};
        (void)co_await read_all(*p.a, end);
        CHECK(end == ErrorKind::eof);
      }
    }
  }

  static Task<void> close_with_backlog(W& w) {
    auto p = co_await connected(w);
    (void)p.a->write(net::Bytes(pattern(5'000'000)));
    CHECK(p.a->backlog() > 0);
    p.a.reset();
    ErrorKind end{};
    auto got = co_await read_all(*p.b, end);
    CHECK(got.size() < 5'000'000);  // what the system had not taken is lost
  }

  static Task<void> shutdown_flushes_the_backlog(W& w) {
    auto p = co_await connected(w);
    const std::string bytes = pattern(5'000'000);
    (void)p.a->write(net::Bytes(bytes));
    p.a->shutdown();
    ErrorKind end{};
    auto got = co_await read_all(*p.b, end);
    CHECK(got == bytes);
    CHECK(end == ErrorKind::eof);
  }
};

#define STREAM_TEST(name, body)                        \
  TEST_CASE_TEMPLATE("stream: " name, W, ALL_WORLDS) { \
    W world;                                           \
    world.run(Body<W>::body(world));                   \
  }

STREAM_TEST("three megabytes both ways at once, in order, with back-pressure", both_ways)
STREAM_TEST("many parts in one write, in order, empty ones too", parts_in_order)
STREAM_TEST("what was given back is read first", unread_first)
STREAM_TEST("a reader that does not come holds the writer back", held_back)
STREAM_TEST("a reader that bites and gives back holds the writer back", held_back_by_small_bites)
STREAM_TEST("waiting until all is out", drained_to_the_last_byte)
STREAM_TEST("waiting for the backlog, cancelled and broken off", drained_cancelled_and_broken)
STREAM_TEST("a connection that breaks after its peer's end", broken_after_its_end)
STREAM_TEST("each side ends for itself", half_close)
STREAM_TEST("closing is an orderly end", closed_is_eof)
STREAM_TEST("a hard close is a reset", reset)
STREAM_TEST("writing to a peer that has gone", write_to_nobody)
STREAM_TEST("the end is noticed while nobody reads", watch)
STREAM_TEST("a waiting reader hears of the end, and then the watch does not", reader_hears_it_not_the_watch)
STREAM_TEST("an end behind unread bytes is seen by asking", peer_left_behind_bytes)
STREAM_TEST("a cancelled read loses nothing", read_cancelled_loses_nothing)
STREAM_TEST("closed from inside a read", close_inside_a_read)
STREAM_TEST("closing drops the backlog", close_with_backlog)
STREAM_TEST("shutting down does not", shutdown_flushes_the_backlog)

}  // namespace
}  // namespace perigee::test
