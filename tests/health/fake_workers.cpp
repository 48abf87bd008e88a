// Workers in memory. See fake_workers.h.
#include "fake_workers.h"

namespace perigee::health {
namespace {

class FakeStream final : public net::Stream, private coro::Timer {
 public:
  explicit FakeStream(FakeWorkers& workers) : Timer(&fired), workers_(workers) {
    ++workers_.open;
    if (workers_.script.greets) answer_later();
  }
  ~FakeStream() override { --workers_.open; }

  [[nodiscard]] std::size_t backlog() const override { return 0; }
  void shutdown() override {}
  void reset_on_close() override {}

 private:
  Result<void> send(std::span<const net::Bytes> parts, std::size_t) override {
    for (const net::Bytes& part : parts)
      request_.append(part.data(), part.size());
    if (request_.ends_with("\r\n\r\n")) {
      workers_.last_request = request_;
      const std::size_t from = request_.find(' ') + 1;
      target_ = request_.substr(from, request_.find(' ', from) - from);
      request_.clear();
      ++workers_.asked[target_];
      answer_later();
    }
    return {};
  }
  void answer_later() {
    if (!workers_.script.silent)
      workers_.executor().arm(*this, workers_.executor().now() + workers_.script.delay);
  }
  static void fired(coro::Timer& t) { static_cast<FakeStream&>(t).answer(); }
  void answer() {
    const Script script = workers_.script;
    const std::string text = !script.nonsense.empty() ? script.nonsense
                             : script.answer          ? script.answer(target_)
                                                      : "";
    const bool end = script.end_after || text.find("close") != text.npos;
    dying_ = true;  // the reader may let go of us within received()
    if (!text.empty()) received(text);
    if (end && !closed_) received_end(Error{ErrorKind::eof, Side::upstream, Sent::maybe, 0, "end"});
    dying_ = false;
    if (closed_) delete this;
  }
  void pause_reading(bool) override {}
  void close() override {
    disarm();
    closed_ = true;
    if (!dying_) delete this;
  }

  FakeWorkers& workers_;
  std::string request_;
  std::string target_;
  bool dying_ = false;
  bool closed_ = false;
};

}  // namespace

std::string message(int status, const std::string& body, const std::string& extra) {
  return "HTTP/1.1 " + std::to_string(status) + " X\r\ncontent-length: " + std::to_string(body.size()) +
         "\r\n" + extra + "\r\n" + body;
}

std::string orbit_answer(const std::string& target) {
  if (target == "/health/ready")
    return message(200, R"({"ready":true,"healthy_ratio":1.0,"healthy_adapters":2,"total_adapters":2})");
  if (target == "/health") return message(200, R"({"status":"ok"})");
  if (target == "/metrics")
    return message(200, "process_cpu_seconds_total 5\nprocess_resident_memory_bytes 400000\n");
  return message(404, "Not Found");
}

coro::Task<Result<net::StreamPtr>> FakeWorkers::connect(const net::Endpoint&) {
  ++connects;
  const auto me = co_await coro::here();
  if (script.connect == Script::Connect::refuse)
    co_return fail(ErrorKind::refused, "refused", Side::upstream);
  if (script.connect == Script::Connect::no_descriptor) co_return fail(ErrorKind::exhausted, "no descriptor");
  const TimePoint until =
      script.connect == Script::Connect::hang ? kNever : me.executor->now() + script.connect_delay;
  const auto slept = co_await coro::sleep_until(until);
  if (!slept) co_return std::unexpected(slept.error());
  co_return net::StreamPtr(new FakeStream(*this));
}

}  // namespace perigee::health
