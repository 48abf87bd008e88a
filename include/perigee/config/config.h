// The configuration as everyone reads it: plain structs, complete, checked, never changed.
//
// The loader (loader.h) makes one `Config` from a file and hands it out as a `Snapshot`; a reload makes
// another and swaps it whole. Any thread may read a snapshot for as long as it holds it. The default value
// of each field stands here and nowhere else; src/config/*_table.cpp gives each field its key, range and
// text.
//
// Durations are non-negative. Where a clock may be switched off the field says so, and then holds kNoClock.
// Bytes are bytes. A bound that is off holds kUnbounded.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "perigee/base/time.h"
#include "perigee/base/vocabulary.h"
#include "perigee/config/address.h"
#include "perigee/config/tenants.h"

namespace perigee::config {

using namespace std::chrono_literals;

inline constexpr Duration kNoClock = Duration::max();
inline constexpr std::uint32_t kUnbounded = std::numeric_limits<std::uint32_t>::max();
// What the dispatcher's tables hold; more of them is an error in the file.
inline constexpr std::uint32_t kMaxWorkers = 64;
inline constexpr std::uint32_t kMaxPools = 16;  // the pool of all workers included
inline constexpr std::uint32_t kMaxIoThreads = 31;
inline constexpr std::size_t kMaxNameBytes = 128;  // of a worker or pool
inline constexpr std::uint64_t kKiB = 1024;
inline constexpr std::uint64_t kMiB = 1024 * 1024;

// One value for each class of work; index with at(), or with [] and an index of RequestClass.
template <typename T>
struct PerClass {
  std::array<T, kClassCount> values{};

  constexpr PerClass() = default;
  constexpr explicit PerClass(const T& all) { values.fill(all); }
  constexpr PerClass& set(RequestClass c, const T& value) {
    values[static_cast<std::size_t>(c)] = value;
    return *this;
  }
  constexpr const T& at(RequestClass c) const { return values[static_cast<std::size_t>(c)]; }
  constexpr T& at(RequestClass c) { return values[static_cast<std::size_t>(c)]; }
  bool operator==(const PerClass&) const = default;
};

// --- Where clients and operators reach us ----------------------------------------------------------------

enum class TlsVersion : std::uint8_t { tls12, tls13 };
inline constexpr std::array<std::string_view, 2> kTlsVersionNames = {"1.2", "1.3"};

// What is asked of clients: nothing; a certificate, checked where one is shown; a good certificate.
enum class ClientAuth : std::uint8_t { none, optional, required };
inline constexpr std::array<std::string_view, 3> kClientAuthNames = {"none", "optional", "required"};

// Two PEM files; the first one holds the chain too.
struct Certificate {
  std::string cert;
  std::string key;
  bool operator==(const Certificate&) const = default;
};

// TLS of a listener. Files are named here and read by net.
struct ServerTls {
  std::vector<Certificate> certificates;  // at least one; the first is for names that no other has
  std::string client_ca;                  // not empty where client_auth is not none
  ClientAuth client_auth = ClientAuth::none;
  TlsVersion min_version = TlsVersion::tls12;
  bool operator==(const ServerTls&) const = default;
};

// TLS towards https workers.
struct ClientTls {
  bool verify = true;
  std::string ca_file;      // empty = the system's
  std::string server_name;  // asked for and looked for in the certificate; empty = the host in the URL
  std::string cert;         // ours, to be shown to workers; empty = none
  std::string key;          // written where cert is, and only there
  TlsVersion min_version = TlsVersion::tls12;
  bool operator==(const ClientTls&) const = default;
};

// Whose connections begin with a PROXY header (versions 1 and 2): a balancer's own addresses.
struct ProxyProtocol {
  std::vector<Cidr> from;  // empty = nobody's: nothing is ever looked for
  [[nodiscard]] bool expected_from(const std::array<std::uint8_t, 16>& peer) const;
  bool operator==(const ProxyProtocol&) const = default;
};

// One place where clients come in. What else is agreed on there is a member here.
struct Listener {
  Address address{Address::Kind::tcp, "0.0.0.0", 3000, {}};
  std::string systemd;                // name of a socket that systemd passes; then `address` means nothing
  std::optional<std::uint32_t> mode;  // permissions of a Unix socket's file; nothing = what the umask leaves
  ProxyProtocol proxy_protocol;
  std::optional<ServerTls> tls;

