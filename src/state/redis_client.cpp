// See redis_client.h. One coroutine lives the life of the connections, one after the other: connect, greet, read answers
// and hand them to whoever asked, in order, until something ends it.
#include "perigee/state/redis_client.h"

#include <hiredis/hiredis.h>

#include <algorithm>
#include <deque>
#include <utility>

#include "perigee/coro/deadline.h"
#include "perigee/coro/event.h"
#include "perigee/coro/sleep.h"
#include "perigee/coro/timeout.h"

namespace perigee::state {

using coro::Task;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t kOutstandingMax = 1024;
constexpr std::size_t kAnswerMax = 256UL * 1024;
constexpr std::uint32_t kTimeoutsInARow = 3;
constexpr Duration kGreetLimit = 1s;  // connecting included
constexpr Duration kPauseMin = 100ms;
constexpr Duration kPauseMax = 5s;

constexpr Error kTooSlow{ErrorKind::timeout, Side::internal, Sent::maybe, 0, "Redis did not answer in time"};
constexpr Error kNoGreeting{ErrorKind::timeout, Side::internal, Sent::maybe, 0, "no connection in time"};
constexpr Error kHangs{ErrorKind::timeout, Side::internal, Sent::maybe, 0, "it does not answer"};
constexpr Error kOtherSettings{ErrorKind::cancelled, Side::internal, Sent::maybe, 0, "other settings"};

struct FreeReader {
  void operator()(redisReader* reader) const { redisReaderFree(reader); }
};
struct FreeReply {
  void operator()(redisReply* reply) const { freeReplyObject(reply); }
};
using ReplyPtr = std::unique_ptr<redisReply, FreeReply>;

void flatten(const redisReply& from, RedisReply& out) {
  switch (from.type) {
    case REDIS_REPLY_INTEGER: out.numbers.push_back(from.integer); break;
    case REDIS_REPLY_ERROR: out.error = true; [[fallthrough]];
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS: out.text.assign(from.str, from.len); break;
    case REDIS_REPLY_ARRAY:
      for (std::size_t i = 0; i < from.elements; ++i) flatten(*from.element[i], out);
      break;
    default: break;
  }
}

}  // namespace

// A command on its way. Who asked may have gone: then nobody looks at the answer.
struct RedisClient::Call {
  coro::Event done;
  TimePoint sent;
  RedisReply reply;
  bool lost = false;
  bool greeting = false;
};

struct RedisClient::Session {
  Session(coro::Executor& executor, coro::CancelSource* parent) : source(parent), deadline(executor, source) {}
  coro::ChildCancelSource source;
  coro::Deadline deadline;  // of the greeting
  net::StreamPtr stream;
  std::unique_ptr<redisReader, FreeReader> reader{redisReaderCreate()};
  std::deque<std::shared_ptr<Call>> waiting;
  std::size_t greetings = 0;  // not yet answered
  std::size_t scripts_known = 0;
  std::size_t partial = 0;  // bytes since the last whole answer
};

RedisClient::RedisClient(coro::Executor& executor, net::Connector& connector, RedisCounters& counters, std::uint64_t seed,
                         std::vector<std::string> scripts)
    : executor_(executor),
      connector_(connector),
      counters_(counters),
      rng_(seed),
      scripts_(std::move(scripts)),
      shas_(scripts_.size()),
      scope_(executor) {}

RedisClient::~RedisClient() = default;

void RedisClient::use(const RedisSettings& settings) {
  settings_ = settings;
  if (std::exchange(running_, true)) {
    changed_ = true;
    if (connection_ != nullptr) connection_->cancel(kOtherSettings);
    if (pause_ != nullptr) pause_->cancel(kOtherSettings);
  } else {
    scope_.spawn(run());
  }
}

void RedisClient::stop() { scope_.cancel(Error{ErrorKind::cancelled, Side::internal, Sent::maybe, 0, "stopping"}); }

