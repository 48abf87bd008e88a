#include "tls_setup.h"

namespace perigee::app {

void TlsWatch::handshake(TlsSide side, TlsResult result, std::string_view name, std::string_view peer,
                         std::string_view detail) noexcept {
  metrics_.count(side, result);
  if (succeeded(result)) return;
  try {
    const std::string subject = "tls " + std::string(name) + " " + std::string(to_string(result));
    if (side == TlsSide::client) {
      log_.repeated(telemetry::LogLevel::info, subject, "a client's TLS handshake failed",
                    {{"listener", name}, {"peer", peer}, {"result", to_string(result)}, {"why", detail}});
    } else {
      log_.repeated(telemetry::LogLevel::warning, subject, "a worker's TLS handshake failed",
                    {{"worker", name}, {"result", to_string(result)}, {"why", detail}});
    }
  } catch (...) {
    // No memory for a log line: it is counted all the same.
  }
}

std::expected<TlsSetup, std::vector<config::Diagnostic>> load_tls(const config::Config& config, const net::TlsParts& parts) {
  TlsSetup setup;
  std::vector<config::Diagnostic> wrong;
  const auto fault = [&](const std::string& key, const std::string& why) {
    const config::Diagnostic one{{config.source, 0, 0}, key, why, {}};
    // What all https workers share is wrong once.
    if (wrong.empty() || wrong.back().key != key) wrong.push_back(one);
  };
  for (std::size_t i = 0; i < config.listeners.size(); ++i) {
    const config::Listener& listener = config.listeners[i];
    net::TlsServerPtr server;
    if (listener.tls) {
      auto loaded = net::load_tls_server(*listener.tls, listener.address.text(), parts, setup.notes);
      if (loaded) server = *loaded;
      else fault("listen[" + std::to_string(i) + "].tls", loaded.error());
    }
    setup.listeners.push_back(std::move(server));
  }
  for (std::size_t i = 0; i < config.workers.size(); ++i) {
    const config::Worker& worker = config.workers[i];
    net::TlsClientPtr client;
    if (worker.https) {
      auto loaded = net::load_tls_client(config.tls_of(worker), worker.name, worker.address.host, parts, setup.notes);
      if (loaded) client = *loaded;
      else fault((worker.tls ? "workers[" + std::to_string(i) + "]" : "upstream") + ".tls", loaded.error());
    }
    setup.workers.push_back(std::move(client));
  }
  if (!wrong.empty()) return std::unexpected(std::move(wrong));
  return setup;
}

}  // namespace perigee::app
