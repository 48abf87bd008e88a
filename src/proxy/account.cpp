// The end of every exchange: one line in the log, one count in each table, exactly once.
#include "inner.h"
#include "stages.h"

namespace perigee::proxy {

using telemetry::Latency;

namespace {

Duration between(TimePoint from, TimePoint to) {
  return from == kNever || to == kNever ? telemetry::kNotReached : to - from;
}

// What lies behind the request on its connection belongs to the next one.
std::uint64_t bytes_received(const Exchange& x) {
  return x.client.stream->bytes_in() - x.client.stream->pending() - x.client_in_before;
}

void write_line(Exchange& x, TimePoint now) {
  const Times& t = x.times;
  telemetry::AccessRecord record;
  record.wall_ms = x.proxy.parts.clock.wall_ms() - std::chrono::duration_cast<std::chrono::milliseconds>(now - t.begun).count();
  record.request_id = x.text(Texts::kRequestId);
  record.worker_request_id = x.text(Texts::kWorkerRequestId);
  record.trace_id = &x.trace_id;
  const std::string_view told = x.text(Texts::kClientAddress);
  record.client = told.empty() ? std::string_view(x.client.peer.text.data()) : told;
  record.method = x.method;
  record.path = x.text(Texts::kPath);
  record.request_class = x.verdict.request_class;
  record.priority = x.verdict.priority;
  record.reason = x.reason;
  record.stream = x.verdict_of_stream;
  if (x.backend.exists()) record.backend = x.proxy.backends[x.backend.id].name;
  record.attempts = x.attempts;
  record.status = x.status;
  record.client_gone = x.client_gone;
  record.detached = x.detached;
  record.bytes_in = bytes_received(x);
  record.bytes_out = x.client.stream->bytes_out() - x.client_out_before;
  record.read = between(t.begun, t.read);
  record.queue = between(t.asked, t.granted);
  record.connect = between(t.granted, t.connected);
  record.head = between(t.sent, t.head);
  record.first_event = between(t.granted, t.first_event);
  record.total = now - t.begun;
  x.proxy.parts.access_log->append(record, now);
}

}  // namespace

void account(Exchange& x) {
  const TimePoint now = x.proxy.now();
  if (x.rates) settle_rates(x);
  const RequestClass c = x.verdict.request_class;
  telemetry::LoopMetrics& metrics = x.proxy.metrics();
  metrics.finished(c, x.reason);
  metrics.responded(c, x.status);
  if (x.event_stream) metrics.stream_ended(c, x.verdict_of_stream);
  metrics.add(telemetry::Count::client_bytes_received, bytes_received(x));
  metrics.add(telemetry::Count::client_bytes_sent, x.client.stream->bytes_out() - x.client_out_before);
  if (x.times.granted != kNever) metrics.observe(Latency::queue_wait, c, x.times.granted - x.times.asked);
  if (x.times.first_event != kNever) metrics.observe(Latency::first_event, c, x.times.first_event - x.times.granted);
  if (x.streamed && x.times.head != kNever && x.times.sent != kNever) metrics.observe(Latency::head_lag, c, x.times.head - x.times.sent);
  metrics.observe(Latency::duration, c, now - x.times.begun);
  if (x.proxy.parts.access_log != nullptr) write_line(x, now);
}

}  // namespace perigee::proxy
