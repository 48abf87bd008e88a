// The running sidecar: the control loop with its signals, prober and admin port, and the data-plane threads.
//
// run() is called on the process's first thread, which becomes the control thread; it returns the exit
// status. Everything is built in start-up order and taken down in the reverse.
#pragma once

#include <functional>
#include <memory>

#include "perigee/config/loader.h"
#include "service_manager.h"

namespace perigee::app {

struct RunOptions {
  config::Snapshot config;
  // Reads the configuration again for SIGHUP.
  std::function<config::LoadResult()> reload;
  // What systemd said in the environment; empty where nobody did.
  ServiceEnvironment service;
};

int run(const RunOptions& options);

}  // namespace perigee::app
