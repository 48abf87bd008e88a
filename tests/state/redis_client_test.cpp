// The client against a Redis of the test: a memory connection whose far end reads commands and says what it is told to.
#include "perigee/state/redis_client.h"

#include <map>

#include <doctest/doctest.h>

#include "perigee/coro/manual_loop.h"
#include "perigee/net/memory_stream.h"
#include "perigee/state/shared_rates.h"

using namespace perigee;
using namespace std::chrono_literals;
using coro::Task;

namespace {

const net::Endpoint kPlace = [] {
  config::Address address;
  address.host = "127.0.0.1";
  address.port = 6379;
  return *net::to_endpoint(address);
}();

// Answers each command with what `answer` makes of it; nothing while `silent`.
struct FakeRedis {
  explicit FakeRedis(coro::ManualLoop& l) : loop(l), network(l.executor()), scope(l.executor()) {
    auto& host = network.host(kPlace);
    host.answer = net::MemoryNetwork::Answer::accept;
    host.on_accept = [this](net::StreamPtr stream, net::MemoryLink link) {
      ++connections;
      links.push_back(std::move(link));
      scope.spawn(serve(std::move(stream)));
    };
  }
  ~FakeRedis() {
    scope.cancel(Error{});
    loop.run();
  }

  Task<void> serve(net::StreamPtr stream) {
    std::string bytes;
    for (;;) {
      const auto got = co_await stream->read();
      if (!got) co_return;
      bytes.append(got->data(), got->size());
      for (auto command = take(bytes); !command.empty(); command = take(bytes)) {
        seen.push_back(command);
        if (!silent) (void)stream->write(net::Bytes(answer(command)));
      }
    }
  }
  // One RESP command off the front, or none.
  static std::vector<std::string> take(std::string& bytes) {
    std::vector<std::string> words;
    std::size_t at = bytes.find("\r\n");
    if (at == std::string::npos) return {};
    const int count = std::stoi(bytes.substr(1, at - 1));
    at += 2;
    for (int i = 0; i < count; ++i) {
      const std::size_t end = bytes.find("\r\n", at);
      if (end == std::string::npos) return {};
      const auto size = static_cast<std::size_t>(std::stoi(bytes.substr(at + 1, end - at - 1)));
      if (bytes.size() < end + 2 + size + 2) return {};
      words.push_back(bytes.substr(end + 2, size));
      at = end + 2 + size + 2;
    }
    bytes.erase(0, at);
    return words;
  }
  std::string answer(const std::vector<std::string>& command) {
    if (const auto special = answers.find(command[0]); special != answers.end()) return special->second;
    if (command[0] == "SCRIPT") return "$4\r\nsha1\r\n";
    return "+OK\r\n";
  }

  coro::ManualLoop& loop;
  net::MemoryNetwork network;
  std::map<std::string, std::string> answers;
  std::vector<std::vector<std::string>> seen;
  std::vector<net::MemoryLink> links;
  int connections = 0;
  bool silent = false;
  coro::Scope scope;
};

struct World {
  World() : redis(loop), client(loop.executor(), redis.network, counters, 7, {"return 1"}) {}
  ~World() {
    client.stop();
    loop.run_task(client.join());
  }
  void use() {
    state::RedisSettings settings;
    settings.endpoint = kPlace;
    settings.user = "bob";
    settings.password = "hunter2-hunter2";
    settings.database = 3;
    client.use(settings);
    loop.run();
  }
  // What call() says, and how long it took.
  struct Outcome {
    Result<state::RedisReply> result;
    Duration took{};
  };
  Outcome ask() {
    Outcome outcome;
    struct Body {
      static Task<void> of(World& w, Outcome& out) {
        const TimePoint from = w.loop.now();
        auto calling = w.client.call({"PING"}, 5ms);
        out.result = co_await std::move(calling);
        out.took = w.loop.now() - from;
      }
    };
    loop.run_task(Body::of(*this, outcome));
    return outcome;
  }

  coro::ManualLoop loop;
  FakeRedis redis;
  state::RedisCounters counters;
  state::RedisClient client;
};

}  // namespace

TEST_CASE("without a connection a call fails at once") {
  World w;
  const auto none = w.ask();
  REQUIRE_FALSE(none.result);
  CHECK(none.result.error().kind == ErrorKind::unavailable);
  CHECK(none.took == 0ms);
  CHECK(w.redis.connections == 0);
}

