// Clocks, towards workers and towards clients.
#include "tables.h"
#include "values.h"

namespace perigee::config {

namespace {
constexpr Duration kDay = 24h;
Codec<Duration> clock_or_none() {
  return duration_or_none(1ms, kDay);
}
}  // namespace

Codec<Clocks> clocks() {
  Table<Clocks> t;
  t.add("connect", &Clocks::connect, duration(1ms, 10min), "Until a worker has accepted a connection");
  t.add("head_stream", &Clocks::head_stream, clock_or_none(),
        "From dispatch to the head of a streamed answer");
  t.add("head", &Clocks::head, clock_or_none(), "From dispatch to the head of any other answer");
  t.add("first_event", &Clocks::first_event, clock_or_none(), "From the head to the first event of a stream");
  t.add("silence", &Clocks::silence, clock_or_none(), "Between two pieces of a stream");
  t.add("body_silence", &Clocks::body_silence, clock_or_none(),
        "Between two pieces of a body that is not a stream");
  t.add("total", &Clocks::total, clock_or_none(), "From dispatch to the end");
  return section(std::move(t));
}

Codec<Duration> reading_on() {
  const Codec<Duration> time = duration(0s, kDay);
  Codec<Duration> codec = time;
  codec.schema["anyOf"].push_back(Json{{"enum", {"close", "finish"}}});
  codec.read = [time](Reader& r, const Node& n, Duration& out) {
    if (n.kind == Node::Kind::scalar && n.text == "close") {
      out = 0s;
    } else if (n.kind == Node::Kind::scalar && n.text == "finish") {
      out = kNoClock;
    } else {
      return time.read(r, n, out);
    }
    return true;
  };
  codec.write = [time](const Duration& value, Show show) {
    return value == 0s ? Json("close") : value == kNoClock ? Json("finish") : time.write(value, show);
  };
  return codec;
}

Codec<Abandoned> abandoned() {
  Table<Abandoned> t;
  t.add("streams", &Abandoned::streams, reading_on(), "Streams: `close`, `finish`, or read on for so long");
  t.add("orbit", &Abandoned::orbit, reading_on(), "Other requests to ORBIT workers, the same");
  t.add("http_workers", &Abandoned::http, reading_on(), "Other requests to other workers, the same");
  return section(std::move(t));
}

Codec<ClassOverrides> class_overrides() {
  const auto clock = optional_of(duration(1ms, kDay));
  // Here `none` would be two things: no clock, and nothing changed. It means the latter, as for the words.
  Table<ClassOverrides> t;
  t.add("priority", &ClassOverrides::priority, optional_of(one_of<Priority>(kPriorityNames)),
        "Its priority, whatever the route");
  t.add("replay", &ClassOverrides::replay, optional_of(one_of<Replay>(kReplayNames)),
        "Its replay rule, whatever the route");
  t.add("head_stream", &ClassOverrides::head_stream, clock, "Its own clock, before `clocks.head_stream`");
  t.add("head", &ClassOverrides::head, clock, "Its own clock, before `clocks.head`");
  t.add("first_event", &ClassOverrides::first_event, clock, "Its own clock, before `clocks.first_event`");
  t.add("silence", &ClassOverrides::silence, clock, "Its own clock, before `clocks.silence`");
  t.add("body_silence", &ClassOverrides::body_silence, clock, "Its own clock, before `clocks.body_silence`");
  t.add("total", &ClassOverrides::total, clock, "Its own clock, before `clocks.total`");
  t.add("connect", &ClassOverrides::connect, clock, "Its own clock, before `clocks.connect`");
  t.add("body_rate", &ClassOverrides::body_rate, optional_of(bytes(0, 1024 * kMiB)),
        "Its own rate, before `client.body_rate`");
  t.add("body_grace", &ClassOverrides::body_grace, clock, "Its own time, before `client.body_grace`");
  t.add("stalled", &ClassOverrides::stalled, clock, "Its own clock, before `client.stalled`");
  t.add("heart_beats", &ClassOverrides::heart_beats, optional_of(duration(100ms, 1h)), "Before `heart_beats`");
  t.add("abandoned", &ClassOverrides::abandoned, optional_of(reading_on()), "Before `abandoned`");
  return section(std::move(t));
}

Codec<Client> client() {
  Table<Client> t;
  t.add("head", &Client::head, duration(10ms, 10min), "From the first byte of a request's head to its last");
  t.add("body_rate", &Client::body_rate, bytes(0, 1024 * kMiB),
        "Least bytes a second of a request's body; 0 = any");
  t.add("body_grace", &Client::body_grace, duration(10ms, 1h), "Time before the rate is asked for");
  t.add("keep_alive", &Client::keep_alive, duration(0s, kDay), "Idle time between two requests; 0 = close");
  t.add("stalled", &Client::stalled, duration(10ms, kDay),
        "Time in which a client takes no byte of its answer");
  return section(std::move(t));
}

Codec<Upstream> upstream() {
  Table<Upstream> t;
  t.add("idle", &Upstream::idle, duration(0s, 1h), "Time a connection to a worker is kept unused; 0 = close");
  t.add("idle_per_worker", &Upstream::idle_per_worker, count(0, 100'000),
        "Idle connections kept, a worker and event loop");
  t.add("idle_total", &Upstream::idle_total, count_or_none(0, 1'000'000),
        "Idle connections kept, an event loop");
  t.add("tls", &Upstream::tls, client_tls(), "TLS towards `https://` workers that have no `tls` of their own");
  return section(std::move(t));
}

}  // namespace perigee::config
