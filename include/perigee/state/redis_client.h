// One connection to a Redis, for one loop: commands go out as they come (pipelined), each with its own time-out, and
// nobody ever waits for a connection.
//
// While there is none, or a Redis that hangs, call() fails at once: that is the breaker. Three time-outs in a row, an
// error of the connection or an answer that is no RESP end the connection; a new one is made after a pause of 100 ms that
// doubles to 5 s, and is used once AUTH, SELECT and the loading of scripts have been answered. The wire format is hiredis'
// (its reader and its formatter); sockets, TLS and time are those of every other room, so that all of it runs in memory
// in tests.
//
// Belongs to its loop's thread, but for RedisCounters. Bounded: 1024 commands outstanding, 64 KiB unsent, 256 KiB of one
// answer.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "perigee/base/random.h"
#include "perigee/base/result.h"
#include "perigee/coro/scope.h"
#include "perigee/coro/task.h"
#include "perigee/net/socket.h"
#include "perigee/net/tls.h"

namespace perigee::state {

// Written by loops, read by any thread.
struct RedisCounters {
  std::atomic<std::uint64_t> calls{0};
  std::atomic<std::uint64_t> answers{0};
  std::atomic<std::uint64_t> timeouts{0};
  std::atomic<std::uint64_t> failures{0};    // answered by an error, or lost with the connection
  std::atomic<std::uint64_t> connects{0};    // connections that became usable
  std::atomic<std::uint64_t> fallbacks{0};   // the callers': decided without Redis
  std::atomic<std::uint64_t> latency_ns{0};  // of all answers together
  std::atomic<std::int64_t> connected{0};    // loops whose connection is usable
  // Why the last attempt failed; a literal, never what the server said. Empty = it did not.
  std::atomic<const char*> trouble{""};
};

struct RedisSettings {
  net::Endpoint endpoint;
  net::TlsClientPtr tls;  // null: plain
  std::string user;       // empty = Redis' default user
  std::string password;   // empty = no AUTH
  std::uint32_t database = 0;
  Duration timeout = std::chrono::milliseconds(5);  // of one command
};

// An answer, flat: what a script of ours returns.
struct RedisReply {
  std::vector<std::int64_t> numbers;
  std::string text;  // of a string, a status, or an error
  bool error = false;
};

class RedisClient {
 public:
  // `scripts` are loaded on each connection. `counters` outlive the client.
  RedisClient(coro::Executor& executor, net::Connector& connector, RedisCounters& counters, std::uint64_t seed,
              std::vector<std::string> scripts);
  // stop() and join() first, if it was ever used.
  ~RedisClient();
  RedisClient(const RedisClient&) = delete;
  RedisClient& operator=(const RedisClient&) = delete;

  // Connects, and stays connected, from now on. Called again: a new connection with the new settings, soon; with an
  // endpoint of length 0: none.
  void use(const RedisSettings& settings);
  void stop();
  [[nodiscard]] coro::Task<void> join() { return scope_.join(); }

  [[nodiscard]] bool ready() const { return session_ != nullptr; }
  // What EVALSHA wants; good while ready().
  [[nodiscard]] const std::string& script_sha(std::size_t i) const { return shas_[i]; }
  [[nodiscard]] const std::string& script(std::size_t i) const { return scripts_[i]; }
  [[nodiscard]] RedisCounters& counters() { return counters_; }
  [[nodiscard]] TimePoint now() const { return executor_.now(); }
  [[nodiscard]] Duration timeout() const { return settings_.timeout; }

  // Fails with `unavailable` at once, with `timeout` after `limit`, `reset`, or what cancelled the caller. An answer that
  // is an error is a reply.
  [[nodiscard]] coro::Task<Result<RedisReply>> call(std::vector<std::string> args, Duration limit);
  // The same, and nobody looks at the answer.
  void tell(std::span<const std::string> args);

 private:
  struct Call;
  struct Session;  // what belongs to one connection

  [[nodiscard]] coro::Task<void> run();
  [[nodiscard]] coro::Task<Result<void>> live();
  [[nodiscard]] coro::Task<void> rest(TimePoint until);
  [[nodiscard]] coro::Task<Result<void>> converse(Session& session);
  void greet(Session& session);
  [[nodiscard]] Result<void> answered(Session& session, RedisReply reply);
  [[nodiscard]] Result<void> greeted(Session& session, const RedisReply& reply);
  std::shared_ptr<Call> send(Session& session, std::span<const std::string> args);

  coro::Executor& executor_;
  net::Connector& connector_;
  RedisCounters& counters_;
  Rng rng_;
  const std::vector<std::string> scripts_;
  std::vector<std::string> shas_;
  RedisSettings settings_;
  Session* session_ = nullptr;  // the one in use, greeted
  coro::CancelSource* connection_ = nullptr;  // of the one there is
  coro::CancelSource* pause_ = nullptr;       // or of the pause before the next one
  std::uint32_t timeouts_in_a_row_ = 0;
  TimePoint last_timeout_{};
  bool running_ = false;
  bool changed_ = false;  // other settings: no pause before the next connection
  coro::Scope scope_;
};

}  // namespace perigee::state