Task<void> RedisClient::run() {
  Duration pause = kPauseMin;
  while (!scope_.source().cancelled()) {
    changed_ = false;
    const std::uint64_t before = counters_.connects.load(std::memory_order_relaxed);
    const auto ended = co_await live();
    if (!ended) counters_.trouble.store(ended.error().detail, std::memory_order_relaxed);
    if (changed_) {
      pause = kPauseMin;
      continue;
    }
    if (counters_.connects.load(std::memory_order_relaxed) != before) pause = kPauseMin;
    // Spread, so that the loops of many sidecars do not come all at once.
    const auto spread = from_seconds(to_seconds(pause) * rng_.uniform(0.8, 1.2));
    pause = std::min(pause * 2, kPauseMax);
    co_await rest(executor_.now() + spread);
    if (changed_) pause = kPauseMin;
  }
}

// Until then, or until other settings are wanted.
Task<void> RedisClient::rest(TimePoint until) {
  struct Sleep {
    static Task<Result<void>> of(TimePoint end) { co_return co_await coro::sleep_until(end); }
  };
  coro::ChildCancelSource source(&scope_.source());
  pause_ = &source;
  auto sleeping = Sleep::of(until);
  (void)co_await coro::under(source, std::move(sleeping));
  pause_ = nullptr;
}

Task<Result<void>> RedisClient::live() {
  Session session(executor_, &scope_.source());
  connection_ = &session.source;
  timeouts_in_a_row_ = 0;
  auto conversation = converse(session);
  const auto ended = co_await coro::under(session.source, std::move(conversation));
  connection_ = nullptr;
  if (std::exchange(session_, nullptr) != nullptr) counters_.connected.fetch_sub(1, std::memory_order_relaxed);
  for (const auto& call : session.waiting) {
    call->lost = true;
    if (!call->greeting) counters_.failures.fetch_add(1, std::memory_order_relaxed);
    call->done.set();
  }
  co_return ended;
}

Task<Result<void>> RedisClient::converse(Session& session) {
  if (settings_.endpoint.length == 0) co_return co_await coro::sleep_until(kNever);  // none is wanted, until use() says so
  session.deadline.set_after(kGreetLimit, kNoGreeting);
  const net::Endpoint endpoint = settings_.endpoint;
  auto connecting = net::connect_tls(connector_, endpoint, settings_.tls);
  auto stream = co_await std::move(connecting);
  if (!stream) co_return std::unexpected(stream.error());
  session.stream = std::move(*stream);
  greet(session);
  for (;;) {
    const auto got = co_await session.stream->read();
    if (!got) co_return std::unexpected(got.error());
    session.partial += got->size();
    if (redisReaderFeed(session.reader.get(), got->data(), got->size()) != REDIS_OK) co_return fail(ErrorKind::protocol, "no Redis");
    for (;;) {
      void* whole = nullptr;
      if (redisReaderGetReply(session.reader.get(), &whole) != REDIS_OK) co_return fail(ErrorKind::protocol, "no Redis");
      if (whole == nullptr) break;
      const ReplyPtr reply(static_cast<redisReply*>(whole));
      session.partial = 0;
      RedisReply flat;
      flatten(*reply, flat);
      CO_TRY_VOID(answered(session, std::move(flat)));
    }
    if (session.partial > kAnswerMax) co_return fail(ErrorKind::too_large, "an answer without end");
  }
}

void RedisClient::greet(Session& session) {
  std::vector<std::vector<std::string>> commands;
  if (!settings_.password.empty()) {
    commands.push_back({"AUTH"});
    if (!settings_.user.empty()) commands.back().push_back(settings_.user);
    commands.back().push_back(settings_.password);
  }
  if (settings_.database != 0) commands.push_back({"SELECT", std::to_string(settings_.database)});
  for (const std::string& script : scripts_) commands.push_back({"SCRIPT", "LOAD", script});
  session.greetings = commands.size();
  for (const auto& command : commands) {
    const auto call = send(session, command);
    if (call) call->greeting = true;
  }
}

