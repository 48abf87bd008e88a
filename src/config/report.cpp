// What `perigee check` prints, and how a diagnostic reads.
#include <algorithm>
#include <map>
#include <string>

#include "perigee/config/loader.h"
#include "units.h"

namespace perigee::config {
namespace {

std::string plain(std::string text) {
  // Keys and values come from the file; none may move the cursor of whoever reads this.
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
  }
  return text;
}

std::string row(const std::string& name, const std::string& value) {
  constexpr std::size_t kColumn = 12;
  return "  " + name + std::string(name.size() < kColumn ? kColumn - name.size() : 1, ' ') + value + "\n";
}

std::string counted(std::uint32_t n) {
  return n == kUnbounded ? "none" : std::to_string(n);
}
std::string clocked(Duration d) {
  return d == kNoClock ? "none" : write_duration(d);
}

std::string workers_text(const Config& c) {
  if (c.workers.empty()) return row("workers", "none");
  constexpr std::size_t kShown = 16;
  std::string out;
  for (std::size_t i = 0; i < std::min(c.workers.size(), kShown); ++i) {
    const Worker& w = c.workers[i];
    std::string line = w.address.text();
    if (w.name != line) line = w.name + " at " + line;
    if (w.https) line += " (TLS)";
    line +=
        w.kind == WorkerKind::unknown ? ", kind found by probe" : ", kind " + std::string(to_string(w.kind));
    if (w.weight != 1.0) line += ", weight " + write_number(w.weight);
    out += row(i == 0 ? "workers" : "", line);
  }
  if (c.workers.size() > kShown) out += row("", "and " + std::to_string(c.workers.size() - kShown) + " more");
  return out;
}

std::string slots_text(const Config& c) {
  const Worker any = c.workers.empty() ? Worker{} : c.workers.front();
  std::string out = std::to_string(std::min(c.slots.start, c.slot_ceiling(any, WorkerKind::orbit)));
  out += c.slots.steering == Steering::fixed ? ", fixed" : " to begin with, steered by head lag";
  out += ", ceiling " + std::to_string(c.slot_ceiling(any, WorkerKind::orbit)) + "; other workers " +
         std::to_string(c.slot_ceiling(any, WorkerKind::http));
  if (c.slots.http_steering == TimeSteering::adaptive) out += " at most, adaptive";
  if (c.slots.http_steering == TimeSteering::adaptive && c.slots.http_objective != kNoClock) {
    out += " from " + write_duration(c.slots.http_objective) + " to the first event";
  }
  return out;
}

std::string pace_text(const Config& c) {
  if (c.pace.start == 0) return "none";
  return write_number(c.pace.start) + " starts a second to begin with, at most " +
         write_number(c.pace.ceiling);
}

std::string starting_text(const Config& c) {
  std::string out;
  for (const RequestClass k : {RequestClass::chat, RequestClass::embeddings, RequestClass::files,
                               RequestClass::search, RequestClass::admin}) {
    if (c.starting.of(k) == kUnbounded) continue;
    out += (out.empty() ? "" : ", ") + std::string(to_string(k)) + " " + std::to_string(c.starting.of(k));
  }
  return out.empty() ? "no bound" : out + " (a worker)";
}

std::string limits_text(const Config& c) {
  std::string out = "streams " + counted(c.limits.streams);
  for (std::size_t i = 0; i < kClassCount; ++i) {
    const std::uint32_t bound = c.limits.by_class.values[i];
    if (bound != kUnbounded) out += ", " + std::string(kClassNames[i]) + " " + std::to_string(bound);
  }
  return out;
}

std::string queue_text(const Config& c) {
  return std::to_string(c.queue.entries) + " + " + std::to_string(c.queue.priority_entries) + " entries, " +
         write_bytes(c.queue.bytes) + "; wait: chat " +
         write_duration(c.queue_wait.by_class.at(RequestClass::chat)) + ", files " +
         write_duration(c.queue_wait.by_class.at(RequestClass::files)) + ", search " +
         write_duration(c.queue_wait.by_class.at(RequestClass::search));
}

std::string throttle_text(const Config& c) {
  if (!c.throttle.enabled) return "off";
  const auto percent = [](double share) { return write_number(share * 100) + "%"; };
  return "CPU " + percent(c.throttle.cpu) + " (with a standing queue " + percent(c.throttle.cpu_hard) + "), memory " +
         percent(c.throttle.memory) + " (" + percent(c.throttle.memory_hard) + ")";
}

std::string clocks_text(const Config& c) {
  return "connect " + clocked(c.clocks.connect) + ", head " + clocked(c.clocks.head) + " (streams " +
         clocked(c.clocks.head_stream) + "), first event " + clocked(c.clocks.first_event) + ", silence " +
         clocked(c.clocks.silence) + " (other bodies " + clocked(c.clocks.body_silence) + "), total " +
         clocked(c.clocks.total);
}

// ORBIT asks a client's key for its admin routes, not an operator's: whoever may chat may also shut it down.
std::string admin_routes_text(const Config& c) {
  if (c.admin_routes == AdminRoutes::trusted) return "for `trusted` peers only";
  const bool local = std::ranges::all_of(
      c.listeners, [](const Listener& l) { return l.systemd.empty() && l.address.is_loopback(); });
  if (local) return "pass, from this machine";
  return "OPEN: any client key that reaches `listen` can pause, restart and shut down ORBIT "
         "(close with `admin_routes: trusted`)";
}

std::string rate_text(const RateLimit& limit, bool redis) {
  std::string out = limit.name + ": ";
  if (limit.requests) out += std::to_string(*limit.requests) + " requests";
  if (limit.tokens) out += (limit.requests ? ", " : "") + std::to_string(*limit.tokens) + " tokens";
  out += " in " + write_duration(limit.per) + " by " + std::string(kRateByNames[static_cast<std::size_t>(limit.by)]);
  if (limit.request_class) out += ", class " + std::string(to_string(*limit.request_class));
  if (!limit.path.empty()) out += ", " + limit.path + (limit.path_prefix ? "*" : "");
  if (!limit.tenants.empty()) out += ", of " + std::to_string(limit.tenants.size()) + " tenants";
  if (redis && limit.shared) out += ", shared";
  return out;
}

std::string main_settings(const Config& c) {
  std::string listen;
  for (const Listener& l : c.listeners) {
    listen += (listen.empty() ? "" : ", ") + l.text() + (l.tls ? " (TLS)" : "");
    if (!l.proxy_protocol.from.empty()) listen += " (PROXY protocol)";
  }
  std::string out = row("listen", listen);
  out +=
      row("admin",
          c.admin.enabled ? c.admin.address.text() + (c.admin.token.empty() ? "" : ", with a token") : "off");
  out += workers_text(c);
  out += row("picker", std::string(kPickerNames[static_cast<std::size_t>(c.balancing.picker)]) +
                           (c.balancing.hold > 0 ? ", slow workers held, " + write_number(c.balancing.hold) : ""));
  out += row("slots", slots_text(c));
  out += row("pace", pace_text(c));
  out += row("starting", starting_text(c));
  out += row("limits", limits_text(c));
  out += row("queue", queue_text(c));
  out += row("throttle", throttle_text(c));
  for (const Pool& pool : c.pools) {
    if (pool.overload == Overload::none) continue;
    out += row("overload", std::string(kOverloadNames[static_cast<std::size_t>(pool.overload)]) + " in pool " + pool.name);
  }
  out += row("clocks", clocks_text(c));
  out += row("client",
             "head " + write_duration(c.client.head) + ", keep-alive " + write_duration(c.client.keep_alive));
  out += row("bodies", "JSON " + write_bytes(c.bodies.json) + ", upload " + write_bytes(c.bodies.upload));
  out += row("probe", "every " + write_duration(c.probe.interval) + ", while down every " +
                          write_duration(c.probe.down_interval));
  out += row("routes", std::to_string(c.routes.size()) + " of your own");
  if (!c.tenants.empty()) out += row("tenants", std::to_string(c.tenants.size()) + " with a name");
  for (const RateLimit& limit : c.rate_limits) out += row("rate", rate_text(limit, c.redis.enabled()));
  out += row("ORBIT admin", admin_routes_text(c));
  out += row("access log", c.access_log.enabled ? c.access_log.destination : "off");
  return out;
}

std::string not_yet_text(const Config& c) {
  std::string written;
  std::string standing;
  for (const NotYet& n : c.not_yet) {
    if (n.where.empty()) {
      standing += "  " + n.key + ": " + n.about + "\n";
    } else {
      written += "  " + n.where + ": " + n.key + " = " + n.value + " (" + n.about + ")\n";
    }
  }
  std::string out;
  if (!written.empty()) out += "\nAccepted, not yet in effect in this version:\n" + written;
  if (!standing.empty()) out += "\nDefaults not yet in effect in this version:\n" + standing;
  return out;
}

}  // namespace

std::string to_string(const Diagnostic& d) {
  std::string out = d.place.file;
  if (d.place.line > 0) out += ":" + std::to_string(d.place.line) + ":" + std::to_string(d.place.column);
  if (!out.empty()) out += ": ";
  if (!d.key.empty()) out += d.key + ": ";
  out += d.message;
  if (!d.nearest.empty()) out += " (did you mean `" + d.nearest + "`?)";
  return plain(std::move(out));
}

std::string format_check_report(const Loaded& loaded) {
  const Config& c = *loaded.config;
  std::string out = c.source + ": OK\n\n" + main_settings(c);
  if (!loaded.warnings.empty()) {
    out += "\nWarnings:\n";
    for (const Diagnostic& w : loaded.warnings)
      out += "  " + to_string(w) + "\n";
  }
  return out + not_yet_text(c);
}

std::string format_diagnostics(std::span<const Diagnostic> diagnostics) {
  std::string out;
  for (const Diagnostic& d : diagnostics)
    out += to_string(d) + "\n";
  return out + std::to_string(diagnostics.size()) + (diagnostics.size() == 1 ? " error\n" : " errors\n");
}

}  // namespace perigee::config
