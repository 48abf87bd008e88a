// A whole data plane in memory on a clock moved by hand: a LoopProxy, a real dispatcher, clients and scripted
// workers on memory streams. When it ends it checks that nothing is left: no frame, ticket, connection.
#pragma once

#include <doctest/doctest.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "../coro/coro_test.h"
#include "perigee/net/memory_stream.h"
#include "perigee/proxy/loop_proxy.h"

namespace perigee::test {

// --- HTTP as a test sees it: simple, strict, and not the code under test -----------------------------------------

struct Message {
  std::string start_line;
  std::multimap<std::string, std::string> fields;  // names in lower case
  std::string body;                                // without framing
  std::vector<std::string> interim;                // start lines of 1xx heads before it
  bool whole = false;                              // all of it came
  bool until_close = false;                        // its end is the connection's
  std::size_t bytes = 0;                           // used of the input

  [[nodiscard]] int status() const;
  [[nodiscard]] std::string field(const std::string& name) const;
  [[nodiscard]] std::string target() const;
  [[nodiscard]] std::string method() const;
};
// The first message in `bytes`; nothing while its head is incomplete. `no_body`: an answer to HEAD.
std::optional<Message> parse_message(std::string_view bytes, bool no_body = false);
// All whole messages one after the other; `rest` is what is left.
std::vector<Message> parse_messages(std::string_view bytes, std::string_view* rest = nullptr);
std::string chunk(std::string_view bytes);
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";

// --- the far ends ----------------------------------------------------------------------------------------------------

class World;

// One connection of a client. Reads all the time unless told not to.
class TestClient {
 public:
  TestClient(World& world, const net::LinkRules& rules);
  TestClient(const TestClient&) = delete;
  TestClient& operator=(const TestClient&) = delete;
  ~TestClient();

  void send(std::string_view bytes);
  void close(bool reset = false);
  void shut_down();
  void read(bool on);

  [[nodiscard]] bool open() const { return stream_ != nullptr; }
  // How the proxy ended it: nothing yet, eof, reset.
  [[nodiscard]] std::optional<ErrorKind> end() const { return end_; }
  [[nodiscard]] const std::string& received() const { return received_; }
  [[nodiscard]] std::vector<Message> answers() const { return parse_messages(received_); }
  // The only answer, whole.
  [[nodiscard]] Message answer() const;
  [[nodiscard]] std::size_t unsent() const { return stream_ == nullptr ? 0 : stream_->backlog(); }

  net::MemoryLink link;

 private:
  static coro::Task<void> run(TestClient& self, net::StreamPtr stream);
  World& world_;
  net::Stream* stream_ = nullptr;
  coro::Event may_read_;
  bool reset_ = false;
  std::optional<ErrorKind> end_;
  std::string received_;
  coro::Scope scope_;
};

// One connection of a worker, in the hands of its script.
struct WorkerConnection {
  net::StreamPtr stream;
  net::MemoryLink link;
  std::string in;  // read, not yet used

  // One more read; false at the end.
  coro::Task<bool> more();
  void send(std::string_view bytes) { (void)stream->write(net::Bytes(bytes)); }
};

struct Worker;
// Answers one request; true: the connection goes on.
using Handler = coro::Task<bool> (*)(Worker&, WorkerConnection&, const Message&);
// Owns a connection from its first byte on, where reading whole requests first is not what is wanted.
using Script = coro::Task<void> (*)(Worker&, WorkerConnection&);

struct Worker {
  Worker(World& w, int i);
  World& world;
  int index;
  config::Worker config;
  net::Endpoint endpoint;
  Handler handler;
  Script script;
  coro::Event go;       // for scripts that wait for a word of the test
  int connections = 0;  // open now
  int accepted = 0;
  int ended_by_peer = 0;  // connections of which the proxy ended its side in good order
  int reset_by_peer = 0;
  std::vector<Message> requests;
  std::uint64_t received = 0;  // body bytes, for scripts that count
  coro::Scope scope;

