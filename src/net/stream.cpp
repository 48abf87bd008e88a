// What all kinds of stream share: handing bytes to the reader or keeping them for one, and the news of the end.
#include "perigee/net/stream.h"

#include "layered_stream.h"

namespace perigee::net {

void Stream::received(Bytes bytes) {
  bytes_in_ += bytes.size();
  received_by_thread += bytes.size();
  if (reader_ != nullptr) {
    Read* reader = reader_;
    reader_ = nullptr;
    reader->complete(bytes);  // `this` may be gone afterwards
    return;
  }
  if (above_ != nullptr) {
    above_->below_received(bytes);  // here too
    return;
  }
  if (pending_ == nullptr) pending_ = std::make_unique<std::string>();
  pending_->append(bytes.data(), bytes.size());
  hold_back();
}

void Stream::received_end(const Error& error) {
  const bool broken = error.kind != ErrorKind::eof;
  // A peer that has ended its side may still break the other: who waits to write must hear of it.
  if (ended_ && (!broken || broken_)) return;
  const bool first = !ended_;
  broken_ = broken;
  if (first) {
    ended_ = true;
    end_error_ = error;
  }
  if (above_ != nullptr) {
    above_->below_ended(error);  // `this` may be gone afterwards
    return;
  }
  if (broken && drainer_ != nullptr) {
    Drained* drainer = drainer_;
    drainer_ = nullptr;
    drainer->complete(std::unexpected(error));
  }
  if (!first) return;
  if (reader_ != nullptr) {
    Read* reader = reader_;
    reader_ = nullptr;
    reader->complete(std::unexpected(error));
    return;
  }
  if (end_watcher_ != nullptr) {
    coro::CancelSource* watcher = end_watcher_;
    end_watcher_ = nullptr;
    end_error_.side = end_side_;
    watcher->cancel(end_error_);
  }
}

void Stream::unread(Bytes rest) {
  if (rest.empty()) return;
  if (pending_ == nullptr) pending_ = std::make_unique<std::string>();
  pending_->insert(0, rest.data(), rest.size());
  hold_back();
}

// A peer that sends more than anybody reads waits, whether its bytes are new or were given back.
void Stream::hold_back() {
  if (pending_->size() <= kPendingMax || paused_ || ended_) return;
  paused_ = true;
  pause_reading(true);
}

void Stream::watch_end(coro::CancelSource* source, Side side) {
  end_watcher_ = source;
  end_side_ = side;
  if (source == nullptr || !ended_) return;
  end_watcher_ = nullptr;
  Error error = end_error_;
  error.side = side;
  source->cancel(error);
}

Result<void> Stream::write(std::span<const Bytes> parts) {
  std::size_t total = 0;
  for (const Bytes& part : parts) total += part.size();
  if (total == 0) return {};
  if (broken_) {
    if (end_error_.kind != ErrorKind::eof) return std::unexpected(end_error_);
    return fail(ErrorKind::reset, "the connection broke after the peer's end");
  }
  bytes_out_ += total;
  return send(parts, total);
}

void Stream::writable() {
  if (drainer_ == nullptr) {
    if (above_ != nullptr) above_->below_writable();
    return;
  }
  if (backlog() > drainer_->low_) return;
  Drained* drainer = drainer_;
  drainer_ = nullptr;
  drainer->complete({});
}

bool Stream::Read::await_ready() {
  if (stream_.has_pending()) {
    stream_.lent_ = std::move(stream_.pending_);
    if (stream_.paused_) {
      stream_.paused_ = false;
      if (!stream_.ended_) stream_.pause_reading(false);
    }
    result_ = Bytes(*stream_.lent_);
    return true;
  }
  if (stream_.ended_) {
    result_ = std::unexpected(stream_.end_error_);
    return true;
  }
  return false;
}

void Stream::Read::on_cancel(Wait& w, const Error& reason) {
  auto& self = static_cast<Read&>(w);
  if (self.stream_.reader_ == &self) self.stream_.reader_ = nullptr;
  self.result_ = std::unexpected(reason);
}

bool Stream::Drained::await_ready() {
  if (stream_.broken_) {
    const bool at_once = stream_.end_error_.kind != ErrorKind::eof;
    result_ = at_once ? std::unexpected(stream_.end_error_) : fail(ErrorKind::reset, "the connection was reset");
    return true;
  }
  return stream_.backlog() <= low_;
}

void Stream::Drained::on_cancel(Wait& w, const Error& reason) {
  auto& self = static_cast<Drained&>(w);
  if (self.stream_.drainer_ == &self) self.stream_.drainer_ = nullptr;
  self.result_ = std::unexpected(reason);
}

}  // namespace perigee::net
