// A wire is two pipes. A pipe's bytes wait in the "system" (bounded), what did not fit in its writer's backlog.
// Each end has one node on the ready queue that hands over one slice at a time, so that a reader may close
// the stream, or the whole connection, from inside a delivery.
#include "perigee/net/memory_stream.h"

#include <algorithm>
#include <utility>

#include "perigee/coro/sleep.h"

namespace perigee::net {
namespace {

constexpr Error kBroken{ErrorKind::reset, Side::internal, Sent::maybe, 0, "the connection was reset"};
constexpr Error kEnded{ErrorKind::eof, Side::internal, Sent::maybe, 0, "the peer ended the connection"};

// One direction, towards the end with the same index.
struct Pipe {
  std::string bytes;    // on their way
  std::string backlog;  // written, no room yet
  bool end = false;     // the writer is done once both are empty
  bool stalled = false;
};

}  // namespace

struct MemoryLink::Wire : std::enable_shared_from_this<MemoryLink::Wire> {
  Wire(coro::Executor& e, LinkRules r) : executor(e), rules(std::move(r)) {}
  void fill(std::size_t end);
  void break_both();
  void poke(std::size_t end);

  coro::Executor& executor;
  LinkRules rules;
  std::array<Pipe, 2> to;                  // to[i] is read by end i
  std::array<MemoryStream*, 2> streams{};  // null before take() and after close
  std::array<bool, 2> gone{};              // closed
  bool broken = false;
};

class MemoryStream final : public Stream, private coro::ReadyNode {
 public:
  MemoryStream(std::shared_ptr<MemoryLink::Wire> wire, std::size_t end)
      : ReadyNode([](coro::ReadyNode& n) { static_cast<MemoryStream&>(n).deliver(); }),
        wire_(std::move(wire)),
        end_(end) {
    wire_->streams[end_] = this;
    wake();
  }

  [[nodiscard]] std::size_t backlog() const override { return out().backlog.size(); }
  [[nodiscard]] bool peer_has_left() const override { return ended() || wire_->broken || in().end; }
  void shutdown() override {
    if (shut_) return;
    shut_ = true;
    out().end = true;
    wire_->poke(1 - end_);
  }
  void reset_on_close() override { reset_ = true; }

  // Something may be there for us.
  void wake() { wire_->executor.post(*this); }
  void backlog_fell() { writable(); }

 private:
  [[nodiscard]] Pipe& in() const { return wire_->to[end_]; }
  [[nodiscard]] Pipe& out() const { return wire_->to[1 - end_]; }
  [[nodiscard]] bool fails() const { return wire_->rules.fail != nullptr && wire_->rules.fail->fails(); }

  Result<void> send(std::span<const Bytes> parts, std::size_t) override {
    if (shut_) return fail(ErrorKind::reset, "written after our end");
    if (ended_by_reset_) return std::unexpected(kBroken);
    if (fails()) wire_->break_both();
    if (wire_->broken) return std::unexpected(kBroken);
    if (wire_->gone[1 - end_]) {  // taken, and answered with a reset
      wire_->break_both();
      return {};
    }
    for (const Bytes& part : parts)
      out().backlog.append(part.data(), part.size());
    wire_->fill(1 - end_);
    return {};
  }
  void pause_reading(bool pause) override {
    paused_ = pause;
    if (!pause) wake();
  }

  // One slice, or the news of the end.
  void deliver() {
    if (done_ && wire_->broken && !ended_by_reset_) finish(kBroken);
    if (done_ || paused_) return;
    if (wire_->broken) {
      finish(kBroken);
      return;
    }
    if (in().stalled) return;
    if (in().bytes.empty()) {
      if (in().end) finish(kEnded);
      return;
    }
    if (fails()) {
      wire_->break_both();
      finish(kBroken);
      return;
    }
    const std::size_t available = in().bytes.size();
    const std::size_t wanted = wire_->rules.split ? wire_->rules.split(available) : available;
    const std::size_t n = std::clamp<std::size_t>(wanted, 1, available);
    const std::string slice = in().bytes.substr(0, n);
    in().bytes.erase(0, n);
    const std::shared_ptr<MemoryLink::Wire> wire = wire_;  // the stream may be gone after received()
    wire->fill(end_);
    wake();
    received(slice);
  }
  void finish(const Error& error) {
    done_ = true;
    ended_by_reset_ = error.kind != ErrorKind::eof;
    received_end(error);
  }

