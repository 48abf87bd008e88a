// The header fields that Perigee knows by name, as small numbers.
//
// A name is looked up once, when its line is parsed; from then on every rule about fields is a test of one
// bit in a HeaderSet. Fields without a rule of their own stand in the list because browsers send them with
// every request, and a known name is cheaper than an unknown one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>

namespace perigee::http {

// X(identifier, "name in lower case")
#define PERIGEE_HTTP_HEADER_NAMES(X)                                   \
  X(accept, "accept")                                                  \
  X(accept_encoding, "accept-encoding")                                \
  X(accept_language, "accept-language")                                \
  X(allow_credentials, "access-control-allow-credentials")             \
  X(allow_headers, "access-control-allow-headers")                     \
  X(allow_methods, "access-control-allow-methods")                     \
  X(allow_origin, "access-control-allow-origin")                       \
  X(expose_headers, "access-control-expose-headers")                   \
  X(cors_max_age, "access-control-max-age")                            \
  X(request_headers, "access-control-request-headers")                 \
  X(request_method, "access-control-request-method")                   \
  X(authorization, "authorization")                                    \
  X(cache_control, "cache-control")                                    \
  X(connection, "connection")                                          \
  X(content_encoding, "content-encoding")                              \
  X(content_length, "content-length")                                  \
  X(content_range, "content-range")                                    \
  X(content_security_policy, "content-security-policy")                \
  X(content_type, "content-type")                                      \
  X(cookie, "cookie")                                                  \
  X(date, "date")                                                      \
  X(etag, "etag")                                                      \
  X(expect, "expect")                                                  \
  X(forwarded, "forwarded")                                            \
  X(host, "host")                                                      \
  X(http2_settings, "http2-settings")                                  \
  X(if_match, "if-match")                                              \
  X(if_modified_since, "if-modified-since")                            \
  X(if_none_match, "if-none-match")                                    \
  X(if_range, "if-range")                                              \
  X(if_unmodified_since, "if-unmodified-since")                        \
  X(keep_alive, "keep-alive")                                          \
  X(last_event_id, "last-event-id")                                    \
  X(last_modified, "last-modified")                                    \
  X(location, "location")                                              \
  X(mcp_protocol_version, "mcp-protocol-version")                      \
  X(mcp_session_id, "mcp-session-id")                                  \
  X(origin, "origin")                                                  \
  X(permissions_policy, "permissions-policy")                          \
  X(pragma, "pragma")                                                  \
  X(priority, "priority")                                              \
  X(proxy_authenticate, "proxy-authenticate")                          \
  X(proxy_authentication_info, "proxy-authentication-info")            \
  X(proxy_authorization, "proxy-authorization")                        \
  X(proxy_connection, "proxy-connection")                              \
  X(range, "range")                                                    \
  X(referer, "referer")                                                \
  X(referrer_policy, "referrer-policy")                                \
  X(retry_after, "retry-after")                                        \
  X(sec_ch_ua, "sec-ch-ua")                                            \
  X(sec_ch_ua_mobile, "sec-ch-ua-mobile")                              \
  X(sec_ch_ua_platform, "sec-ch-ua-platform")                          \
  X(sec_fetch_dest, "sec-fetch-dest")                                  \
  X(sec_fetch_mode, "sec-fetch-mode")                                  \
  X(sec_fetch_site, "sec-fetch-site")                                  \
  X(sec_fetch_user, "sec-fetch-user")                                  \
  X(sec_websocket_accept, "sec-websocket-accept")                      \
  X(sec_websocket_extensions, "sec-websocket-extensions")              \
  X(sec_websocket_key, "sec-websocket-key")                            \
  X(sec_websocket_protocol, "sec-websocket-protocol")                  \
  X(sec_websocket_version, "sec-websocket-version")                    \
  X(server, "server")                                                  \
  X(set_cookie, "set-cookie")                                          \
  X(strict_transport_security, "strict-transport-security")            \
  X(te, "te")                                                          \
  X(traceparent, "traceparent")                                        \
  X(tracestate, "tracestate")                                          \
  X(trailer, "trailer")                                                \
  X(transfer_encoding, "transfer-encoding")                            \
  X(upgrade, "upgrade")                                                \
  X(upgrade_insecure_requests, "upgrade-insecure-requests")            \
  X(user_agent, "user-agent")                                          \
  X(vary, "vary")                                                      \
  X(via, "via")                                                        \
  X(www_authenticate, "www-authenticate")                              \
  X(x_accel_buffering, "x-accel-buffering")                            \
  X(x_api_key, "x-api-key")                                            \
  X(x_content_type_options, "x-content-type-options")                  \
  X(x_forwarded_for, "x-forwarded-for")                                \
  X(x_forwarded_host, "x-forwarded-host")                              \
  X(x_forwarded_port, "x-forwarded-port")                              \
  X(x_forwarded_proto, "x-forwarded-proto")                            \
  X(x_frame_options, "x-frame-options")                                \
  X(x_perigee_reason, "x-perigee-reason")                              \
  X(x_priority, "x-priority")                                          \
  X(x_real_ip, "x-real-ip")                                            \
  X(x_request_deadline, "x-request-deadline")                          \
  X(x_request_id, "x-request-id")                                      \
  X(x_session_id, "x-session-id")                                      \
  X(x_user_id, "x-user-id")                                            \
  X(x_xss_protection, "x-xss-protection")

enum class HeaderName : std::uint8_t {
  other,  // no rule, passed on
  alias,  // unknown, but equal to a guarded name once `_` and `.` are read as `-`: never passed on
#define PERIGEE_HTTP_ENUM(id, text) id,
  PERIGEE_HTTP_HEADER_NAMES(PERIGEE_HTTP_ENUM)
#undef PERIGEE_HTTP_ENUM
};

inline constexpr auto kHeaderNames = std::to_array<std::string_view>({
    "", "",
#define PERIGEE_HTTP_TEXT(id, text) text,
    PERIGEE_HTTP_HEADER_NAMES(PERIGEE_HTTP_TEXT)
#undef PERIGEE_HTTP_TEXT
});
inline constexpr std::size_t kHeaderNameCount = kHeaderNames.size();
static_assert(kHeaderNameCount <= 128, "HeaderSet holds 128 bits");

// Lower case; empty for `other` and `alias`.
constexpr std::string_view to_string(HeaderName id) { return kHeaderNames[static_cast<std::size_t>(id)]; }

// A set of known names: two words.
class HeaderSet {
 public:
  constexpr HeaderSet() = default;
  constexpr HeaderSet(std::initializer_list<HeaderName> names) {
    for (const HeaderName name : names) insert(name);
  }
  explicit constexpr HeaderSet(const std::array<std::uint64_t, 2>& words) : words_(words) {}
  [[nodiscard]] constexpr bool contains(HeaderName id) const { return (words_[word(id)] & bit(id)) != 0; }
  constexpr void insert(HeaderName id) { words_[word(id)] |= bit(id); }
  constexpr void clear() { words_ = {}; }
  [[nodiscard]] constexpr bool intersects(const HeaderSet& other) const {
    return ((words_[0] & other.words_[0]) | (words_[1] & other.words_[1])) != 0;
  }
  [[nodiscard]] constexpr HeaderSet operator|(const HeaderSet& other) const {
    HeaderSet sum = *this;
    sum.words_[0] |= other.words_[0];
    sum.words_[1] |= other.words_[1];
    return sum;
  }

 private:
  static constexpr std::size_t word(HeaderName id) { return static_cast<std::size_t>(id) >> 6; }
  static constexpr std::uint64_t bit(HeaderName id) { return 1ULL << (static_cast<std::size_t>(id) & 63); }
  std::array<std::uint64_t, 2> words_{};
};

// Meaningful between two neighbours only; never passed on (RFC 9110, 7.6.1, and what older proxies invented).
inline constexpr HeaderSet kHopByHop = {
    HeaderName::connection,          HeaderName::keep_alive,          HeaderName::proxy_connection,
    HeaderName::proxy_authenticate,  HeaderName::proxy_authorization, HeaderName::proxy_authentication_info,
    HeaderName::te,                  HeaderName::trailer,             HeaderName::transfer_encoding,
    HeaderName::upgrade,             HeaderName::http2_settings};

// The number of a name, in any case. `name` is a token (the parser has checked it).
HeaderName header_name_from(std::string_view name);

}  // namespace perigee::http
