// application.cpp: how the sidecar starts, reloads and stops. The only place that wires rooms together.
//
// Start: descriptors, log, dispatcher, data-plane threads, listeners, prober, admin port; whatever fails says
// so in one line and ends with status 1. Reload (SIGHUP): a new snapshot is read and swapped whole, or
// nothing changes. Stop (SIGTERM, SIGINT): not ready, listeners close, what runs and waits goes on within a
// bound, the rest is cut; a second signal ends at once.
#include "application.h"

#include <signal.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <optional>
#include <thread>
#include <utility>

#include "acceptor.h"
#include "fleet_view.h"
#include "io_thread.h"
#include "operators.h"
#include "perigee/admin/admin_server.h"
#include "perigee/config/export.h"
#include "perigee/config/redis_url.h"
#include "perigee/coro/scope.h"
#include "perigee/coro/sleep.h"
#include "perigee/net/signals.h"
#include "perigee/telemetry/log.h"
#include "passed_sockets.h"
#include "probing.h"
#include "start_pages.h"
#include "throttling.h"
#include "tls_setup.h"
#include "version.h"
#include "wiring.h"

namespace perigee::app {

using coro::Task;

namespace {

// Descriptors that are not connections: listeners, logs, probes, admin, libuv's own.
constexpr std::size_t kReservedDescriptors = 256;
constexpr Duration kDrainLook = std::chrono::milliseconds(20);
constexpr Duration kReloadLook = std::chrono::milliseconds(10);

// The soft limit goes up to the hard one; the result is how many descriptors there are.
std::size_t raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  getrlimit(RLIMIT_NOFILE, &limit);
  return static_cast<std::size_t>(std::min<rlim_t>(limit.rlim_cur, 1U << 24U));
}

// Each client connection may need one towards a worker.
std::size_t connections_for(const config::Config& config, std::size_t descriptors) {
  const std::size_t possible = descriptors > 2 * kReservedDescriptors ? (descriptors - kReservedDescriptors) / 2 : descriptors / 3;
  const std::size_t written = config.process.max_connections;
  return written == 0 ? possible : std::min(written, possible);
}

// Numbers of tenants mean nothing outside this process, nor after it.
admission::TenantSecret fresh_secret() {
  admission::TenantSecret secret;
  if (getrandom(&secret, sizeof secret, 0) != sizeof secret) std::abort();  // cannot fail once the machine is up
  return secret;
}

class Application final : public admin::Control {
 public:
  explicit Application(const RunOptions& options)
      : options_(options),
        config_(options.config),
        log_(clock_, config_->process.log_level),
        dispatcher_(static_cast<std::uint64_t>(clock_.wall_ms()) ^ static_cast<std::uint64_t>(getpid())),
        loop_(clock_),
        connector_(loop_),
        service_(options.service),
        scope_(loop_.executor()),
        errands_(loop_.executor()) {}

  int run() {
    signal(SIGPIPE, SIG_IGN);
    scope_.spawn(live());
    loop_.run();
    return status_;
  }

 private:
  // The story of the process.
  Task<void> live() {
    const bool started = co_await start();
    if (started) {
      signals_ = std::make_unique<net::Signals>(loop_, std::initializer_list<int>{SIGTERM, SIGINT, SIGHUP, SIGUSR1},
                                                [this](int number) { on_signal(number); });
      errands_.spawn(tick());
      errands_.spawn(watch_resources());
      if (service_.watchdog() != Duration::zero()) errands_.spawn(feed_watchdog());
      service_.ready();
      co_await over_.wait();
    } else {
      status_ = 1;
    }
    co_await stop_everything();
    signals_.reset();
    errands_.cancel(Error{ErrorKind::cancelled, Side::internal, Sent::maybe, 0, "ending"});
    co_await errands_.join();
    loop_.stop();
  }

  // --- start ------------------------------------------------------------------------------------------------

