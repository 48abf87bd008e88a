#include "io_thread.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <latch>
#include <utility>

#include "perigee/coro/scope.h"
#include "perigee/state/shared_rates.h"

namespace perigee::app {

namespace {

constexpr Duration kTick = std::chrono::seconds(1);

// How the dispatcher tells this loop that something was decided for one of its waiters.
class LoopWaker final : public dispatch::Waker {
 public:
  explicit LoopWaker(net::Loop& loop) : loop_(loop) {}
  void attach(dispatch::LoopPort& port, proxy::SessionPort& sessions) {
    port_ = &port;
    sessions_ = &sessions;
    loop_.on_wake([this] { deliver(); });
  }
  void wake() noexcept override { loop_.wake(); }
  void soon() noexcept override { loop_.executor().post(deliver_); }

 private:
  struct Deliver : coro::ReadyNode {
    explicit Deliver(LoopWaker& waker)
        : ReadyNode([](coro::ReadyNode& n) { static_cast<Deliver&>(n).waker_.deliver(); }), waker_(waker) {}
    LoopWaker& waker_;
  };
  void deliver() {
    port_->deliver();
    sessions_->deliver();
  }
  net::Loop& loop_;
  dispatch::LoopPort* port_ = nullptr;
  proxy::SessionPort* sessions_ = nullptr;
  Deliver deliver_{*this};
};

// A timer that calls a function.
class Alarm : public coro::Timer {
 public:
  explicit Alarm(std::function<void()> ring)
      : Timer([](coro::Timer& t) { static_cast<Alarm&>(t).ring_(); }), ring_(std::move(ring)) {}

 private:
  std::function<void()> ring_;
};

void block_signals() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

}  // namespace

// Everything that belongs to the loop, built and destroyed on its thread.
struct IoThread::Running {
  Running(IoThread& t, const Shared& s, proxy::PlanPtr plan, std::uint64_t seed)
      : thread(t),
        dispatcher(s.dispatcher),
        loop(s.clock),
        waker(loop),
        port(s.dispatcher, waker),
        sessions(s.sessions, waker),
        connector(loop),
        shared_rates(loop.executor(), connector, s.redis, seed ^ 0x5EEDULL) {
    if (s.log_sink != nullptr) {
      const config::AccessLog& log = plan->config->access_log;
      access_log = std::make_unique<telemetry::AccessLogBuffer>(*s.log_sink, log.block, log.flush);
    }
    const proxy::LoopParts parts{loop.executor(), s.clock,    connector,        s.dispatcher, port,
                                 t.metrics_,      access_log.get(), s.stopped, seed,            &shared_rates,
                                 &sessions};
    proxy = std::make_unique<proxy::LoopProxy>(parts, std::move(plan));
    waker.attach(port, sessions);
    t.ticked_.store(loop.now().time_since_epoch().count(), std::memory_order_relaxed);
    loop.executor().arm(tick, loop.now() + kTick);
    loop.on_turn_end([this] { turn_ended(); });
  }

  void turn_ended() {
    if (const TimePoint due = dispatcher.take_wakeup(); due != kNever) loop.executor().arm(pump, due);
    thread.open_.store(proxy->connections(), std::memory_order_relaxed);
    thread.exchanges_.store(proxy->exchanges(), std::memory_order_relaxed);
  }
  void ticked() {
    proxy->tick();
    thread.ticked_.store(loop.now().time_since_epoch().count(), std::memory_order_relaxed);
    loop.executor().arm(tick, loop.now() + kTick);
  }
  // Cuts what runs, waits for its last word, ends the loop.
  void stop() {
    proxy->cut();
    shared_rates.client().stop();
    struct Last {
      static coro::Task<void> run(proxy::LoopProxy& p, state::RedisClient& redis, net::Loop& l) {
        co_await p.join();
        co_await redis.join();
        l.stop();
      }
    };
    last.spawn(Last::run(*proxy, shared_rates.client(), loop));
  }

  IoThread& thread;
  dispatch::Dispatcher& dispatcher;
  net::Loop loop;
  LoopWaker waker;
  dispatch::LoopPort port;
  proxy::SessionPort sessions;
  net::SocketConnector connector;
  state::SharedRates shared_rates;
  std::unique_ptr<telemetry::AccessLogBuffer> access_log;
  std::unique_ptr<proxy::LoopProxy> proxy;
  Alarm pump{[this] { dispatcher.pump(loop.now()); }};
  Alarm tick{[this] { ticked(); }};
  coro::Scope last{loop.executor()};
};

IoThread::IoThread(const Shared& shared, proxy::PlanPtr plan, std::uint64_t seed) {
  std::latch ready(1);
  thread_ = std::thread([this, &shared, &ready, seed, plan = std::move(plan)]() mutable {
    block_signals();
    Running running(*this, shared, std::move(plan), seed);
    running_ = &running;
    ready.count_down();
    running.loop.run();
  });
  ready.wait();
}

IoThread::~IoThread() { join(); }

net::Loop& IoThread::loop() { return running_->loop; }

void IoThread::post(Work work) {
  running_->loop.post([this, work = std::move(work)]() mutable { work(running_->loop, *running_->proxy); });
}

void IoThread::use_redis(state::RedisSettings settings) {
  running_->loop.post([this, settings = std::move(settings)] { running_->shared_rates.client().use(settings); });
}

void IoThread::take(int fd, bool is_unix, const config::Listener& from, net::TlsServerPtr tls) {
  ++handed_;
  auto serve = [this, fd, is_unix, &from, tls = std::move(tls)](net::Loop& loop, proxy::LoopProxy& proxy) mutable {
    taken_.fetch_add(1, std::memory_order_relaxed);
    const net::Peer peer = net::peer_of(fd);
    auto stream = net::adopt(loop, fd, is_unix);
    proxy::Entrance entrance{from.proxy_protocol.expected_from(peer.ip), std::move(tls)};
    if (stream) proxy.serve(std::move(*stream), peer, std::move(entrance));
    open_.store(proxy.connections(), std::memory_order_relaxed);
  };
  if (std::this_thread::get_id() == thread_.get_id()) {
    serve(running_->loop, *running_->proxy);
  } else {
    post(std::move(serve));
  }
}

std::size_t IoThread::connections() const {
  return open_.load(std::memory_order_relaxed) + static_cast<std::size_t>(handed_ - taken_.load(std::memory_order_relaxed));
}

void IoThread::stop() {
  post([this](net::Loop&, proxy::LoopProxy&) { running_->stop(); });
}

void IoThread::join() {
  if (thread_.joinable()) thread_.join();
}

}  // namespace perigee::app
