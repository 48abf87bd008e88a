// The admin port: health answers, metrics and the status API, on a port and a loop of their own, so that a
// saturated data plane can still be looked at and a slow dashboard slows no request.
//
// GET only: `/`, `/healthz`, `/readyz`, `/metrics`, `/api/v1/{status,backends,queues,config}`. A page that a browser was
// lured to cannot read it: Host must be an address or a name of this machine. With a token every path but
// the two health answers asks for `Authorization: Bearer`. Bounded: 64 connections, 10 s for a head, no bodies.
#pragma once

#include <memory>
#include <string>

#include "perigee/admin/view.h"
#include "perigee/base/result.h"
#include "perigee/coro/task.h"
#include "perigee/net/address.h"

namespace perigee::net {
class Loop;
}

namespace perigee::admin {

class AdminServer {
 public:
  // Runs on `loop`; `view` outlives it.
  AdminServer(net::Loop& loop, const View& view, std::string token);
  ~AdminServer();
  AdminServer(const AdminServer&) = delete;
  AdminServer& operator=(const AdminServer&) = delete;

  Result<void> listen(const net::Endpoint& at);
  // A new token is asked for from now on; empty = none.
  void set_token(std::string token);
  // Closes the port and what is open on it. Await before destruction.
  [[nodiscard]] coro::Task<void> stop();

 private:
  struct Inner;
  std::unique_ptr<Inner> inner_;
};

}  // namespace perigee::admin