  Task<bool> start() {
    loops_ = io_threads(*config_, std::max(1U, std::thread::hardware_concurrency()));
    const std::size_t descriptors = raise_descriptor_limit();
    auto tls = load_tls(*config_, tls_parts());
    if (!tls) {
      for (const config::Diagnostic& wrong : tls.error()) log_.error("TLS cannot be set up", {{"why", config::to_string(wrong)}});
      co_return false;
    }
    auto plan = co_await make_plan(config_, tls->workers);
    if (!plan) co_return false;
    if (!open_access_log()) co_return false;
    const Shared shared{clock_, dispatcher_, stopped_, sessions_, sink_.get(), redis_counters_};
    shared_ = std::make_unique<Shared>(shared);
    const std::uint64_t seed = static_cast<std::uint64_t>(clock_.wall_ms()) * 0x9E3779B97F4A7C15ULL ^ static_cast<std::uint64_t>(getpid());
    for (unsigned i = 0; i < loops_; ++i) {
      threads_.push_back(std::make_unique<IoThread>(*shared_, *plan, seed + i));
    }
    view_ = std::make_unique<FleetView>(clock_, dispatcher_, threads_, sink_.get());
    view_->current = config_;
    view_->tls_metrics = &tls_watch_.metrics();
    view_->redis_counters = &redis_counters_;
    view_->session_table = &sessions_;
    note_rates(**plan);
    co_await connect_redis(*config_);
    note_tls(tls->notes);
    const std::size_t connections = connections_for(*config_, descriptors);
    acceptor_ = std::make_unique<Acceptor>(threads_, connections);
    auto passed = PassedSockets::take(options_.service);
    const bool listening = co_await listen(passed, tls->listeners);
    if (!listening) co_return false;
    const bool admin = co_await open_admin();
    if (!admin) co_return false;
    probing_ = std::make_unique<Probing>(loop_.executor(), connector_, dispatcher_, *view_, log_, seed + 1000);
    probing_->set(**plan);
    throttling_ = std::make_unique<Throttling>(dispatcher_, *view_, log_);
    throttling_->set(**plan);
    give_back_start_pages();
    log_.info("perigee is up", {{"version", kVersion}, {"workers", config_->workers.size()}, {"io_threads", threads_.size()},
                                {"max_connections", connections}, {"config", config_->source}});
    co_return true;
  }

  // Resolves the workers' names and gives the dispatcher its backends; the log says what is wrong.
  Task<Result<proxy::PlanPtr>> make_plan(config::Snapshot config, std::vector<net::TlsClientPtr> tls) {
    auto plan = std::make_shared<proxy::Plan>();
    plan->config = config;
    plan->tls = std::move(tls);
    plan->loops = loops_;
    if (config->knows_tenants()) plan->tenants = std::make_shared<admission::TenantTable>(tenant_secret_, config->tenants);
    for (const config::Worker& worker : config->workers) {
      auto endpoint = co_await net::resolve(loop_, worker.address);
      if (!endpoint) {
        log_.error("a worker's name is not known", {{"worker", worker.name}, {"address", worker.address.text()}});
        co_return std::unexpected(endpoint.error());
      }
      plan->endpoints.push_back(*endpoint);
    }
    auto configured = dispatcher_.configure(dispatch_setup(*config), clock_.now());
    if (!configured) {
      log_.error("the configuration cannot be used", {{"why", configured.error().detail}});
      co_return std::unexpected(configured.error());
    }
    plan->rates = rates_;
    const admission::RatePoliciesPtr policies = rates_->configure(config->rate_limits, config->tenants, clock_.now());
    if (!config->rate_limits.empty()) plan->rate_policies = policies;
    if (const auto redis = config::parse_redis_url(config->redis.url)) {
      plan->redis_secret = config->redis.secret.empty() ? redis->password : config->redis.secret;
    }
    for (const config::Pool& pool : config->pools) plan->pools.push_back(dispatcher_.pool(pool.name).value_or(0));
    co_return proxy::PlanPtr(std::move(plan));
  }

