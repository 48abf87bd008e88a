// The admin port: health answers, metrics and the status API, on a port and a loop of their own, so that a
// saturated data plane can still be looked at and a slow dashboard slows no request.
//
// GET shows (`/` lists what), POST changes (admin/control.h). A page that a browser was lured to can do neither: Host
// must be an address or a name of this machine, and the Origin of a change our own. With a token every path but the
// two health answers asks for `Authorization: Bearer`. Bounded: 64 connections, 10 s for a head, 4 KiB of body.
#pragma once

#include <memory>
#include <string>

#include "perigee/admin/control.h"
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
  // Runs on `loop`; `view` and `control` outlive it.
  AdminServer(net::Loop& loop, const View& view, Control& control, std::string token);
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
