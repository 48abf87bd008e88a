// Routing: what a request is, from its head alone, and the head that a worker will see.
//
// ORBIT's routes are known (admission/route_table.h); an operator's routes are asked first and may change
// class, priority, replay and pool. Everything here happens in the turn in which the head was parsed.
#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstring>

#include "belonging.h"
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

// The first route that fits. Those before it that fit but for a model can only be asked when the body has come.
const config::Route* operator_route(Exchange& x, std::string_view path) {
  const auto& routes = x.plan->config->routes;
  for (std::size_t i = 0; i < routes.size(); ++i) {
    if (!matches(routes[i], x.proxy.request_head, path, x.proxy.request_table)) continue;
    if (routes[i].model.empty()) return &routes[i];
    if (x.head.framing == http::Framing::none) continue;
    if (!x.model_routes) x.model_routes = std::make_unique<ModelRoutes>();
    x.model_routes->candidates.push_back(static_cast<std::uint16_t>(i));
  }
  return nullptr;
}

// `*` in the pattern stands for any run of characters. Linear but for the number of stars.
bool model_matches(std::string_view pattern, std::string_view name) {
  std::size_t p = 0;
  std::size_t n = 0;
  std::size_t star = std::string_view::npos;
  std::size_t resume = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (p < pattern.size() && pattern[p] == name[n]) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
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

void choose_pool(Exchange& x, const config::Route& route) {
  if (route.pool.empty()) return;
  x.pool_index = pool_named(*x.plan->config, route.pool);
  x.pool = x.plan->pools[x.pool_index];
  x.orbit = x.proxy.parts.dispatcher.pool_kind(x.pool) != WorkerKind::http;
}

// A trusted peer may say how important its request is.
std::optional<Priority> said_priority(const Exchange& x) {
  if (!x.trusted) return std::nullopt;
  return priority_from(x.proxy.request_table.value(HeaderName::x_priority));
}

// What comes before a route's priority: the trusted peer's word, or that of the tenant's key.
std::optional<Priority> earned_priority(const Exchange& x) {
  if (const auto said = said_priority(x)) return said;
  return x.plan->tenants ? x.plan->tenants->priority(x.tenant) : std::nullopt;
}

void apply_earned(Exchange& x, const std::optional<Priority>& earned) {
  if (earned && !x.verdict.outside_slots) x.verdict.priority = *earned;
}

// The body has come: the first of the routes that were put off whose model it names takes the place of what the
// head alone had chosen.
void route_by_model(Exchange& x, const http::JsonText& model) {
  const std::unique_ptr<ModelRoutes> put_off = std::move(x.model_routes);
  if (!model.found) return;
  std::array<char, http::kJsonPeekTextMax> buffer{};
  const std::string_view name = model.escaped ? http::unescape_json(model.raw, buffer) : model.raw;
  for (const std::uint16_t i : put_off->candidates) {
    const config::Route& route = x.plan->config->routes[i];
    if (!model_matches(route.model, name)) continue;
    x.pool_index = 0;
    x.pool = x.plan->pools[0];
    x.orbit = x.proxy.parts.dispatcher.pool_kind(x.pool) != WorkerKind::http;
    choose_pool(x, route);
    x.verdict = put_off->plain[x.orbit ? 1 : 0];
    x.dialect = put_off->dialect[x.orbit ? 1 : 0];
    apply(x, &route);
    apply_earned(x, put_off->earned);
    x.replay = x.verdict.replay;
    return;
  }
}

// … and how long its answer is of use. What is no number is as if it were not there.
void apply_deadline_field(Exchange& x, bool trusted) {
  if (!trusted) return;
  const std::string_view text = x.proxy.request_table.value(HeaderName::x_request_deadline);
  std::uint32_t ms = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), ms);
  // None left is no clock at all: the request is late already.
  if (error == std::errc{} && end == text.data() + text.size()) x.deadline_ms = std::max(ms, 1U);
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

// To be asked of every verdict that takes effect, whichever route brought it.
Result<void> operators_alone(const Exchange& x) {
  if (!x.verdict.operators_only || x.trusted || x.plan->config->admin_routes != config::AdminRoutes::trusted) return {};
  return fail(ErrorKind::protocol, "for operators only", Side::client, 403);
}

// What the request is in front of one kind of worker. `path` was read as the default pool's kind reads it; ORBIT takes
// `%2F` for a slash also where it is not the default.
Result<admission::RouteVerdict> verdict_before(const Exchange& x, bool orbit, std::string_view path, bool preflight) {
  const std::string_view target = x.proxy.request_head.target;
  const std::string_view method = x.proxy.request_head.method_text;
  if (!orbit) return admission::classify(method, path, WorkerKind::http, preflight);
  if (x.plan->config->encoded_slash != config::EncodedSlash::pass || target.find('%') == std::string_view::npos) {
    return admission::classify(method, path, WorkerKind::orbit, preflight);
  }
  std::vector<char> place(target.size());
  const http::NormalPath read = http::normalise_path(target, http::EncodedSlash::separator, place);
  if (!read.ok()) return fail(ErrorKind::protocol, read.refused, Side::client, 400);
  return admission::classify(method, read.path, WorkerKind::orbit, preflight);
}

}  // namespace