  void note_rates(const proxy::Plan& plan) {
    view_->rate_book = rates_;
    view_->rate_policies = plan.rate_policies;
    view_->tenants = plan.tenants;
  }

  // Tells the loops of the Redis. One that cannot be reached is no reason not to run: each rate is then kept by each
  // sidecar, in part.
  Task<void> connect_redis(const config::Config& config) {
    const auto place = config::parse_redis_url(config.redis.url);
    if (!place && !redis_told_) co_return;
    state::RedisSettings settings;
    if (place) {
      settings.user = place->user;
      settings.password = place->password;
      settings.database = place->database;
      settings.timeout = config.redis.timeout;
      auto endpoint = co_await net::resolve(loop_, place->address);
      net::TlsNotes notes;
      auto tls = place->tls ? net::load_tls_client({}, "redis", place->address.host, tls_parts(), notes)
                            : std::expected<net::TlsClientPtr, std::string>();
      if (!endpoint) {
        log_.error("the name of Redis is not known: rates are not shared until the next reload", {{"address", place->address.text()}});
      } else if (!tls) {
        log_.error("TLS to Redis cannot be set up: rates are not shared", {{"why", tls.error()}});
      } else {
        settings.endpoint = *endpoint;
        settings.tls = *tls;
      }
    }
    redis_told_ = true;
    for (auto& thread : threads_) thread->use_redis(settings);
  }

  net::TlsParts tls_parts() { return {tickets_, &tls_watch_, clock_.wall_ms()}; }
  void note_tls(const net::TlsNotes& notes) {
    for (const std::string& warning : notes.warnings) log_.warn(warning);
    view_->certificate_expiry = notes.earliest_expiry;
  }

  bool open_access_log() {
    if (!config_->access_log.enabled) return true;
    telemetry::LogSink::Options log;
    log.destination = config_->access_log.destination;
    auto sink = telemetry::LogSink::open(log);
    if (!sink) {
      log_.error("the access log cannot be opened", {{"destination", log.destination}, {"errno", sink.error().code}});
      return false;
    }
    sink_ = std::move(*sink);
    return true;
  }

  // Listeners belong to the first data-plane loop.
  Task<bool> listen(PassedSockets& passed, std::vector<net::TlsServerPtr> tls) {
    for (std::size_t i = 0; i < config_->listeners.size(); ++i) {
      const config::Listener& listener = config_->listeners[i];
      auto opened = co_await open_listener(listener, passed, tls[i]);
      if (!opened) {
        log_.error("cannot listen", {{"address", listener.text()}, {"why", opened.error().detail}});
        co_return false;
      }
      log_.info("listening", {{"address", listener.text()}, {"tls", listener.tls.has_value()}});
      listening_.push_back(listener.text());
    }
    for (const std::string& unused : passed.close_unclaimed()) {
      log_.warn("a socket that was passed to us fits no `listen` and was closed", {{"socket", unused}});
    }
    co_return true;
  }

  // New certificates for new connections. Listeners are known by their addresses, which only a restart changes.
  void set_listeners_tls(const config::Config& config, const std::vector<net::TlsServerPtr>& tls) {
    for (std::size_t door = 0; door < listening_.size(); ++door) {
      for (std::size_t i = 0; i < config.listeners.size(); ++i) {
        if (config.listeners[i].text() != listening_[door]) continue;
        threads_.front()->post([this, door, next = tls[i]](net::Loop&, proxy::LoopProxy&) mutable {
          acceptor_->set_tls(door, std::move(next));
        });
      }
    }
  }

