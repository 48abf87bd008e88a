// Workers in memory for tests of the prober: each connection and each answer behaves as the script says.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <string>

#include "perigee/coro/executor.h"
#include "perigee/coro/sleep.h"
#include "perigee/net/socket.h"

namespace perigee::health {

// How a worker behaves from now on.
struct Script {
  enum class Connect { accept, refuse, hang, no_descriptor };
  Connect connect = Connect::accept;
  Duration connect_delay{0};
  Duration delay{0};       // request whole -> answer
  bool silent = false;     // never answers
  bool end_after = false;  // closes its side after the answer, or at once when it has none
  bool greets = false;     // sends `nonsense` as soon as it is connected
  std::string nonsense;    // sent instead of an answer
  std::function<std::string(const std::string& target)> answer;  // the whole message
};

std::string message(int status, const std::string& body, const std::string& extra = "");
// ORBIT's answers: ready, healthy, its metrics.
std::string orbit_answer(const std::string& target);

class FakeWorkers final : public net::Connector {
 public:
  explicit FakeWorkers(coro::Executor& executor) : executor_(executor) {}

  Script script;
  std::map<std::string, int> asked;  // by target
  int connects = 0;
  int open = 0;  // streams that live now
  std::string last_request;

  coro::Task<Result<net::StreamPtr>> connect(const net::Endpoint& to) override;
  coro::Executor& executor() { return executor_; }

 private:
  coro::Executor& executor_;
};

}  // namespace perigee::health
