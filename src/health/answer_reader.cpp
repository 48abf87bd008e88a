// One answer to a probe. See answer_reader.h.
#include "answer_reader.h"

#include <array>

namespace perigee::health {

void AnswerReader::feed(net::Bytes bytes) {
  began_ = began_ || !bytes.empty();
  switch (state_) {
    case State::head: return feed_head(bytes);
    case State::body: return feed_body(bytes);
    case State::done: surplus_ = surplus_ || !bytes.empty(); return;
    case State::broken: return;
  }
}

void AnswerReader::feed_head(net::Bytes bytes) {
  head_.append(bytes.data(), bytes.size());
  http::ResponseHead head;
  for (;;) {
    const http::HeadResult result = parser_.parse_head(head_, {}, {}, head, table_);
    if (result.refused()) {
      state_ = State::broken;
      return;
    }
    if (!result.complete()) return;  // bounded by the parser
    if (head.interim()) {
      head_.erase(0, result.consumed);
      continue;
    }
    status_ = head.status;
    keep_alive_ = head.keep_alive;
    state_ = State::body;
    const std::string rest = head_.substr(result.consumed);
    head_.clear();
    feed_body(rest);
    return;
  }
}

void AnswerReader::feed_body(net::Bytes bytes) {
  std::array<std::string_view, 8> pieces;
  for (;;) {
    const http::BodyStep step = parser_.feed_body(bytes, pieces);
    if (step.refused()) {
      state_ = State::broken;
      return;
    }
    for (std::size_t i = 0; on_body_ && i < step.pieces; ++i)
      on_body_(pieces[i]);
    bytes = bytes.subspan(step.consumed);
    if (step.done()) {
      state_ = State::done;
      surplus_ = !bytes.empty();
      return;
    }
    if (bytes.empty()) return;
  }
}

void AnswerReader::end() {
  if (state_ == State::done) return;
  const bool whole = parser_.finish(head_.size()) == http::ResponseEnd::complete;
  state_ = state_ == State::body && whole ? State::done : State::broken;
  keep_alive_ = false;
}

}  // namespace perigee::health