  // A socket that systemd passed under this name or with this address, or one of our own.
  Task<Result<void>> open_listener(const config::Listener& listener, PassedSockets& passed, net::TlsServerPtr tls) {
    net::Endpoint at;
    if (listener.systemd.empty()) {
      auto resolved = co_await net::resolve(loop_, listener.address);
      if (!resolved) co_return std::unexpected(resolved.error());
      at = *resolved;
    }
    const int fd = listener.systemd.empty() ? passed.claim(at) : passed.claim(listener.systemd);
    if (fd < 0 && !listener.systemd.empty()) co_return fail(ErrorKind::invalid, "no socket of this name was passed to us");
    co_return on_first_loop([&] { return acceptor_->listen(listener, at, fd, std::move(tls)); });
  }

  // Runs `work` on the first data-plane loop and waits for it. Only while starting and stopping, when nothing
  // else happens on the control loop.
  template <typename Work>
  auto on_first_loop(Work work) -> decltype(work()) {
    std::promise<decltype(work())> done;
    auto result = done.get_future();
    threads_.front()->post([&](net::Loop&, proxy::LoopProxy&) {
      if constexpr (std::is_void_v<decltype(work())>) {
        work();
        done.set_value();
      } else {
        done.set_value(work());
      }
    });
    return result.get();
  }

  Task<bool> open_admin() {
    if (!config_->admin.enabled) co_return true;
    admin_ = std::make_unique<admin::AdminServer>(loop_, *view_, *this, config_->admin.token);
    auto at = co_await net::resolve(loop_, config_->admin.address);
    Result<void> opened = at ? admin_->listen(*at) : Result<void>(std::unexpected(at.error()));
    if (!opened) {
      log_.error("cannot listen for admin", {{"address", config_->admin.address.text()}, {"why", opened.error().detail}});
      co_return false;
    }
    log_.info("admin", {{"address", "http://" + config_->admin.address.text()}});
    co_return true;
  }

  // --- while it runs ------------------------------------------------------------------------------------------

  Task<void> watch_resources() {
    for (;;) {
      throttling_->tick(clock_.now());
      const auto slept = co_await coro::sleep_until(loop_.now() + Throttling::kEvery);
      if (!slept) co_return;
    }
  }

  // Quantiles, once a second.
  Task<void> tick() {
    for (;;) {
      view_->tick();
      watch_redis();
      const auto slept = co_await coro::sleep_until(loop_.now() + std::chrono::seconds(1));
      if (!slept) co_return;
    }
  }

  // Says when rates begin to be kept alone, and when together again.
  void watch_redis() {
    if (!config_->redis.enabled()) return;
    const bool connected = redis_counters_.connected.load(std::memory_order_relaxed) > 0;
    const std::string_view trouble = view_->redis_trouble();
    if (connected == redis_connected_ || (!connected && trouble.empty())) return;
    redis_connected_ = connected;
    if (connected) {
      log_.info("Redis answers: rates are shared");
    } else {
      log_.warn("Redis is away: this sidecar takes its part of each rate", {{"why", trouble}});
    }
  }

  // Tells systemd that we are alive, as long as the loops of the data plane are.
  Task<void> feed_watchdog() {
    for (;;) {
      const bool alive = std::all_of(threads_.begin(), threads_.end(), [this](const auto& thread) {
        return loop_.now() - thread->ticked() < std::max<Duration>(service_.watchdog() / 2, std::chrono::seconds(3));
      });
      if (alive) service_.alive();
      const auto slept = co_await coro::sleep_until(loop_.now() + service_.watchdog() / 3);
      if (!slept) co_return;
    }
  }

  void on_signal(int number) {
    if (number == SIGUSR1) {
      if (sink_) sink_->reopen();
      return;
    }
    if (number == SIGHUP) {
      // A file that changes while it is read is read again.
      reload_again_ = reloading_;
      if (!stopping_ && !reloading_) errands_.spawn(reload());
      return;
    }
    if (stopping_) {
      log_.warn("second signal: ending at once");
      _exit(1);
    }
    begin_stop(number == SIGTERM ? "SIGTERM" : "SIGINT");
  }

