// Where clients come in, where operators look in, where requests go.
#include <algorithm>
#include <cctype>
#include <cmath>

#include "tables.h"
#include "values.h"

namespace perigee::config {
namespace {

constexpr TextRule kName{
    .longest = kMaxNameBytes, .allowed = "._:[]-", .expected = "a name (letters, digits, `.` `_` `:` `-`)"};
constexpr TextRule kToken{.longest = 64, .allowed = "!#$%&'*+-.^_`|~", .expected = "a token"};

std::string lower(std::string text) {
  for (char& c : text)
    c = (c >= 'A' && c <= 'Z') ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

// Splits `http://host:port` into what a worker needs. The message never holds the URL: it may hold a
// password.
const char* read_worker_url(std::string_view text, Worker& out) {
  constexpr std::string_view kHttp = "http://";
  constexpr std::string_view kHttps = "https://";
  if (text.find('@') != std::string_view::npos) return "a worker's URL holds no user and no password";
  out.https = lower(std::string(text.substr(0, kHttps.size()))) == kHttps;
  if (out.https) text.remove_prefix(kHttps.size());
  if (lower(std::string(text.substr(0, kHttp.size()))) == kHttp) text.remove_prefix(kHttp.size());
  if (out.https && text.starts_with("unix:")) return "https:// is for hosts; a Unix socket needs no TLS";
  if (text.starts_with("unix:")) {
    if (text.starts_with("unix://")) text = text.size() > 7 && text[7] == '/' ? text : std::string_view();
    const std::string path = "unix:" + std::string(text.substr(text.starts_with("unix://") ? 7 : 5));
    const auto address = parse_address(path);
    if (!address) return "expected a Unix socket such as `unix:/run/orbit/1.sock`";
    out.address = *address;
    out.host = "localhost";
    return nullptr;
  }
  if (text.find("://") != std::string_view::npos) return "expected a URL such as `http://127.0.0.1:3001`";
  if (text.ends_with('/')) text.remove_suffix(1);
  if (text.find_first_of("/?#") != std::string_view::npos) {
    return "a worker is an address; paths are forwarded as they come, so its URL has none";
  }
  std::string authority = lower(std::string(text));
  const std::size_t colon = authority.rfind(':');
  const bool has_port = colon != std::string::npos && authority.find(']', colon) == std::string::npos;
  const std::string_view usual_port = out.https ? ":443" : ":80";
  if (!has_port) authority += usual_port;
  const bool bare_port =
      !authority.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
  const auto address = bare_port ? std::nullopt : parse_address(authority);
  if (!address || authority.starts_with('*')) return "expected a URL such as `http://127.0.0.1:3001`";
  out.address = *address;
  out.host = has_port ? authority : authority.substr(0, authority.size() - usual_port.size());
  return nullptr;
}

// `host:port`, or a socket's path without slashes, because names stand in the admin API's paths.
std::string default_name(const Address& address) {
  if (address.kind == Address::Kind::tcp) return address.text();
  std::string name = address.path.substr(1);
  std::ranges::replace(name, '/', '-');
  return name;
}

// The URL as a codec over the whole worker, because it fills three of its fields.
Codec<Worker> worker_url() {
  Codec<Worker> codec;
  codec.schema = {{"type", "string"}, {"examples", Json::array({"http://127.0.0.1:3001"})}};
  codec.read = [](Reader& r, const Node& n, Worker& out) {
    if (!is_scalar(r, n, "a URL such as `http://127.0.0.1:3001`")) return false;
    if (const char* problem = read_worker_url(n.text, out)) return r.error(n.mark, problem);
    if (out.name.empty()) out.name = default_name(out.address);
    return true;
  };
  codec.write = [](const Worker& w, Show) {
    if (w.address.kind == Address::Kind::unix_socket) return Json(w.address.text());
    return Json((w.https ? "https://" : "http://") + w.host);
  };
  return codec;
}

Table<Worker> worker_table() {
  const auto self = [](auto& w) -> auto& { return w; };
  Table<Worker> t;
  t.add("url", self, worker_url(), "Where it listens: `http://HOST:PORT`, `https://HOST:PORT` or `unix:/PATH`").required();
  t.add("name", &Worker::name, text(kName),
        "Its name in metrics, logs and the admin API; `HOST:PORT` unless written");
  t.add("weight", &Worker::weight, number(0.01, 100), "Its share of the work, beside other workers");
  t.add("kind", &Worker::kind, one_of<WorkerKind>(kWorkerKindNames),
        "What it is; `unknown` = found by its first probe");
  t.add("max_concurrent_requests", &Worker::max_concurrent_requests, optional_of(count(1, 1'000'000)),
        "Hard ceiling of its slots, before the general one");
  t.add("provider_connections", &Worker::provider_connections, optional_of(provider_connections()),
        "Connections it opens to its model provider, before the general number");
  t.add("pid_file", &Worker::pid_file, text({.longest = 1024, .may_be_empty = true, .expected = "a file's path"}),
        "File with the id of its process; without it a worker on loopback is found by its listening socket");
  t.add("memory_limit", &Worker::memory_limit, optional_of(bytes(kMiB, 1024 * 1024 * kMiB)),
        "Memory its process may use; `none` = what its control group may");
  t.add("tls", &Worker::tls, optional_of(client_tls()), "TLS towards it, in place of `upstream.tls`; for `https://` only");
  t.add("proxy_protocol", &Worker::proxy_protocol, one_of<ProxyProtocolOut>(kProxyProtocolOutNames),
        "Whether connections to it begin with a PROXY header; each then carries one request");
  return t;
}

// An address, or `systemd:NAME`: a codec over the whole listener, because it fills one of two fields.
Codec<Listener> listener_address() {
  const Codec<Address> inner = address();
  constexpr std::string_view kSystemd = "systemd:";
  Codec<Listener> codec;
  codec.schema = inner.schema;
  codec.read = [inner, kSystemd](Reader& r, const Node& n, Listener& out) {
    if (n.kind != Node::Kind::scalar || !n.text.starts_with(kSystemd)) return inner.read(r, n, out.address);
    const std::string name = n.text.substr(kSystemd.size());
    // What systemd allows in FileDescriptorName=.
    const bool good = !name.empty() && name.size() <= 255 &&
                      std::ranges::all_of(name, [](char c) { return c >= 0x20 && c < 0x7F && c != ':'; });
    if (!good) return r.mismatch(n, "`systemd:` and the name of a socket that it passes");
    out.systemd = name;
    return true;
  };
  codec.write = [](const Listener& l, Show) { return Json(l.text()); };
  return codec;
}

// Permissions as chmod takes them, always octal.
Codec<std::uint32_t> file_mode() {
  const std::string expected = "permissions such as `0660`";
  Codec<std::uint32_t> codec;
  codec.schema = {{"type", Json::array({"string", "integer"})}};
  codec.read = [expected](Reader& r, const Node& n, std::uint32_t& out) {
    if (!is_scalar(r, n, expected)) return false;
    const bool octal = n.text.size() >= 3 && n.text.size() <= 4 &&
                       std::ranges::all_of(n.text, [](char c) { return c >= '0' && c <= '7'; });
    if (!octal || (n.text.size() == 4 && n.text.front() != '0')) return r.mismatch(n, expected);
    out = 0;
    for (const char c : n.text) out = out * 8 + static_cast<std::uint32_t>(c - '0');
    return true;
  };
  codec.write = [](const std::uint32_t& mode, Show) {
    std::string text = "0000";
    for (std::size_t i = 0; i < 3; ++i) text[3 - i] = static_cast<char>('0' + (mode >> (3 * i) & 7U));
    return Json(text);
  };
  return codec;
}

Table<Listener> listener_table() {
  const auto self = [](auto& l) -> auto& { return l; };
  Table<ProxyProtocol> proxy;
  proxy.add("from", &ProxyProtocol::from, list_of(cidr(), 256, true),
            "Peers whose connections begin with a PROXY header, and must");
  Table<Listener> t;
  t.add("address", self, listener_address(), "Where it listens, or `systemd:NAME`").required();
  t.add("mode", &Listener::mode, optional_of(file_mode()), "Permissions of a Unix socket's file");
  t.add("proxy_protocol", &Listener::proxy_protocol, section(std::move(proxy)),
        "PROXY protocol, versions 1 and 2, of balancers in front of us");
  t.add("tls", &Listener::tls, optional_of(server_tls()), "Certificates, where clients speak TLS");
  return t;
}

Codec<std::string> host_pattern() {
  Codec<std::string> codec =
      text({.longest = 253, .allowed = ".-_*:[]", .expected = "a host name, or `*.` and a domain"});
  codec.read = [inner = codec.read](Reader& r, const Node& n, std::string& out) {
    std::string value;
    if (!inner(r, n, value)) return false;
    const std::size_t star = value.rfind('*');
    if (star != std::string::npos && (star != 0 || !value.starts_with("*."))) {
      return r.mismatch(n, "a host name, or `*.` and a domain");
    }
    out = lower(std::move(value));
    return true;
  };
  return codec;
}

// Fills path and path_prefix.
Codec<Route> route_path() {
  Codec<Route> codec;
  codec.schema = {{"type", "string"}, {"pattern", "^(/[^*]*[*]?|any)$"}};
  codec.read = [](Reader& r, const Node& n, Route& out) {
    const std::string expected = "a path such as `/v1/chat`, or a prefix such as `/v1/*`";
    if (!is_scalar(r, n, expected)) return false;
    if (n.text == "any") {
      out.path.clear();
      out.path_prefix = false;
      return true;
    }
    const auto pattern = read_path_pattern(n.text);
    if (!pattern) return r.mismatch(n, expected);
    out.path_prefix = pattern->prefix;
    out.path = pattern->path;
    return true;
  };
  codec.write = [](const Route& route, Show) {
    return Json(route.path.empty() ? "any" : route.path + (route.path_prefix ? "*" : ""));
  };
  return codec;
}

Codec<std::string> method() {
  Codec<std::string> codec = text({.longest = 32, .allowed = "-", .expected = "a method"});
  codec.read = [inner = codec.read](Reader& r, const Node& n, std::string& out) {
    if (!inner(r, n, out)) return false;
    for (char& c : out)
      c = (c >= 'a' && c <= 'z') ? static_cast<char>(c - 'a' + 'A') : c;
    return true;
  };
  return codec;
}

// `{X-Batch: "1"}`, `*` for any value.
Codec<std::vector<HeaderMatch>> headers() {
  const auto pairs = map_of(text({.longest = 1024}), 16);
  Codec<std::vector<HeaderMatch>> codec;
  codec.schema = pairs.schema;
  codec.read = [read = pairs.read](Reader& r, const Node& n, std::vector<HeaderMatch>& out) {
    std::vector<std::pair<std::string, std::string>> values;
    if (!read(r, n, values)) return false;
    for (auto& [name, value] : values) {
      const bool token = !name.empty() && std::ranges::all_of(name, [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
               kToken.allowed.find(c) != std::string_view::npos;
      });
      if (!token) return r.error(n.mark, "`" + name.substr(0, 64) + "` is no header name");
      out.push_back({lower(name), value == "*" ? std::string() : value});
    }
    return true;
  };
  codec.write = [](const std::vector<HeaderMatch>& matches, Show) {
    Json out = Json::object();
    for (const HeaderMatch& m : matches)
      out[m.name] = m.value.empty() ? "*" : m.value;
    return out;
  };
  return codec;
}

// `text` that reads the word `any` as empty.
Codec<std::string> or_any(Codec<std::string> inner) {
  Codec<std::string> codec = inner;
  codec.read = [read = inner.read](Reader& r, const Node& n, std::string& out) {
    if (n.kind == Node::Kind::scalar && n.text == "any") {
      out.clear();
      return true;
    }
    return read(r, n, out);
  };
  codec.write = [](const std::string& value, Show) { return Json(value.empty() ? "any" : value); };
  return codec;
}

Table<Admin> admin_table() {
  Table<Admin> t;
  t.add("enabled", &Admin::enabled, yes_or_no(), "Whether there is an admin port").needs_restart();
  t.add("address", &Admin::address, address(), "Where it listens; any but loopback needs a token")
      .needs_restart();
  t.add("token", &Admin::token, secret(), "Bearer token that every request to it must carry");
  return t;
}

}  // namespace

// An address where that says it all, else a map.
Codec<Listener> listener() {
  Codec<Listener> codec = section(listener_table());
  codec.schema = {{"anyOf", Json::array({codec.schema, listener_address().schema})}};
  codec.read = [full = codec.read, short_form = listener_address()](Reader& r, const Node& n, Listener& out) {
    return n.kind == Node::Kind::scalar ? short_form.read(r, n, out) : full(r, n, out);
  };
  codec.write = [full = codec.write](const Listener& l, Show show) {
    Listener plain;
    plain.address = l.address;
    plain.systemd = l.systemd;
    return l == plain ? Json(l.text()) : full(l, show);
  };
  return codec;
}

Codec<Admin> admin() {
  Codec<Admin> codec = section(admin_table());
  codec.schema = {{"anyOf", Json::array({codec.schema, Json{{"enum", {"off", false}}}, address().schema})}};
  codec.read = [full = codec.read, at = address()](Reader& r, const Node& n, Admin& out) {
    if (n.kind != Node::Kind::scalar) return full(r, n, out);
    if (n.text == "off" || (is_plain(n) && n.text == "false")) {
      out.enabled = false;
      return true;
    }
    return at.read(r, n, out.address);
  };
  return codec;
}

Codec<Worker> worker() {
  Codec<Worker> codec = section(worker_table());
  codec.schema = {{"anyOf", Json::array({codec.schema, worker_url().schema})}};
  codec.read = [full = codec.read, short_form = worker_url()](Reader& r, const Node& n, Worker& out) {
    return n.kind == Node::Kind::scalar ? short_form.read(r, n, out) : full(r, n, out);
  };
  return codec;
}

Codec<Route> route() {
  Table<Route> t;
  t.add("host", &Route::host, or_any(host_pattern()), "Host of the request, or `*.` and a domain");
  t.add("methods", &Route::methods, list_of(method(), 16, true), "Methods; none = any");
  t.add(
      "path", [](auto& x) -> auto& { return x; }, route_path(),
      "A whole path, or a prefix that ends in `*`; needed unless `model` is written");
  t.add("model", &Route::model, or_any(text({.longest = 256, .may_be_empty = true, .expected = "a model's name, in which `*` stands for anything"})),
        "Model that the JSON body asks for; `*` = any run of characters");
  t.add("headers", &Route::headers, headers(), "Header fields that must be there; `*` = with any value");
  t.add("class", &Route::request_class, optional_of(one_of<RequestClass>(kClassNames)),
        "Class of the request");
  t.add("priority", &Route::priority, optional_of(one_of<Priority>(kPriorityNames)),
        "Priority of the request");
  t.add("replay", &Route::replay, optional_of(one_of<Replay>(kReplayNames)),
        "How long the request may be sent again after a failed attempt");
  t.add("pool", &Route::pool, or_any(text(kName)), "Pool that serves it");
  return section(std::move(t));
}

}  // namespace perigee::config