TEST_CASE("it greets, loads its scripts, and is then ready") {
  World w;
  w.use();
  REQUIRE(w.client.ready());
  REQUIRE(w.redis.seen.size() == 3);
  CHECK(w.redis.seen[0] == std::vector<std::string>{"AUTH", "bob", "hunter2-hunter2"});
  CHECK(w.redis.seen[1] == std::vector<std::string>{"SELECT", "3"});
  CHECK(w.redis.seen[2] == std::vector<std::string>{"SCRIPT", "LOAD", "return 1"});
  CHECK(w.client.script_sha(0) == "sha1");
  w.redis.answers["PING"] = "*3\r\n:1\r\n:-5\r\n$2\r\nhi\r\n";
  const auto pong = w.ask();
  REQUIRE(pong.result);
  CHECK(pong.result->numbers == std::vector<std::int64_t>{1, -5});
  CHECK(pong.result->text == "hi");
  CHECK(w.counters.answers == 1);
}

TEST_CASE("a password that is refused: never ready, tried again ever more seldom, and nothing said of it") {
  World w;
  w.redis.answers["AUTH"] = "-WRONGPASS invalid username-password pair hunter2\r\n";
  w.use();
  CHECK_FALSE(w.client.ready());
  CHECK(std::string_view(w.counters.trouble) == "user or password refused");
  w.loop.advance(60s);
  CHECK(w.redis.connections >= 12);
  CHECK(w.redis.connections <= 24);
  // Set right, it is used.
  w.redis.answers.clear();
  w.loop.advance(7s);
  CHECK(w.client.ready());
  CHECK(std::string_view(w.counters.trouble).empty());
}

TEST_CASE("a Redis that hangs costs three calls their bound, and nobody more") {
  World w;
  w.use();
  w.redis.silent = true;
  for (int i = 0; i < 3; ++i) {
    const auto slow = w.ask();
    REQUIRE_FALSE(slow.result);
    CHECK(slow.result.error().kind == ErrorKind::timeout);
    CHECK(slow.took == 5ms);
  }
  CHECK_FALSE(w.client.ready());
  const auto next = w.ask();
  REQUIRE_FALSE(next.result);
  CHECK(next.took == 0ms);
  // It hangs on: connections are made, and given up.
  w.loop.advance(20s);
  CHECK_FALSE(w.client.ready());
  w.redis.silent = false;
  w.loop.advance(8s);
  CHECK(w.client.ready());
  CHECK(w.ask().result);
}

TEST_CASE("a Redis that answers all, and all too late, is given up as well") {
  World w;
  w.use();
  for (int i = 0; i < 3; ++i) {
    REQUIRE(w.client.ready());
    w.redis.links.back().stall(0, true);
    CHECK_FALSE(w.ask().result);
    w.loop.advance(1ms);
    w.redis.links.back().stall(0, false);
    w.redis.links.back().stall(1, false);
    w.loop.run();
  }
  CHECK_FALSE(w.client.ready());
}

TEST_CASE("other settings do not wait for the pause of the old ones, and have one of their own") {
  World w;
  w.redis.answers["AUTH"] = "-WRONGPASS invalid username-password pair\r\n";
  w.use();
  w.loop.advance(60s);  // now the pause is five seconds
  const int before = w.redis.connections;
  w.use();
  CHECK(w.redis.connections == before + 1);
  w.loop.advance(60ms);
  CHECK(w.redis.connections == before + 1);
  w.loop.advance(100ms);
  CHECK(w.redis.connections == before + 2);
  w.redis.answers.clear();
  w.use();
  CHECK(w.client.ready());
}

TEST_CASE("a late answer goes to nobody else") {
  World w;
  w.use();
  w.redis.answers["PING"] = ":1\r\n";
  w.redis.links.back().stall(0, true);
  CHECK_FALSE(w.ask().result);
  w.redis.links.back().stall(0, false);
  w.redis.links.back().stall(1, false);
  w.loop.run();
  w.redis.answers["PING"] = ":2\r\n";
  const auto second = w.ask();
  REQUIRE(second.result);
  CHECK(second.result->numbers == std::vector<std::int64_t>{2});
}

TEST_CASE("a connection that breaks fails who waits, at once, and is made anew") {
  World w;
  w.use();
  w.redis.silent = true;
  World::Outcome outcome;
  struct Body {
    static Task<void> of(World& world, World::Outcome& out) {
      const TimePoint from = world.loop.now();
      auto calling = world.client.call({"PING"}, 5ms);
      out.result = co_await std::move(calling);
      out.took = world.loop.now() - from;
    }
  };
  coro::Scope scope(w.loop.executor());
  scope.spawn(Body::of(w, outcome));
  w.loop.run();
  w.redis.links.back().break_off();
  w.loop.run();
  REQUIRE_FALSE(outcome.result);
  CHECK(outcome.result.error().kind == ErrorKind::reset);
  CHECK(outcome.took == 0ms);
  w.redis.silent = false;
  w.loop.advance(200ms);
  CHECK(w.client.ready());
  CHECK(w.redis.connections == 2);
}