  Task<void> reload() {
    reloading_ = true;
    service_.reloading(clock_.now());
    auto done = co_await try_reload();
    reloading_ = false;
    if (!stopping_) service_.ready(done.empty() ? std::string_view() : "the last reload failed: see the log");
    view_->note("reload", {{"result", done.empty() ? "succeeded" : "failed"}});
    admin::Reloads& state = view_->reload_state;
    state.last_failed = !done.empty();
    state.last_error = done;
    if (done.empty()) {
      ++state.succeeded;
      state.last_success_wall_ms = clock_.wall_ms();
    } else {
      ++state.failed;
      // A line for each mistake: a person reads this.
      for (std::size_t from = 0; from < done.size();) {
        const std::size_t end = std::min(done.find('\n', from), done.size());
        log_.error("reload failed, nothing was changed", {{"why", done.substr(from, end - from)}});
        from = end + 1;
      }
    }
    if (std::exchange(reload_again_, false) && !stopping_) errands_.spawn(reload());
  }

  // Empty, or what is wrong.
  Task<std::string> try_reload() {
    const config::LoadResult loaded = options_.reload();
    if (!loaded) co_return config::format_diagnostics(loaded.error());
    const config::Snapshot fresh = loaded->config;
    if (const auto why = config::why_not_startable(*fresh)) co_return *why;
    auto tls = load_tls(*fresh, tls_parts());
    if (!tls) co_return config::format_diagnostics(tls.error());
    auto plan = co_await make_plan(fresh, tls->workers);
    if (!plan) co_return std::string(plan.error().detail);
    view_->reload_state.waiting_restart.clear();
    for (const config::Change& change : config::diff(*config_, *fresh)) {
      log_.info("setting changed", {{"key", change.key}, {"before", change.before}, {"after", change.after},
                                    {"needs_restart", change.needs_restart}});
      if (change.needs_restart) view_->reload_state.waiting_restart.push_back(change.key);
    }
    for (const config::Diagnostic& warning : loaded->warnings) log_.warn(config::to_string(warning));
    const config::Redis redis_before = config_->redis;
    config_ = fresh;
    view_->current = fresh;
    log_.set_level(fresh->process.log_level);
    if (admin_) admin_->set_token(fresh->admin.token);
    note_tls(tls->notes);
    set_listeners_tls(*fresh, tls->listeners);
    probing_->set(**plan);
    note_rates(**plan);
    if (!(redis_before == fresh->redis)) co_await connect_redis(*fresh);
    throttling_->set(**plan);
    for (auto& thread : threads_) {
      thread->post([next = *plan](net::Loop&, proxy::LoopProxy& proxy) mutable { proxy.adopt(std::move(next)); });
    }
    log_.info("reloaded", {{"config", fresh->source}, {"workers", fresh->workers.size()}});
    co_return std::string();
  }

  // --- operators ------------------------------------------------------------------------------------------------

  Task<admin::Done> change(admin::Change what, std::string peer) override {
    admin::Done done;
    if (what.action == admin::Action::reload) {
      done = co_await reload_for_operator();
    } else {
      done = apply_change(dispatcher_, what, clock_.now());
    }
    if (what.action == admin::Action::drain) {
      if (stopping_) done = {409, "it is stopping already"};
      else begin_stop("drain");
    }
    write_audit(log_, *view_, what, done, peer);
    co_return done;
  }

  Task<admin::Done> reload_for_operator() {
    if (stopping_) co_return admin::Done{409, "it is stopping"};
    reload_again_ = reloading_;
    if (!reloading_) errands_.spawn(reload());
    while (reloading_) {
      const auto slept = co_await coro::sleep_until(loop_.now() + kReloadLook);
      if (!slept) co_return admin::Done{409, "it is stopping"};
    }
    const admin::Reloads& state = view_->reload_state;
    if (state.last_failed) co_return admin::Done{422, "nothing was changed: " + state.last_error};
    co_return admin::Done{200, "reloaded"};
  }

  // --- stop -----------------------------------------------------------------------------------------------------