Result<void> route(Exchange& x) {
  const config::Config& config = *x.plan->config;
  const http::HeaderTable& table = x.proxy.request_table;
  const dispatch::Dispatcher& dispatcher = x.proxy.parts.dispatcher;
  const http::RequestHead& head = x.proxy.request_head;
  x.method = head.method_text.data();
  x.keep_alive = x.head.keep_alive && !x.client.draining;
  x.trusted = config.is_trusted(x.client.peer.ip);
  if (x.trusted) x.texts().set(Texts::kClientAddress, client_behind(config, table));
  const std::string_view given = http::request_id_for(table, {});
  x.texts().set(Texts::kRequestId, given.empty() ? x.proxy.make_request_id() : given);
  const std::string_view origin = table.value(HeaderName::origin);
  if (!origin.empty()) x.texts().set(Texts::kCors, cors_lines(config.cors, origin));

  x.pool = x.plan->pools[0];
  x.orbit = dispatcher.pool_kind(x.pool) != WorkerKind::http;
  x.proxy.path_buffer.resize(std::max(x.proxy.path_buffer.size(), head.target.size()));
  http::NormalPath normal = http::normalise_path(head.target, slash_rule(config, x.orbit), x.proxy.path_buffer);
  if (!normal.ok()) return fail(ErrorKind::protocol, normal.refused, Side::client, 400);
  const config::Route* written = config.routes.empty() ? nullptr : operator_route(x, normal.path);
  if (written != nullptr) choose_pool(x, *written);
  if (x.proxy.parts.access_log != nullptr) x.texts().set(Texts::kPath, head.target.substr(0, head.target.find('?')));
  x.error_shape = http::error_shape(normal.path);
  x.dialect = dialect_of(normal.path, x.orbit);

  x.event_stream_accepted = table.value(HeaderName::accept).starts_with("text/event-stream");
  const bool preflight = x.head.method == http::Method::options && !origin.empty() &&
                         table.has(HeaderName::request_method);
  TRY(x.verdict, verdict_before(x, x.orbit, normal.path, preflight));
  if (x.model_routes) {
    for (const bool orbit : {false, true}) {
      TRY(x.model_routes->plain.at(orbit ? 1 : 0), verdict_before(x, orbit, normal.path, preflight));
      x.model_routes->dialect.at(orbit ? 1 : 0) = dialect_of(normal.path, orbit);
    }
  }
  apply(x, written);
  identify(x, normal.path);
  belong(x, normal.path);
  if (x.model_routes) x.model_routes->earned = earned_priority(x);
  apply_earned(x, earned_priority(x));
  apply_deadline_field(x, x.trusted);
  TRY_VOID(operators_alone(x));
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
  const http::RequestHead& head = x.proxy.request_head;
  if (head.upgrade != http::UpgradeKind::none) x.texts().set(Texts::kUpgradeProtocol, head.upgrade_protocol);
  http::ForwardContext context;
  context.peer = x.client.peer.text.data();
  context.scheme = x.client.peer.secure ? "https" : "http";
  context.trusted = x.trusted;
  context.client = x.text(Texts::kClientAddress);
  const http::TraceContext trace = http::read_trace_context(x.proxy.request_table);
  context.drop_traceparent = trace.drop_parent;
  context.drop_tracestate = trace.drop_state;
  x.trace_id = trace.id;
  std::array<char, http::kTraceparentBytes> begun;
  if (!trace.valid && config.tracing.start) {
    begun = begin_trace(x);
    context.traceparent = {begun.data(), begun.size()};
  }
  context.request_id = x.text(Texts::kRequestId);
  // ORBIT's MCP server answers only to a loopback name; HTTP/1.0 clients may send no Host at all.
  if (x.verdict.rewrite_host) context.host = "localhost";
  if (head.authority.empty()) context.host = "localhost";
  context.framing = x.head.framing;
  context.content_length = x.head.content_length;
  http::write_request_head(x.out, head, x.proxy.request_table, context);
  if (x.belonging && x.belonging->unnamed) leave_room_for_name(x);
  x.out_head_bytes = static_cast<std::uint32_t>(x.out.size());
}

Result<void> look_into_body(Exchange& x) {
  if (x.verdict.stream_look == admission::StreamLook::none && !x.model_routes) return {};
  // All that is in memory: 64 KiB, and what came with their last byte.
  const std::string_view body = x.out.view().substr(x.out_head_bytes);
  const http::JsonPeek peek = http::peek_json(body, x.body_complete, body.size());
  if (x.model_routes) {
    route_by_model(x, peek.model);
    TRY_VOID(operators_alone(x));
  }
  if (x.belonging) belong_by_body(x, peek.params_id.raw);
  if (x.verdict.stream_look == admission::StreamLook::none) return {};
  if (x.verdict.stream_look == admission::StreamLook::stream_field) {
    x.streamed = peek.stream == http::Tristate::yes;
  } else {
    x.streamed = peek.method.found && peek.method.raw == "tasks/sendSubscribe";
  }
  // What the operator wrote stands; only the built-in rule depends on the kind of answer.
  if (!x.replay_written) x.replay = admission::effective_replay(x.verdict, x.streamed);
  return {};
}

}  // namespace perigee::proxy