TEST_CASE("what is no Redis is left alone") {
  World w;
  w.redis.answers["AUTH"] = "HTTP/1.1 400 Bad Request\r\n\r\n";
  w.use();
  CHECK_FALSE(w.client.ready());
  CHECK(std::string_view(w.counters.trouble) == "no Redis");
}

TEST_CASE("shared rates: the script's answer, and one that is gone is said in full") {
  coro::ManualLoop loop;
  FakeRedis redis(loop);
  state::RedisCounters counters;
  state::SharedRates rates(loop.executor(), redis.network, counters, 1);
  state::RedisSettings settings;
  settings.endpoint = kPlace;
  rates.client().use(settings);
  loop.run();
  REQUIRE(rates.client().ready());
  const admission::RateSpec spec = admission::RateSpec::of(10, 1s, 5);
  const auto take = [&] {
    Result<state::SharedAnswer> out;
    struct Body {
      static Task<void> of(state::SharedRates& r, admission::RateSpec s, Result<state::SharedAnswer>& result) {
        std::vector<state::SharedBucket> buckets{{"k", s, 1}};
        auto taking = r.take(std::move(buckets));
        result = co_await std::move(taking);
      }
    };
    loop.run_task(Body::of(rates, spec, out));
    return out;
  };
  redis.answers["EVALSHA"] = "*2\r\n:1\r\n:100000\r\n";
  const auto first = take();
  REQUIRE(first);
  CHECK(first->allowed);
  CHECK(first->buckets[0].remaining == 4);
  CHECK(redis.seen.back() == std::vector<std::string>{"EVALSHA", "sha1", "1", "k", "take", "100000", "500000"});
  redis.answers["EVALSHA"] = "*2\r\n:0\r\n:450000\r\n";
  const auto refused = take();
  REQUIRE(refused);
  CHECK_FALSE(refused->allowed);
  CHECK(refused->buckets[0].retry_after == 50ms);
  redis.answers["EVALSHA"] = "-NOSCRIPT No matching script. Please use EVAL.\r\n";
  redis.answers["EVAL"] = "*2\r\n:1\r\n:200000\r\n";
  const auto flushed = take();
  REQUIRE(flushed);
  CHECK(flushed->buckets[0].remaining == 3);
  redis.answers["EVALSHA"] = "-READONLY You can't write against a read only replica.\r\n";
  CHECK_FALSE(take());
  redis.answers["EVALSHA"] = "*1\r\n:1\r\n";
  CHECK_FALSE(take());
  rates.client().stop();
  loop.run_task(rates.client().join());
}

TEST_CASE("shared rates: whoever asks for the whole burst gets it, though its time is no whole number of microseconds") {
  coro::ManualLoop loop;
  FakeRedis redis(loop);
  state::RedisCounters counters;
  state::SharedRates rates(loop.executor(), redis.network, counters, 1);
  state::RedisSettings settings;
  settings.endpoint = kPlace;
  rates.client().use(settings);
  loop.run();
  redis.answers["EVALSHA"] = "*3\r\n:1\r\n:333334\r\n:428572\r\n";
  struct Body {
    static Task<void> of(state::SharedRates& r, Result<state::SharedAnswer>& result) {
      std::vector<state::SharedBucket> buckets{{"r", admission::RateSpec::of(3, 1s, 1), 1},
                                               {"t", admission::RateSpec::of(70'000, 60s, 500), 500}};
      auto taking = r.take(std::move(buckets));
      result = co_await std::move(taking);
    }
  };
  Result<state::SharedAnswer> answer;
  loop.run_task(Body::of(rates, answer));
  REQUIRE(answer);
  // The script refuses where a cost is above its tolerance, however long nobody asked.
  const std::vector<std::string>& asked = redis.seen.back();
  REQUIRE(asked.size() == 10);
  CHECK(std::stoll(asked[6]) <= std::stoll(asked[7]));
  CHECK(std::stoll(asked[8]) <= std::stoll(asked[9]));
  CHECK(answer->buckets[1].remaining == 0);
  // One of them refused: the other one, that was whole, says so.
  redis.answers["EVALSHA"] = "*3\r\n:0\r\n:0\r\n:100\r\n";
  loop.run_task(Body::of(rates, answer));
  REQUIRE(answer);
  CHECK(answer->buckets[0].allowed);
  CHECK_FALSE(answer->buckets[1].allowed);
  rates.client().stop();
  loop.run_task(rates.client().join());
}