  void close() override {
    const bool hard = reset_ || !in().bytes.empty();
    wire_->streams[end_] = nullptr;
    wire_->gone[end_] = true;
    if (hard) {
      wire_->break_both();
    } else {
      out().backlog.clear();
      out().end = true;
      wire_->poke(1 - end_);
    }
    delete this;
  }

  std::shared_ptr<MemoryLink::Wire> wire_;
  std::size_t end_;
  bool shut_ = false;
  bool reset_ = false;
  bool paused_ = false;
  bool done_ = false;  // the end was told
  bool ended_by_reset_ = false;
};

// Moves what has room from the backlog onto the way to `end`.
void MemoryLink::Wire::fill(std::size_t end) {
  Pipe& pipe = to[end];
  const std::size_t room = rules.capacity - std::min(rules.capacity, pipe.bytes.size());
  const std::size_t n = std::min(room, pipe.backlog.size());
  if (n > 0) {
    pipe.bytes.append(pipe.backlog, 0, n);
    pipe.backlog.erase(0, n);
    if (streams[1 - end] != nullptr) streams[1 - end]->backlog_fell();
  }
  poke(end);
}

void MemoryLink::Wire::poke(std::size_t end) {
  if (streams[end] != nullptr) streams[end]->wake();
}

void MemoryLink::Wire::break_both() {
  if (broken) return;
  broken = true;
  for (Pipe& pipe : to) {
    pipe.bytes.clear();
    pipe.backlog.clear();
  }
  poke(0);
  poke(1);
}

LinkRules byte_by_byte() {
  LinkRules rules;
  rules.split = [](std::size_t) { return std::size_t{1}; };
  return rules;
}

MemoryLink::MemoryLink(coro::Executor& executor, LinkRules rules)
    : wire_(std::make_shared<Wire>(executor, std::move(rules))) {}

StreamPtr MemoryLink::take(std::size_t end) {
  return StreamPtr(new MemoryStream(wire_, end));
}

void MemoryLink::stall(std::size_t end, bool stalled) {
  wire_->to[end].stalled = stalled;
  if (!stalled) wire_->poke(end);
}

void MemoryLink::break_off() {
  wire_->break_both();
}
bool MemoryLink::closed(std::size_t end) const {
  return wire_->broken || wire_->gone[end];
}
std::size_t MemoryLink::in_flight(std::size_t end) const {
  return wire_->to[end].bytes.size() + wire_->to[end].backlog.size();
}

coro::Task<Result<StreamPtr>> MemoryNetwork::connect(const Endpoint& to) {
  Host& host = hosts_[to.text()];
  ++host.connects;
  constexpr Error kRefused{ErrorKind::refused, Side::internal, Sent::nothing, 0,
                           "the connection was refused"};
  if (fail_ != nullptr && fail_->fails()) co_return std::unexpected(kRefused);
  if (host.answer == Answer::hang || host.delay > Duration::zero()) {
    const TimePoint due = host.answer == Answer::hang ? kNever : executor_.now() + host.delay;
    auto waited = co_await coro::sleep_until(due);
    if (!waited) {
      Error error = waited.error();
      error.sent = Sent::nothing;
      co_return std::unexpected(error);
    }
  }
  if (host.answer != Answer::accept) co_return std::unexpected(kRefused);
  MemoryLink link(executor_, host.rules);
  StreamPtr ours = link.take(0);
  StreamPtr theirs = link.take(1);
  if (host.on_accept) host.on_accept(std::move(theirs), link);
  co_return ours;
}

}  // namespace perigee::net