  void begin_stop(const char* why) {
    const config::Process& process = config_->process;
    log_.info("stopping", {{"why", why}, {"timeout_s", std::chrono::duration_cast<std::chrono::seconds>(process.shutdown_timeout).count()}});
    stopping_ = true;
    service_.stopping();
    view_->shutting_down = true;
    close_at_ = loop_.now() + process.shutdown_delay;
    cut_at_ = close_at_ + process.shutdown_timeout;
    errands_.spawn(watch_drain());
  }
  // Until a stop has run its course.
  Task<void> watch_drain() {
    while (!over_.is_set()) {
      look_at_drain();
      const auto slept = co_await coro::sleep_until(loop_.now() + kDrainLook);
      if (!slept) co_return;
    }
  }

  void look_at_drain() {
    if (!draining_ && loop_.now() >= close_at_) {
      draining_ = true;
      dispatcher_.set_draining(true);
      on_first_loop([this] { acceptor_->close(); });
      for (auto& thread : threads_) {
        thread->post([](net::Loop&, proxy::LoopProxy& proxy) { proxy.drain(); });
      }
      drained_seen_ = 0;
      return;
    }
    if (!draining_) return;
    std::size_t left = 0;
    for (const auto& thread : threads_) left += thread->exchanges();
    // Several times in a row, so that the loops have seen the drain.
    drained_seen_ = left == 0 ? drained_seen_ + 1 : 0;
    if (drained_seen_ >= 3) {
      over_.set();
    } else if (loop_.now() >= cut_at_) {
      log_.warn("time is up: cutting what still runs", {{"exchanges", left}});
      over_.set();
    }
  }

  Task<void> stop_everything() {
    if (probing_) co_await probing_->stop();
    if (admin_) co_await admin_->stop();
    if (acceptor_ && !threads_.empty()) on_first_loop([this] { acceptor_->close(); });
    for (auto& thread : threads_) thread->stop();
    for (auto& thread : threads_) thread->join();
    if (view_) log_.info("stopped");
  }

  RunOptions options_;
  SystemClock clock_;
  config::Snapshot config_;
  telemetry::Log log_;
  const admission::TenantSecret tenant_secret_ = fresh_secret();
  TlsWatch tls_watch_{log_};
  std::shared_ptr<net::TlsTicketKeys> tickets_ = std::make_shared<net::TlsTicketKeys>(clock_);
  const std::shared_ptr<admission::Rates> rates_ = std::make_shared<admission::Rates>();
  state::RedisCounters redis_counters_;
  dispatch::Dispatcher dispatcher_;
  proxy::StoppedStreams stopped_;
  proxy::Sessions sessions_;
  std::unique_ptr<telemetry::LogSink> sink_;
  net::Loop loop_;
  net::SocketConnector connector_;
  ServiceManager service_;
  std::unique_ptr<Shared> shared_;
  std::vector<std::unique_ptr<IoThread>> threads_;
  std::unique_ptr<Acceptor> acceptor_;
  unsigned loops_ = 1;
  std::vector<std::string> listening_;  // the addresses of the acceptor's listeners
  std::unique_ptr<FleetView> view_;
  std::unique_ptr<admin::AdminServer> admin_;
  std::unique_ptr<Probing> probing_;
  std::unique_ptr<Throttling> throttling_;
  std::unique_ptr<net::Signals> signals_;
  coro::Scope scope_;
  coro::Scope errands_;  // what may be given up when the end comes
  coro::Event over_;
  TimePoint close_at_ = kNever;
  TimePoint cut_at_ = kNever;
  int drained_seen_ = 0;
  int status_ = 0;
  bool stopping_ = false;
  bool draining_ = false;
  bool reloading_ = false;
  bool reload_again_ = false;
  std::optional<bool> redis_connected_;  // as the log knows it
  bool redis_told_ = false;  // the loops know of one
};

}  // namespace

int run(const RunOptions& options) {
  Application application(options);
  return application.run();
}

}  // namespace perigee::app
