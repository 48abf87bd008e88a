// What requests may look like, and what is written down about them.
#include "tables.h"
#include "values.h"

namespace perigee::config {

namespace {

constexpr std::uint64_t kGiB = 1024 * kMiB;

TextRule header_names() {
  return {.longest = 128, .allowed = "-_*", .expected = "a header name"};
}

}  // namespace

Codec<Heads> heads() {
  Table<Heads> t;
  t.add("bytes", &Heads::bytes, bytes(kKiB, kMiB),
        "Largest head of a message: its first line and its fields");
  t.add("fields", &Heads::fields, count(8, 10'000), "Most header fields");
  t.add("target", &Heads::target, bytes(256, kMiB), "Longest request target");
  return section(std::move(t));
}

Codec<Bodies> bodies() {
  Table<Bodies> t;
  t.add("json", &Bodies::json, bytes(1, 64 * kGiB), "Largest body towards ORBIT, but for uploads");
  t.add("upload", &Bodies::upload, bytes(1, 64 * kGiB), "Largest upload towards ORBIT (class files)");
  t.add("http_workers", &Bodies::http, bytes(1, 1024 * kGiB), "Largest body towards other workers");
  return section(std::move(t));
}

Codec<Memory> memory() {
  Table<Memory> t;
  t.add("buffers", &Memory::buffers, bytes(kMiB, 1024 * kGiB),
        "Most memory for buffers of all connections; those who hold the most and stand still are ended");
  return section(std::move(t));
}

Codec<Cors> cors() {
  Table<Cors> t;
  t.add("enabled", &Cors::enabled, yes_or_no(), "Whether our own errors carry CORS fields");
  t.add("origins", &Cors::origins, list_of(text({.longest = 256, .expected = "an origin"}), 256, true),
        "Origins that may read them; `*` = all");
  t.add("credentials", &Cors::credentials, yes_or_no(), "Whether with credentials");
  t.add("exposed", &Cors::exposed, list_of(text(header_names()), 64, true), "Header fields a page may read");
  Codec<Cors> codec = section(std::move(t));
  codec.schema = {{"anyOf", Json::array({codec.schema, Json{{"enum", {"off", false}}}})}};
  codec.read = [full = codec.read](Reader& r, const Node& n, Cors& out) {
    if (n.kind != Node::Kind::scalar) return full(r, n, out);
    if (n.text != "off" && n.text != "false") return r.mismatch(n, "`off` or a map");
    out.enabled = false;
    return true;
  };
  return codec;
}

Codec<Tracing> tracing() {
  Table<Tracing> t;
  t.add("start", &Tracing::start, yes_or_no(), "Whether a request without a valid traceparent gets one");
  t.add("sampled", &Tracing::sampled, yes_or_no(), "Whether that one is marked as recorded");
  return section(std::move(t));
}

Codec<Sessions> sessions() {
  Table<Sessions> t;
  t.add("turns", &Sessions::turns, yes_or_no(), "One chat turn a session at a time: the next waits until the last has ended");
  t.add("waiting", &Sessions::waiting, count(0, 10'000), "Turns of one session that may wait for it");
  t.add("waiting_total", &Sessions::waiting_total, count(0, 1'000'000), "The same of all sessions together");
  t.add("supply", &Sessions::supply, yes_or_no(),
        "Whether a chat without X-Session-ID gets one, made of its key and how its conversation begins …");
  t.add("by_address", &Sessions::by_address, yes_or_no(), "… and of the client's address …");
  t.add("told_by", &Sessions::told_by, list_of(text(header_names()), 16), "… and of these header fields");
  t.add("calls", &Sessions::calls, yes_or_no(), "Whether job, MCP and A2A calls go to the worker that knows their id");
  return section(std::move(t));
}

Codec<AccessLog> access_log() {
  const Codec<bool> on = yes_or_no();
  Table<AccessLog> t;
  t.add("enabled", &AccessLog::enabled, on, "One line of JSON a request");
  t.add("destination", &AccessLog::destination,
        text({.longest = 1024, .expected = "`stdout`, `stderr` or a file's path"}),
        "`stdout`, `stderr`, or the path of a file")
      .needs_restart();
  t.add("block", &AccessLog::block, bytes(kKiB, 4 * kMiB),
        "Lines are written together once there are this many bytes …");
  t.add("flush", &AccessLog::flush, duration(10ms, 1min), "… or once this time has passed");
  Codec<AccessLog> codec = section(std::move(t));
  codec.schema = {{"anyOf", Json::array({codec.schema, on.schema})}};
  codec.read = [full = codec.read, on](Reader& r, const Node& n, AccessLog& out) {
    return n.kind == Node::Kind::scalar ? on.read(r, n, out.enabled) : full(r, n, out);
  };
  return codec;
}

}  // namespace perigee::config
