// How TLS handshakes end, as one closed set for logs and metrics: the network room finds it out, telemetry shows it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace perigee {

// Who is at the other end.
enum class TlsSide : std::uint8_t { client, worker };
inline constexpr std::size_t kTlsSideCount = 2;
inline constexpr std::array<std::string_view, kTlsSideCount> kTlsSideNames = {"client", "worker"};

enum class TlsResult : std::uint8_t {
  full,                   // done, with certificates
  resumed,                // done, with a ticket of an earlier session
  timeout,                // ended by us before it was done: a clock ran out, or we stop
  closed,                 // the peer went away in the middle
  not_tls,                // something else was spoken, such as plain HTTP
  version,                // no version in common
  cipher,                 // no cipher, group or kind of signature in common
  protocol,               // ALPN without http/1.1
  certificate_missing,    // a certificate is required and none was shown
  certificate_untrusted,  // signed by nobody we know, or not good for this use
  certificate_expired,    // or not valid yet
  certificate_name,       // for another name
  alert,                  // the peer said no
  other,
};
inline constexpr std::size_t kTlsResultCount = 14;
inline constexpr std::array<std::string_view, kTlsResultCount> kTlsResultNames = {
    "full",     "resumed", "timeout", "closed", "not_tls", "version", "cipher",
    "protocol", "certificate_missing", "certificate_untrusted", "certificate_expired", "certificate_name",
    "alert",    "other"};
static_assert(static_cast<std::size_t>(TlsResult::other) + 1 == kTlsResultCount);

constexpr std::string_view to_string(TlsSide s) { return kTlsSideNames[static_cast<std::size_t>(s)]; }
constexpr std::string_view to_string(TlsResult r) { return kTlsResultNames[static_cast<std::size_t>(r)]; }
constexpr bool succeeded(TlsResult r) { return r == TlsResult::full || r == TlsResult::resumed; }

}  // namespace perigee