  // As it is written: `0.0.0.0:3000`, `unix:/run/perigee.sock`, `systemd:NAME`.
  [[nodiscard]] std::string text() const { return systemd.empty() ? address.text() : "systemd:" + systemd; }
  bool operator==(const Listener&) const = default;
};

struct Admin {
  bool enabled = true;
  Address address{Address::Kind::tcp, "127.0.0.1", 9300, {}};
  std::string token;  // secret; empty = none. Never empty when the address is not loopback
  bool operator==(const Admin&) const = default;
};

// --- Workers and pools -----------------------------------------------------------------------------------

// Whether connections to a worker begin with a PROXY header that names the client. Such a connection carries one
// request: it is one client's, and is used for nobody else.
enum class ProxyProtocolOut : std::uint8_t { off, v1, v2 };
inline constexpr std::array<std::string_view, 3> kProxyProtocolOutNames = {"off", "v1", "v2"};

struct Worker {
  std::string name;                                      // unique, no `/`; `host:port` unless written
  Address address;                                       // from the URL
  std::string host;                                      // Host field of probes: the URL's authority
  bool https = false;                                    // spoken to with TLS
  std::optional<ClientTls> tls;                          // https: its own, in place of Upstream::tls
  double weight = 1.0;                                   // 0.01 … 100
  WorkerKind kind = WorkerKind::unknown;                 // unknown = found by the first probe
  std::optional<std::uint32_t> max_concurrent_requests;  // this worker's own, before the general one
  std::optional<std::uint32_t> provider_connections;     // this worker's own, before the general one
  std::string pid_file;                     // holds the id of its process; empty = found by its listening socket
  std::optional<std::uint64_t> memory_limit;  // bytes its process may use; nothing = its control group's
  ProxyProtocolOut proxy_protocol = ProxyProtocolOut::off;
  bool operator==(const Worker&) const = default;
  // Where and how it is reached: a worker with another origin is another worker.
  [[nodiscard]] std::string origin() const { return (https ? "https://" : "") + address.text(); }
};

// A controller of a pool besides the law of admission (admission/overload.h).
enum class Overload : std::uint8_t { none, codel, lifo, pi };
inline constexpr std::array<std::string_view, 4> kOverloadNames = {"none", "codel", "lifo", "pi"};

struct Pool {
  std::string name = "default";
  std::vector<std::uint32_t> workers;  // indices into Config::workers
  Overload overload = Overload::none;
  bool batch = false;                  // grants are made in batches: Queue::batch_size, batch_timeout
  bool operator==(const Pool&) const = default;
};

enum class Picker : std::uint8_t { least_loaded, round_robin, least_outstanding };
inline constexpr std::array<std::string_view, 3> kPickerNames = {"least_loaded", "round_robin",
                                                                 "least_outstanding"};

// How a session keeps to one worker, as far as that one's load allows: the one that served it last, or the one that its
// hash leads to, which is the same for every sidecar and after a restart.
enum class Affinity : std::uint8_t { session, hash, none };
inline constexpr std::array<std::string_view, 3> kAffinityNames = {"session", "hash", "none"};

struct Balancing {
  Picker picker = Picker::least_loaded;
  Affinity affinity = Affinity::session;  // of chats to ORBIT workers
  double load_bound = 1.5;  // how much busier than its share the preferred worker may be
  double hold = 2.0;  // a worker `speed` times slower than the fastest stays idle while fewer than hold · speed wait
  bool operator==(const Balancing&) const = default;
};

// --- How much at once ------------------------------------------------------------------------------------

// Bounds of the whole sidecar.
struct Limits {
  std::uint32_t streams = 5000;  // streamed answers after their first event
  std::uint32_t tunnels = 1000;  // a backend: upgraded connections and endless GETs, which hold no ticket
  // Exchanges until their first event, or until their end where nothing streams; kUnbounded = no limit.
  PerClass<std::uint32_t> by_class = PerClass<std::uint32_t>(kUnbounded)
                                         .set(RequestClass::chat, 2000)
                                         .set(RequestClass::embeddings, 1000)
                                         .set(RequestClass::search, 1500);
  bool operator==(const Limits&) const = default;
};

// What a class may always have, or at most, on one worker.
struct Shares {
  PerClass<double> floor;  // share of a worker's slots that it gets even where others fill them; 0 = none
  PerClass<std::uint32_t> ceiling = PerClass<std::uint32_t>(kUnbounded);  // slots of one worker
  bool operator==(const Shares&) const = default;
};

enum class Steering : std::uint8_t { head_lag, fixed };
inline constexpr std::array<std::string_view, 2> kSteeringNames = {"head_lag", "fixed"};
// By times to the first event.
enum class TimeSteering : std::uint8_t { fixed, adaptive };
inline constexpr std::array<std::string_view, 2> kTimeSteeringNames = {"fixed", "adaptive"};

// Tickets a backend may have out at once. The ceiling of one worker is Config::slot_ceiling().
struct Slots {
  Steering steering = Steering::head_lag;  // fixed: `start` and the starting pace are kept as they are
  std::uint32_t start = 48;                // ORBIT worker at our start
  std::uint32_t recovered = 8;             // ORBIT worker that is new or came back
  std::uint32_t floor = 4;                 // steering never goes below
  std::uint32_t http = 1024;               // other worker where max_concurrent_requests is not written
  TimeSteering http_steering = TimeSteering::fixed;  // adaptive: `http` is the ceiling
  Duration http_objective = kNoClock;      // time to the first event to steer for until it was measured; kNoClock = unknown
  TimeSteering class_steering = TimeSteering::fixed;  // of embeddings, search and files, each on each ORBIT worker
  std::uint32_t critical = 4;              // extra ones that only critical requests take
  bool operator==(const Slots&) const = default;
};

// Starts a second on an ORBIT worker. Other workers have no pace.
struct Pace {
  double start = 25.0;  // 0 = no pace
  double recovered = 5.0;
  double floor = 0.5;
  double ceiling = 500.0;
  bool operator==(const Pace&) const = default;
};

// The thread pools of an ORBIT worker, each bounding the *starting* exchanges of the classes that use it.
enum class ThreadPool : std::uint8_t { io, cpu, inference, embedding, db };
inline constexpr std::size_t kThreadPoolCount = 5;
constexpr std::optional<ThreadPool> thread_pool_of(RequestClass c) {
  switch (c) {
    case RequestClass::chat: return ThreadPool::inference;
    case RequestClass::embeddings: return ThreadPool::embedding;
    case RequestClass::search: return ThreadPool::cpu;
    case RequestClass::files: return ThreadPool::io;
    case RequestClass::admin:
    case RequestClass::a2a:
    case RequestClass::mcp: return ThreadPool::db;
    case RequestClass::health:
    case RequestClass::voice:
    case RequestClass::other: break;
  }
  return std::nullopt;
}
// Bound of starting exchanges a backend, shared by the classes of one thread pool; kUnbounded = not written.
struct Starting {
  std::array<std::uint32_t, kThreadPoolCount> bound{kUnbounded, kUnbounded, kUnbounded, kUnbounded,
                                                    kUnbounded};
  [[nodiscard]] std::uint32_t of(RequestClass c) const {
    const auto pool = thread_pool_of(c);
    return pool ? bound[static_cast<std::size_t>(*pool)] : kUnbounded;
  }
  bool operator==(const Starting&) const = default;
};

// --- Waiting ---------------------------------------------------------------------------------------------

struct Queue {
  std::uint32_t entries = 5000;           // for all
  std::uint32_t priority_entries = 1000;  // more, for critical and high only
  std::uint64_t bytes = 64 * kMiB;        // bodies of those who wait
  std::uint32_t batch_size = 10;          // in pools for batch work: granted when so many wait …
  Duration batch_timeout = 100ms;         // … or the oldest has waited for so long
  // Whether waiting tenants take fair turns; nothing = where anything else asks who a request is from.
  std::optional<bool> tenant_turns;
  bool operator==(const Queue&) const = default;
};

// Longest wait for a ticket. In a pool without an ORBIT worker all requests are of class `other` and
// `http` holds.
struct QueueWait {
  PerClass<Duration> by_class =
      PerClass<Duration>(10s).set(RequestClass::chat, 30s).set(RequestClass::files, 60s);
  Duration http = 30s;
  [[nodiscard]] Duration of(RequestClass c, bool orbit_pool) const {
    return orbit_pool ? by_class.at(c) : http;
  }
  bool operator==(const QueueWait&) const = default;
};

// What a machine that is short of CPU or memory does (admission/throttle.h). Shares of what may be used.
struct Throttle {
  bool enabled = true;
  double cpu = 0.80;
  double cpu_hard = 0.95;
  double memory = 0.85;
  double memory_hard = 0.95;
  bool operator==(const Throttle&) const = default;
};

// --- Time ------------------------------------------------------------------------------------------------

// Towards workers. Each may be kNoClock except `connect`.
struct Clocks {
  Duration connect = 2s;
  Duration head_stream = 60s;    // dispatch → head of an answer that was asked for as a stream
  Duration head = 300s;          // dispatch → head of any other answer
  Duration first_event = 300s;   // head → first event of a stream
  Duration silence = 300s;       // between two reads of a stream
  Duration body_silence = 300s;  // between two reads of a body that is not a stream
  Duration total = kNoClock;     // dispatch → end
  bool operator==(const Clocks&) const = default;
};

// What becomes of a request whose client left, once a worker has it: its answer is read on for this long
// and thrown away, and it keeps its slot meanwhile. 0 = the worker's connection is closed at once,
// kNoClock = to its end. Never longer than `detached_max` after dispatch.
struct Abandoned {
  Duration streams = 0s;       // closing makes ORBIT stop its provider
  Duration orbit = kNoClock;   // other requests to ORBIT, which does not notice that nobody waits
  Duration http = 0s;          // other requests to other workers
  bool operator==(const Abandoned&) const = default;
};

// Towards clients.
struct Client {
  Duration head = 10s;             // first byte of a head → its end
  std::uint64_t body_rate = kKiB;  // least bytes a second of a body, averaged, once `body_grace` has passed
  Duration body_grace = 10s;
  Duration keep_alive = 75s;  // idle between two requests
  Duration stalled = 60s;     // a client that takes no byte of its answer
  bool operator==(const Client&) const = default;
};

// Connections towards workers that are kept open between requests.
struct Upstream {
  Duration idle = 4s;                     // closed by us after this; ORBIT's server closes after 5 s
  std::uint32_t idle_per_worker = 256;    // a loop and backend
  std::uint32_t idle_total = kUnbounded;  // a loop, all backends
  ClientTls tls;                          // of https workers that have none of their own
  bool operator==(const Upstream&) const = default;
};

// --- When things fail ------------------------------------------------------------------------------------

struct Retries {
  // Further attempts after the first.
  PerClass<std::uint32_t> by_class = PerClass<std::uint32_t>(2).set(RequestClass::chat, 1);
  double budget = 0.10;  // retries ≤ this share of recent requests
  bool operator==(const Retries&) const = default;
};

struct Breaker {
  std::uint32_t consecutive = 5;  // counted failures in a row that open it
  double ratio = 0.5;             // failed share of recent requests that opens it; 0 = none does
  std::uint32_t ratio_minimum = 20;  // of them, before their share is looked at
  Duration window = 10s;          // how recent
  Duration open = 5s;             // first time open; doubles with each trip in a row
  Duration open_max = 60s;
  double jitter = 0.2;       // share of the open time, either way
  std::uint32_t trials = 3;  // half-open: at most this many at once, all must succeed
  bool operator==(const Breaker&) const = default;
};

// How a worker that is not ORBIT is looked at. ORBIT is always asked for /health/ready.
enum class ProbeKind : std::uint8_t { http, tcp };
inline constexpr std::array<std::string_view, 2> kProbeKindNames = {"http", "tcp"};

struct Probe {
  Duration interval = 2s;
  double jitter = 0.10;             // share of the interval, either way
  Duration down_interval = 1s;      // while the worker is down
  Duration first_interval = 250ms;  // until the first answer
  Duration silent = 10s;            // no answer for this long: no new tickets until one comes
  Duration lag_interval = 250ms;    // GET /health of ORBIT, while anything waits or runs
  std::uint32_t fall = 3;
  std::uint32_t rise = 2;
  ProbeKind kind = ProbeKind::http;
  std::string path = "/";  // kind http
  bool operator==(const Probe&) const = default;
};

// --- What requests may look like -------------------------------------------------------------------------

struct Heads {
  std::uint64_t bytes = 64 * kKiB;  // start line and fields
  std::uint32_t fields = 128;
  std::uint64_t target = 16 * kKiB;
  bool operator==(const Heads&) const = default;
};

struct Bodies {
  std::uint64_t json = 8 * kMiB;     // ORBIT: all but uploads
  std::uint64_t upload = 64 * kMiB;  // ORBIT: class files
  std::uint64_t http = 64 * kMiB;    // other workers
  [[nodiscard]] std::uint64_t of(RequestClass c, bool orbit_pool) const {
    if (!orbit_pool) return http;
    return c == RequestClass::files ? upload : json;
  }
  bool operator==(const Bodies&) const = default;
};

// What the process may keep in buffers for its connections, all loops together.
struct Memory {
  std::uint64_t buffers = 512 * kMiB;
  bool operator==(const Memory&) const = default;
};

enum class EncodedSlash : std::uint8_t { refuse, pass };
inline constexpr std::array<std::string_view, 2> kEncodedSlashNames = {"refuse", "pass"};

struct HeaderMatch {
  std::string name;   // lower case
  std::string value;  // equal; empty = present with any value
  bool operator==(const HeaderMatch&) const = default;
};

// An operator's route; asked in the order written, before ORBIT's own routes. What it leaves out stays as
// the next match (or ORBIT's table) has it.
struct Route {
  std::string host;                  // without port, lower case; `*.example.org` allowed; empty = any
  std::vector<std::string> methods;  // empty = any
  std::string path;  // exact, or a prefix if it ends in `*` (which is not kept: see path_prefix)
  bool path_prefix = false;
  std::vector<HeaderMatch> headers;  // all must match
  std::string model;  // of the JSON body's `model`; `*` stands for any run of characters; empty = any, or none
  std::optional<RequestClass> request_class;
  std::optional<Priority> priority;
  std::optional<Replay> replay;
  std::string pool;  // empty = the default pool
  bool operator==(const Route&) const = default;
};

// What the operator changed about a class, everywhere.
struct ClassOverrides {
  std::optional<Priority> priority;
  std::optional<Replay> replay;
  std::optional<Duration> head_stream;
  std::optional<Duration> head;
  std::optional<Duration> first_event;
  std::optional<Duration> silence;
  std::optional<Duration> body_silence;
  std::optional<Duration> total;
  std::optional<Duration> connect;
  std::optional<std::uint64_t> body_rate;
  std::optional<Duration> body_grace;
  std::optional<Duration> stalled;
  std::optional<Duration> heart_beats;
  std::optional<Duration> abandoned;
  bool operator==(const ClassOverrides&) const = default;
};

// Who may call those of ORBIT's /admin routes that are an operator's: pause, shutdown, restart, keys, configuration.
// ORBIT lets any client key.
enum class AdminRoutes : std::uint8_t { pass, trusted };
inline constexpr std::array<std::string_view, 2> kAdminRoutesNames = {"pass", "trusted"};

// W3C trace context: a valid one always passes; this is about requests that have none.
struct Tracing {
  bool start = false;   // begin a trace, so that workers and the access log share an id
  bool sampled = true;  // and mark it as recorded: a worker's tracer may follow the mark instead of its own share
  bool operator==(const Tracing&) const = default;
};

// Sessions of chats and what else belongs to one worker, in front of ORBIT.
struct Sessions {
  bool turns = true;                  // one chat turn a session at a time: the next waits for the end of the last
  std::uint32_t waiting = 16;         // turns of one session that may wait …
  std::uint32_t waiting_total = 2000; // … and of all
  bool supply = true;                 // a chat without X-Session-ID gets one, made of the key and how its conversation begins
  bool by_address = true;             // … and of the client's address
  // … and of these fields, where a client sends them.
  std::vector<std::string> told_by{"X-OpenWebUI-Chat-Id", "X-OpenWebUI-User-Id", "X-User-ID"};
  bool calls = true;                  // job, MCP and A2A calls go to the worker that knows their id
  bool operator==(const Sessions&) const = default;
};

// Fields on errors that Perigee itself answers, so that a browser may read them. Defaults are ORBIT's.
struct Cors {
  bool enabled = true;
  std::vector<std::string> origins{"*"};
  bool credentials = false;
  std::vector<std::string> exposed{"X-Request-ID", "X-RateLimit-*"};
  bool operator==(const Cors&) const = default;
};

// --- The process -----------------------------------------------------------------------------------------

struct AccessLog {
  bool enabled = true;
  std::string destination = "stdout";  // stdout, stderr, or a file's path
  std::uint64_t block = 32 * kKiB;     // written when this much is there …
  Duration flush = 1s;                 // … or this has passed
  bool operator==(const AccessLog&) const = default;
};

enum class LogLevel : std::uint8_t { debug, info, warning, error };
inline constexpr std::array<std::string_view, 4> kLogLevelNames = {"debug", "info", "warning", "error"};

struct Process {
  std::uint32_t io_threads = 0;       // 0 = 1 on up to 2 cores, else up to 4
  std::uint32_t max_connections = 0;  // 0 = derived from the descriptor limit
  Duration shutdown_delay = 0s;       // SIGTERM → listeners close
  Duration shutdown_timeout = 120s;   // then running exchanges are cut
  Duration detached_max = 300s;       // a request whose client left holds its ticket this long at most
  LogLevel log_level = LogLevel::info;
  bool operator==(const Process&) const = default;
};

// A setting that was written (or stands in the table of defaults) and does nothing yet in this version.
struct NotYet {
  std::string key;    // `performance.caching.response_cache.ttl`
  std::string value;  // as JSON, secrets redacted; empty for a default that was not written
  std::string about;  // what it will do
  std::string where;  // file:line:column, or empty for a default
  bool operator==(const NotYet&) const = default;
};

struct Config {
  std::vector<Listener> listeners{Listener{}};
  Admin admin;
  std::vector<Worker> workers;  // may be empty: `perigee check` accepts it, starting does not
  std::vector<Pool> pools;      // at least one; pools[0] has all workers unless written otherwise
  Balancing balancing;
  std::optional<std::uint32_t> max_concurrent_requests;  // hard ceiling of slots a backend
  std::uint32_t provider_connections = 100;              // of one ORBIT worker to its model provider
  Limits limits;
  Shares shares;
  Slots slots;
  Pace pace;
  Starting starting;
  Queue queue;
  QueueWait queue_wait;
  Throttle throttle;
  Overload overload = Overload::none;  // of the pool of all workers
  // From a request's first byte until its answer is of no use; kNoClock = always of use.
  PerClass<Duration> deadlines = PerClass<Duration>(kNoClock);
  Clocks clocks;
  PerClass<ClassOverrides> classes;
  Abandoned abandoned;
  // SSE comments to clients of streams that have heard nothing for this long; kNoClock = none.
  Duration heart_beats = kNoClock;
  Client client;
  Upstream upstream;
  Retries retries;
  Breaker breaker;
  Probe probe;
  Heads heads;
  Bodies bodies;
  Memory memory;
  EncodedSlash encoded_slash = EncodedSlash::refuse;
  std::vector<Route> routes;
  std::vector<Cidr> trusted;
  std::vector<std::pair<std::string, Tenant>> tenants;  // by name
  std::vector<RateLimit> rate_limits;
  Redis redis;
  AdminRoutes admin_routes = AdminRoutes::pass;
  Sessions sessions;
  Tracing tracing;
  Cors cors;
  AccessLog access_log;
  Process process;
  std::vector<NotYet> not_yet;

