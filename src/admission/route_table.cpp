// ORBIT's routes as code: one function for each first segment, read like the table it implements.
#include "perigee/admission/route_table.h"

namespace perigee::admission {
namespace {

using enum RequestClass;

enum class Method : std::uint8_t { get, head, options, post, put, patch, del, other };

Method method_of(std::string_view m) {
  if (m == "GET") return Method::get;
  if (m == "POST") return Method::post;
  if (m == "DELETE") return Method::del;
  if (m == "PUT") return Method::put;
  if (m == "PATCH") return Method::patch;
  if (m == "HEAD") return Method::head;
  if (m == "OPTIONS") return Method::options;
  return Method::other;
}

// What nothing else says: reading and deleting twice does no harm. PUT may overwrite what came between.
constexpr Replay replay_of(Method m) {
  switch (m) {
    case Method::get:
    case Method::head:
    case Method::options:
    case Method::del: return Replay::idempotent;
    case Method::post:
    case Method::put:
    case Method::patch:
    case Method::other: break;
  }
  return Replay::unsent;
}

// A path taken apart segment by segment.
class Segments {
 public:
  explicit Segments(std::string_view path) : rest_(path) {}
  // The next segment, without slashes. Empty at the end, and where the path has a trailing slash; the
  // two are told apart by `done`.
  std::string_view next() {
    if (rest_.empty()) return {};
    rest_.remove_prefix(1);  // the slash
    const std::size_t end = rest_.find('/');
    const std::string_view segment = rest_.substr(0, end);
    rest_ = end == std::string_view::npos ? std::string_view{} : rest_.substr(end);
    return segment;
  }
  // Nothing follows, not even a slash: `/v1/chat/` is not `/v1/chat`.
  [[nodiscard]] bool done() const { return rest_.empty(); }

 private:
  std::string_view rest_;
};

struct Builder {
  RouteVerdict v;
  Method m;

