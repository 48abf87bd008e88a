// Reads one answer to a probe: piece by piece, body handed on, nothing kept but an unfinished head.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "perigee/http/parser.h"
#include "perigee/net/stream.h"

namespace perigee::health {

class AnswerReader {
 public:
  using OnBody = std::function<void(std::string_view)>;

  // `table` is only used within calls; one may serve all readers of a thread.
  explicit AnswerReader(http::HeaderTable& table, OnBody on_body = {})
      : table_(table), on_body_(std::move(on_body)) {}

  void feed(net::Bytes bytes);
  // The worker ended its side.
  void end();

  [[nodiscard]] bool has_head() const { return state_ == State::body || state_ == State::done; }
  [[nodiscard]] bool done() const { return state_ == State::done; }
  [[nodiscard]] bool broken() const { return state_ == State::broken; }  // not HTTP, or cut off
  // Anything of an answer came, were it nonsense.
  [[nodiscard]] bool began() const { return began_; }
  [[nodiscard]] int status() const { return status_; }  // once has_head()
  // After done(): the connection may carry another request.
  [[nodiscard]] bool reusable() const { return done() && keep_alive_ && !surplus_; }

 private:
  enum class State : std::uint8_t { head, body, done, broken };
  void feed_head(net::Bytes bytes);
  void feed_body(net::Bytes bytes);

  http::HeaderTable& table_;
  OnBody on_body_;
  http::ResponseParser parser_;
  std::string head_;
  State state_ = State::head;
  int status_ = 0;
  bool began_ = false;
  bool keep_alive_ = false;
  bool surplus_ = false;  // bytes came that nobody asked for
};

}  // namespace perigee::health
