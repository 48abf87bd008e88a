// Routing: what a request is, from its head alone, and the head that a worker will see.
//
// ORBIT's routes are known (admission/route_table.h); an operator's routes are asked first and may change
// class, priority, replay and pool. Everything here happens in the turn in which the head was parsed.
#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstring>

#include "inner.h"
#include "perigee/http/forward.h"
#include "perigee/http/forwarded.h"
#include "perigee/http/json_peek.h"
#include "perigee/http/target.h"
#include "perigee/http/trace_context.h"
#include "stages.h"

namespace perigee::proxy {
namespace {

using http::HeaderName;

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) {
           return std::tolower(static_cast<unsigned char>(x)) == std::tolower(static_cast<unsigned char>(y));
         });
}

// `pattern` in lower case; `*.example.org` takes any one or more labels in front.
bool host_matches(std::string_view pattern, std::string_view authority) {
  if (pattern.empty()) return true;
  std::string_view host = authority;
  const auto colon = host.rfind(':');
  if (colon != std::string_view::npos && host.find(']', colon) == std::string_view::npos) host = host.substr(0, colon);
  if (!pattern.starts_with("*.")) return equal_ignoring_case(pattern, host);
  const std::string_view suffix = pattern.substr(1);
  return host.size() > suffix.size() && equal_ignoring_case(suffix, host.substr(host.size() - suffix.size()));
}

bool header_matches(const http::HeaderTable& table, const config::HeaderMatch& wanted) {
  return std::any_of(table.begin(), table.end(), [&](const http::Header& h) {
    return equal_ignoring_case(h.name, wanted.name) && (wanted.value.empty() || h.value == wanted.value);
  });
}

bool matches(const config::Route& route, const http::RequestHead& head, std::string_view path,
             const http::HeaderTable& table) {
  const bool path_ok = route.path.empty() || (route.path_prefix ? path.starts_with(route.path) : path == route.path);
  const bool method_ok = route.methods.empty() ||
                         std::find(route.methods.begin(), route.methods.end(), head.method_text) != route.methods.end();
  return path_ok && method_ok && host_matches(route.host, head.authority) &&
         std::all_of(route.headers.begin(), route.headers.end(),
                     [&](const config::HeaderMatch& h) { return header_matches(table, h); });
}

std::uint16_t pool_named(const config::Config& config, const std::string& name) {
  for (std::size_t i = 0; i < config.pools.size(); ++i) {
    if (config.pools[i].name == name) return static_cast<std::uint16_t>(i);
  }
  return 0;  // the loader refuses names that do not exist
}

http::EncodedSlash slash_rule(const config::Config& config, bool orbit) {
  if (orbit) return http::EncodedSlash::separator;
  return config.encoded_slash == config::EncodedSlash::pass ? http::EncodedSlash::pass : http::EncodedSlash::refuse;
}

const config::Route* operator_route(const Exchange& x, std::string_view path) {
  for (const config::Route& route : x.plan->config->routes) {
    if (matches(route, x.head, path, x.proxy.request_table)) return &route;
  }
  return nullptr;
}

void apply(Exchange& x, const config::Route* route) {
  const config::Config& config = *x.plan->config;
  if (route != nullptr && route->request_class) x.verdict.request_class = *route->request_class;
  const config::ClassOverrides& of_class = config.classes.at(x.verdict.request_class);
  if (of_class.priority && !x.verdict.outside_slots) x.verdict.priority = *of_class.priority;
  if (of_class.replay) x.verdict.replay = *of_class.replay;
  x.replay_written = of_class.replay || (route != nullptr && route->replay);
  if (route == nullptr) return;
  if (route->priority) x.verdict.priority = *route->priority;
  if (route->replay) x.verdict.replay = *route->replay;
}

// A trusted peer may say how important its request is.
void apply_priority_field(Exchange& x, bool trusted) {
  if (!trusted || x.verdict.outside_slots) return;
  if (const auto said = priority_from(x.proxy.request_table.value(HeaderName::x_priority))) x.verdict.priority = *said;
}

// … and how long its answer is of use. What is no number is as if it were not there.
void apply_deadline_field(Exchange& x, bool trusted) {
  if (!trusted) return;
  const std::string_view text = x.proxy.request_table.value(HeaderName::x_request_deadline);
  std::uint32_t ms = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), ms);
  if (error == std::errc{} && end == text.data() + text.size()) x.deadline_ms = ms;
}

// The client's address where trusted peers stand between: from the right, the first hop that is not trusted, or the
// last one that is. Empty: the peer itself.
std::string_view client_behind(const config::Config& config, const http::HeaderTable& table) {
  std::string_view client;
  http::HopWalk hops(table);
  for (std::string_view hop = hops.next(); !hop.empty(); hop = hops.next()) {
    const auto ip = config::parse_ip(hop);
    if (!ip) break;
    client = hop;
    if (!config.is_trusted(*ip)) break;
  }
  return client;
}

// A new trace where the operator wants one and the client sent none that is good.
std::array<char, http::kTraceparentBytes> begin_trace(Exchange& x) {
  Rng& rng = x.proxy.rng;
  for (std::size_t half = 0; half < 2; ++half) {
    const std::uint64_t bits = rng.next() | 1U;  // never zero
    std::memcpy(x.trace_id.data() + 8 * half, &bits, sizeof bits);
  }
  return http::write_traceparent(x.trace_id, rng.next() | 1U, x.plan->config->tracing.sampled);
}