  RouteVerdict route(RequestClass c) {
    v.request_class = c;
    v.known = true;
    return v;
  }
  RouteVerdict critical(RequestClass c) {
    v.priority = Priority::critical;
    v.outside_slots = true;
    return route(c);
  }
  // ORBIT answers 404 (or 405): quick, nobody's class.
  RouteVerdict unknown() const { return v; }
};

RouteVerdict v1(Builder b, Segments s) {
  const std::string_view what = s.next();
  if (what == "chat" && b.m == Method::post) {
    if (s.done()) {
      b.v.stream_look = StreamLook::stream_field;
      return b.route(chat);
    }
    const std::string_view verb = s.next();
    if (!s.done()) return b.unknown();
    if (verb == "completions") {
      b.v.stream_look = StreamLook::stream_field;
      return b.route(chat);
    }
    if (verb == "stop") {
      b.v.stop_call = true;
      b.v.replay = Replay::idempotent;
      return b.critical(admin);
    }
  }
  if (what == "autocomplete" && b.m == Method::get && s.done()) {
    b.v.priority = Priority::low;
    return b.route(search);
  }
  return b.unknown();
}

// /api/files…, /api/threads…, /api/feedback…
RouteVerdict api(Builder b, Segments s) {
  const std::string_view what = s.next();
  const bool root = s.done();
  const std::string_view first = s.next();
  const bool one = !root && s.done() && !first.empty();
  if (what == "threads") return root || one ? b.route(other) : b.unknown();
  if (what == "feedback") return root || one ? b.route(other) : b.unknown();
  if (what != "files") return b.unknown();
  if (root) return b.route(files);
  if (one && b.m == Method::post) {
    if (first == "upload") {
      b.v.upload = true;
      return b.route(files);
    }
    if (first == "reprocess") {
      b.v.priority = Priority::low;
      return b.route(files);
    }
    return b.unknown();
  }
  if (one) return b.route(files);
  const std::string_view verb = s.next();
  if (!s.done() || first.empty()) return b.unknown();
  if (verb == "content" && b.m == Method::get) return b.route(files);
  if (b.m != Method::post) return b.unknown();
  if (verb == "query") {
    b.v.replay = Replay::idempotent;
    return b.route(search);
  }
  if (verb == "reprocess") {
    b.v.priority = Priority::low;
    return b.route(files);
  }
  return b.unknown();
}

// Asked by chat clients before they can talk, although it lies under /admin.
bool is_discovery(std::string_view first, Segments s) {
  if (first == "models" || first == "skills") return s.done();
  if (first != "adapters" && first != "api-keys") return false;
  const std::string_view second = s.next();
  if (s.done()) return second == "info";
  if (first != "adapters" || second.empty() || second == "config") return false;
  const std::string_view third = s.next();
  return s.done() && (third == "models" || third == "skills");
}

// A client's own history and conversations, which chat clients delete with their key.
bool is_clients_own(Method m, std::string_view first, Segments s) {
  if (m != Method::del || (first != "chat-history" && first != "conversations")) return false;
  return !s.next().empty() && s.done();
}

RouteVerdict admin_route(Builder b, Segments s) {
  if (s.done()) return b.m == Method::get ? b.route(other) : b.unknown();  // the panel itself
  const std::string_view first = s.next();
  if (first.empty()) return b.unknown();
  if (b.m == Method::get) {
    if (first == "login" && s.done()) return b.route(other);
    if (is_discovery(first, s)) return b.route(search);
  }
  b.v.operators_only = !is_clients_own(b.m, first, s);
  if (b.m == Method::get && first == "info" && s.done()) return b.critical(admin);
  if (b.m == Method::post && s.done() && (first == "pause" || first == "resume")) return b.critical(admin);
  return b.route(admin);
}

RouteVerdict websocket(Builder b, Segments s) {
  if (b.m != Method::get) return b.unknown();
  const std::string_view what = s.next();
  const bool root = s.done();
  const std::string_view adapter = s.next();
  b.v.replay = Replay::no_head;
  if (what == "metrics" && root) {
    b.v.websocket = true;
    return b.route(health);
  }
  if (what == "voice" && (root || (s.done() && !adapter.empty()))) {
    b.v.websocket = true;
    return b.route(voice);
  }
  b.v.replay = replay_of(b.m);
  return b.unknown();
}

RouteVerdict mcp_route(Builder b, Segments s) {
  // The mount answers `/mcp/` and below; `/mcp` itself is redirected there by URL, built from Host.
  static_cast<void>(s);
  b.v.rewrite_host = true;
  b.v.endless_get = b.m == Method::get;
  return b.route(mcp);
}

RouteVerdict a2a_route(Builder b, Segments s) {
  if (!s.done() || b.m != Method::post) return b.unknown();
  b.v.stream_look = StreamLook::a2a_method;
  return b.route(a2a);
}

RouteVerdict orbit(Builder b, Segments s) {
  const std::string_view first = s.next();
  switch (first.empty() ? '\0' : first.front()) {
    case 'v':
      if (first == "v1") return v1(b, s);
      if (first == "voice" && b.m == Method::get)
        return s.next() == "status" && s.done() ? b.route(voice) : b.unknown();
      break;
    case 'a':
      if (first == "api") return api(b, s);
      if (first == "admin") return admin_route(b, s);
      if (first == "auth") return s.done() ? b.unknown() : b.route(admin);
      if (first == "a2a") return a2a_route(b, s);
      break;
    case 'h':
      // With every method: a balancer in front of us that asks by HEAD waits for nobody.
      if (first == "health") {
        b.v.operators_only = b.m == Method::post;  // resets breakers, and asks no key at all
        return b.critical(health);
      }
      break;
    case 'm':
      if (first == "metrics") return b.critical(health);
      if (first == "mcp") return mcp_route(b, s);
      break;
    case 'w':
      if (first == "ws") return websocket(b, s);
      break;
    case 's':
      if (first == "static") return s.done() ? b.unknown() : b.route(other);
      break;
    case '.':
      if (first == ".well-known") return s.next() == "agent.json" && s.done() ? b.route(a2a) : b.unknown();
      break;
    case 'd':
    case 'f':
    case 'o':
    case 'r':
      if (s.done() &&
          (first == "docs" || first == "favicon.ico" || first == "openapi.json" || first == "redoc")) {
        return b.route(other);
      }
      break;
    default: break;
  }
  return b.unknown();
}

bool has_openai_shape(std::string_view path) {
  return path == "/v1/chat/completions" || path == "/v1/completions" || path == "/v1/embeddings" ||
         path == "/v1/models" || path == "/v1/responses";
}

}  // namespace

RouteVerdict classify(std::string_view method, std::string_view path, WorkerKind kind, bool cors_preflight) {
  Builder b{{}, method_of(method)};
  b.v.replay = replay_of(b.m);
  b.v.openai_errors = has_openai_shape(path);
  if (b.m == Method::options && cors_preflight) {
    b.v.no_ticket = true;
    return b.v;
  }
  if (path.empty() || path.front() != '/') return b.v;  // `*`
  if (kind == WorkerKind::http) {
    // Whatever stands there: model servers of the OpenAI shape say `stream` in the body as well.
    if (b.m == Method::post) b.v.stream_look = StreamLook::stream_field;
    return b.v;
  }
  return orbit(b, Segments(path));
}

}  // namespace perigee::admission