  [[nodiscard]] net::MemoryNetwork::Host& host();
};

// --- handlers ----------------------------------------------------------------------------------------------------------
coro::Task<bool> say_ok(Worker& w, WorkerConnection& c, const Message& request);  // 200, "w0 GET /path BODY"
coro::Task<bool> wait_then_ok(Worker& w, WorkerConnection& c, const Message& request);  // the same after `go`
coro::Task<bool> reset_at_once(Worker& w, WorkerConnection& c, const Message& request);
coro::Task<bool> close_at_once(Worker& w, WorkerConnection& c, const Message& request);
coro::Task<bool> never_answer(Worker& w, WorkerConnection& c, const Message& request);
coro::Task<bool> chat(Worker& w, WorkerConnection& c,
                      const Message& request);  // an /v1/chat stream of 5 tokens, 10 ms each
coro::Task<void> serve_requests(Worker& w, WorkerConnection& c);  // the script that calls the handler

// --- the world -----------------------------------------------------------------------------------------------------------

// A client's address, connected to 127.0.0.1:3000.
net::Peer peer_at(const char* ip, std::uint16_t port = 40'000);

struct WorldOptions {
  int workers = 1;
  WorkerKind kind = WorkerKind::orbit;
  std::uint32_t slots = 48;
  net::LinkRules client_rules;
  net::LinkRules worker_rules;
  config::Config config;    // workers and pools are filled in
  bool supply_sessions = false;  // to chats that name none; or equal requests of a test would wait for one another
  dispatch::Policy policy;  // not steered, unless `steered`
  net::FailPoint* fail = nullptr;
};

class World {
 public:
  explicit World(const WorldOptions& options = {});
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World();

  // Runs what is ready; then moves time.
  void settle();
  void pass(Duration d);
  [[nodiscard]] TimePoint now() const { return loop.now(); }

  [[nodiscard]] std::unique_ptr<TestClient> connect();
  // Sends `bytes` on a connection of its own and lets at most `limit` pass until an answer is whole.
  Message ask(std::string_view bytes, Duration limit = 1s);

  [[nodiscard]] dispatch::BackendStatus backend(int i) const;
  [[nodiscard]] std::uint32_t tickets() const;
  [[nodiscard]] std::uint64_t count(telemetry::Count c) const;
  [[nodiscard]] std::uint64_t outcomes(telemetry::Reason r) const;  // all classes
  void probe(int i, balancing::ProbeResult result = balancing::ProbeResult::ok);
  proxy::PlanPtr plan_of(config::Config config) const;
  // The access log as lines, and a field of the newest.
  [[nodiscard]] std::string logged(const std::string& key) const;

  WorldOptions options;
  net::Peer client_peer = peer_at("127.0.0.1");  // of clients from now on
  proxy::Entrance entrance;
  coro::ManualLoop loop;
  net::MemoryNetwork network{loop.executor()};
  dispatch::Dispatcher dispatcher{7};
  std::vector<std::string> log_lines;
  std::vector<std::unique_ptr<Worker>> workers;
  proxy::StoppedStreams stopped;
  proxy::Sessions sessions;
  telemetry::LoopMetrics metrics;

 private:
  struct Waker;
  struct Lines;
  struct Pump;
  FrameCheck frames_;
  std::unique_ptr<Waker> waker_;
  std::unique_ptr<dispatch::LoopPort> port_;
  std::unique_ptr<proxy::SessionPort> session_port_;
  std::unique_ptr<Lines> lines_;
  std::unique_ptr<telemetry::AccessLogBuffer> access_log_;
  std::unique_ptr<Pump> pump_;

 public:
  std::unique_ptr<proxy::LoopProxy> proxy;
};

// Requests.
std::string get(std::string_view target, std::string_view more_fields = {});
std::string post(std::string_view target, std::string_view body, std::string_view more_fields = {});
inline std::string chat_request(std::string_view more_fields = {}) {
  return post("/v1/chat", R"({"messages":[{"role":"user","content":"hi"}],"stream":true})", more_fields);
}

}  // namespace perigee::test