http::SseDialect dialect_of(std::string_view path, bool orbit) {
  if (path == "/v1/chat/completions") return http::SseDialect::openai;
  return orbit && path == "/v1/chat" ? http::SseDialect::orbit_chat : http::SseDialect::generic;
}

}  // namespace

Result<void> route(Exchange& x) {
  const config::Config& config = *x.plan->config;
  const http::HeaderTable& table = x.proxy.request_table;
  const dispatch::Dispatcher& dispatcher = x.proxy.parts.dispatcher;
  x.method = x.head.method_text;
  x.keep_alive = x.head.keep_alive && !x.client.draining;
  x.trusted = config.is_trusted(x.client.peer.ip);
  if (x.trusted) x.client_address = client_behind(config, table);
  if (const auto given = http::request_id_for(table, {}); !given.empty()) {
    x.request_id.assign(given);
  } else {
    x.proxy.make_request_id(x.request_id);
  }
  const std::string_view origin = table.value(HeaderName::origin);
  if (!origin.empty()) x.cors = cors_lines(config.cors, origin);

  x.pool = x.plan->pools[0];
  x.orbit = dispatcher.pool_kind(x.pool) != WorkerKind::http;
  x.proxy.path_buffer.resize(std::max(x.proxy.path_buffer.size(), x.head.target.size()));
  http::NormalPath normal = http::normalise_path(x.head.target, slash_rule(config, x.orbit), x.proxy.path_buffer);
  if (!normal.ok()) return fail(ErrorKind::protocol, normal.refused, Side::client, 400);
  const config::Route* written = config.routes.empty() ? nullptr : operator_route(x, normal.path);
  if (written != nullptr && !written->pool.empty()) {
    x.pool_index = pool_named(config, written->pool);
    x.pool = x.plan->pools[x.pool_index];
    x.orbit = dispatcher.pool_kind(x.pool) != WorkerKind::http;
  }
  if (x.proxy.parts.access_log != nullptr) x.path.assign(x.head.target.substr(0, x.head.target.find('?')));
  x.error_shape = http::error_shape(normal.path);
  x.dialect = dialect_of(normal.path, x.orbit);

  x.event_stream_accepted = table.value(HeaderName::accept).starts_with("text/event-stream");
  const bool preflight = x.head.method == http::Method::options && !origin.empty() &&
                         table.has(HeaderName::request_method);
  x.verdict = admission::classify(x.head.method_text, normal.path, x.orbit ? WorkerKind::orbit : WorkerKind::http, preflight);
  apply(x, written);
  identify(x);
  apply_priority_field(x, x.trusted);
  apply_deadline_field(x, x.trusted);
  if (x.verdict.operators_only && !x.trusted && config.admin_routes == config::AdminRoutes::trusted) {
    return fail(ErrorKind::protocol, "for operators only", Side::client, 403);
  }
  x.replay = x.verdict.replay;

  const std::uint64_t bound = config.bodies.of(x.verdict.request_class, x.orbit);
  if (x.head.framing == http::Framing::length && x.head.content_length > bound) {
    return fail(ErrorKind::too_large, "the body is larger than allowed here", Side::client, 413);
  }
  if (!x.body_complete) x.client.parser.bound_body(bound);
  return {};
}

void forward_head(Exchange& x) {
  const config::Config& config = *x.plan->config;
  http::ForwardContext context;
  context.peer = x.client.peer.text.data();
  context.scheme = x.client.peer.secure ? "https" : "http";
  context.trusted = x.trusted;
  context.client = x.client_address;
  const http::TraceContext trace = http::read_trace_context(x.proxy.request_table);
  context.drop_traceparent = trace.drop_parent;
  context.drop_tracestate = trace.drop_state;
  x.trace_id = trace.id;
  std::array<char, http::kTraceparentBytes> begun;
  if (!trace.valid && config.tracing.start) {
    begun = begin_trace(x);
    context.traceparent = {begun.data(), begun.size()};
  }
  context.request_id = x.request_id;
  // ORBIT's MCP server answers only to a loopback name; HTTP/1.0 clients may send no Host at all.
  if (x.verdict.rewrite_host) context.host = "localhost";
  if (x.head.authority.empty()) context.host = "localhost";
  context.framing = x.head.framing;
  context.content_length = x.head.content_length;
  if (x.head.upgrade != http::UpgradeKind::none) x.upgrade_protocol.assign(x.head.upgrade_protocol);
  http::write_request_head(x.out, x.head, x.proxy.request_table, context);
  x.out_head_bytes = static_cast<std::uint32_t>(x.out.size());
}

void look_into_body(Exchange& x) {
  if (x.verdict.stream_look == admission::StreamLook::none) return;
  const std::string_view body = x.out.view().substr(x.out_head_bytes, http::kJsonPeekBytes);
  const http::JsonPeek peek = http::peek_json(body, x.body_complete && x.out.size() - x.out_head_bytes == body.size());
  if (x.verdict.stream_look == admission::StreamLook::stream_field) {
    x.streamed = peek.stream == http::Tristate::yes;
  } else {
    x.streamed = peek.method.found && peek.method.raw == "tasks/sendSubscribe";
  }
  // What the operator wrote stands; only the built-in rule depends on the kind of answer.
  if (!x.replay_written) x.replay = admission::effective_replay(x.verdict, x.streamed);
}

}  // namespace perigee::proxy