// Scripts are told their SHA in the order in which they were loaded; any error ends the connection.
Result<void> RedisClient::greeted(Session& session, const RedisReply& reply) {
  if (reply.error) {
    const bool who = reply.text.starts_with("WRONGPASS") || reply.text.starts_with("NOAUTH") || reply.text.starts_with("ERR AUTH") ||
                     reply.text.starts_with("ERR invalid password");
    return fail(ErrorKind::denied, who ? "user or password refused" : "the greeting was refused");
  }
  if (session.greetings <= scripts_.size()) shas_[session.scripts_known++] = reply.text;
  if (--session.greetings > 0) return {};
  session.deadline.clear();
  session_ = &session;
  counters_.connects.fetch_add(1, std::memory_order_relaxed);
  counters_.connected.fetch_add(1, std::memory_order_relaxed);
  counters_.trouble.store("", std::memory_order_relaxed);
  return {};
}

Result<void> RedisClient::answered(Session& session, RedisReply reply) {
  if (session.waiting.empty()) return fail(ErrorKind::protocol, "an answer that nobody asked for");
  const std::shared_ptr<Call> call = std::move(session.waiting.front());
  session.waiting.pop_front();
  // Who waited for this one has gone if it is late: it is no sign that the next one will be in time.
  if (executor_.now() - call->sent < settings_.timeout) timeouts_in_a_row_ = 0;
  if (call->greeting) return greeted(session, reply);
  counters_.answers.fetch_add(1, std::memory_order_relaxed);
  if (reply.error) counters_.failures.fetch_add(1, std::memory_order_relaxed);
  counters_.latency_ns.fetch_add(static_cast<std::uint64_t>((executor_.now() - call->sent).count()), std::memory_order_relaxed);
  call->reply = std::move(reply);
  call->done.set();
  return {};
}

std::shared_ptr<RedisClient::Call> RedisClient::send(Session& session, std::span<const std::string> args) {
  if (session.waiting.size() >= kOutstandingMax || session.stream->backlog() > net::kBacklogHigh) return nullptr;
  std::vector<const char*> texts;
  std::vector<std::size_t> sizes;
  for (const std::string& arg : args) {
    texts.push_back(arg.data());
    sizes.push_back(arg.size());
  }
  char* command = nullptr;
  const int size = redisFormatCommandArgv(&command, static_cast<int>(args.size()), texts.data(), sizes.data());
  if (size < 0) return nullptr;
  (void)session.stream->write(net::Bytes(command, static_cast<std::size_t>(size)));  // a break shows in the read
  redisFreeCommand(command);
  auto call = std::make_shared<Call>();
  call->sent = executor_.now();
  session.waiting.push_back(call);
  return call;
}

Task<Result<RedisReply>> RedisClient::call(std::vector<std::string> args, Duration limit) {
  const std::shared_ptr<Call> call = session_ == nullptr ? nullptr : send(*session_, args);
  if (!call) co_return fail(ErrorKind::unavailable, "no Redis at the moment");
  counters_.calls.fetch_add(1, std::memory_order_relaxed);
  const auto me = co_await coro::here();
  coro::ChildCancelSource source(me.cancel);
  coro::Deadline deadline(executor_, source);
  deadline.set_after(limit, kTooSlow);
  struct Wait {
    static Task<Result<void>> of(coro::Event& event) { co_return co_await event.wait(); }
  };
  auto waiting = Wait::of(call->done);
  const auto waited = co_await coro::under(source, std::move(waiting));
  if (call->done.is_set()) {
    if (call->lost) co_return fail(ErrorKind::reset, "the connection to Redis broke");
    co_return std::move(call->reply);
  }
  if (waited.error().kind == ErrorKind::timeout && waited.error().detail == kTooSlow.detail) {
    counters_.timeouts.fetch_add(1, std::memory_order_relaxed);
    // Whoever asks next must not wait as well. Those that were under way together count as one: a loop that was late
    // itself sees its timers before its answers.
    if (executor_.now() - last_timeout_ >= limit) ++timeouts_in_a_row_;
    last_timeout_ = executor_.now();
    if (timeouts_in_a_row_ >= kTimeoutsInARow && connection_ != nullptr) connection_->cancel(kHangs);
  }
  co_return std::unexpected(waited.error());
}

void RedisClient::tell(std::span<const std::string> args) {
  if (session_ == nullptr) return;
  if (send(*session_, args)) counters_.calls.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace perigee::state