  std::string source;  // the file's name, or `command line`

  // A clock of `clocks`, or the class's own where that is written.
  [[nodiscard]] Duration clock(RequestClass c, std::optional<Duration> ClassOverrides::*own,
                               Duration Clocks::*common) const {
    return (classes.at(c).*own).value_or(clocks.*common);
  }
  // The same of `client`.
  template <typename T>
  [[nodiscard]] T client_of(RequestClass c, std::optional<T> ClassOverrides::*own, T Client::*common) const {
    return (classes.at(c).*own).value_or(client.*common);
  }
  [[nodiscard]] Duration heart_beats_of(RequestClass c) const {
    return classes.at(c).heart_beats.value_or(heart_beats);
  }
  // Most slots worker `w` may ever have. `kind`: what its probe found.
  [[nodiscard]] std::uint32_t slot_ceiling(const Worker& w, WorkerKind kind) const;
  // For an https worker.
  [[nodiscard]] const ClientTls& tls_of(const Worker& w) const { return w.tls ? *w.tls : upstream.tls; }
  // Whether `peer` may say who its clients are and what matters (X-Forwarded-*, X-Priority, X-Request-Deadline). See
  // Cidr::contains.
  [[nodiscard]] bool is_trusted(const std::array<std::uint8_t, 16>& peer) const;

  // Whether waiting tenants take turns.
  [[nodiscard]] bool takes_turns() const { return queue.tenant_turns.value_or(!tenants.empty() || !rate_limits.empty()); }
  // Whether anything asks who a request is from: if not, nobody looks.
  [[nodiscard]] bool knows_tenants() const {
    const auto asks = [](const Pool& pool) { return pool.overload == Overload::pi; };
    return takes_turns() || !tenants.empty() || !rate_limits.empty() || std::ranges::any_of(pools, asks);
  }

  bool operator==(const Config&) const = default;
};

using Snapshot = std::shared_ptr<const Config>;

}  // namespace perigee::config
