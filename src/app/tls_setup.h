// TLS of the whole process: contexts for every listener and worker of a configuration, the ticket keys they share,
// and what is counted and logged of handshakes.
#pragma once

#include <expected>
#include <memory>
#include <string>
#include <vector>

#include "perigee/config/config.h"
#include "perigee/config/loader.h"
#include "perigee/net/tls.h"
#include "perigee/telemetry/log.h"
#include "perigee/telemetry/tls_counts.h"

namespace perigee::app {

// Counts every handshake and logs those that failed: one line in ten seconds for each listener or worker and result.
class TlsWatch final : public net::TlsEvents {
 public:
  explicit TlsWatch(telemetry::Log& log) : log_(log) {}
  void handshake(TlsSide side, TlsResult result, std::string_view name, std::string_view peer,
                 std::string_view detail) noexcept override;
  [[nodiscard]] const telemetry::TlsMetrics& metrics() const { return metrics_; }

 private:
  telemetry::Log& log_;
  telemetry::TlsMetrics metrics_;
};

// The contexts of one configuration. Null where no TLS is spoken.
struct TlsSetup {
  std::vector<net::TlsServerPtr> listeners;  // as config.listeners
  std::vector<net::TlsClientPtr> workers;    // as config.workers
  net::TlsNotes notes;
};

// Reads all files that `config` names, blocking. The error says of each that is wrong where it is named, and why.
std::expected<TlsSetup, std::vector<config::Diagnostic>> load_tls(const config::Config& config, const net::TlsParts& parts);

}  // namespace perigee::app
