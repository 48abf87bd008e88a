#include "passing.h"

#include <algorithm>
#include <array>
#include <memory>

#include "perigee/http/chunk.h"
#include "perigee/http/forward.h"
#include "perigee/http/parser.h"
#include "perigee/http/target.h"

namespace perigee::test {
namespace {

// In memory of exactly its size, so that the sanitizer sees every byte read too far.
class Exact {
 public:
  explicit Exact(std::string_view bytes)
      : copy_(std::make_unique<char[]>(std::max<std::size_t>(bytes.size(), 1))), size_(bytes.size()) {
    bytes.copy(copy_.get(), size_);
  }
  [[nodiscard]] std::span<const char> span() const { return {copy_.get(), size_}; }

 private:
  std::unique_ptr<char[]> copy_;
  std::size_t size_;
};

// Whether the path, too, is one that two readers understand alike; the proxy asks before it forwards.
bool good_path(std::string_view target) {
  std::string room(target.size(), '\0');
  return http::normalise_path(target, http::EncodedSlash::separator, room).ok();
}

void write_body(std::string& out, http::Framing framing, const std::string& body, bool ended) {
  if (framing == http::Framing::chunked) {
    if (!body.empty()) out.append(http::ChunkHead(body.size()).view()).append(body).append(http::kChunkEnd);
    if (ended) out.append(http::kLastChunk);
  } else {
    out.append(body);
  }
}

}  // namespace

Forwarded forward_requests(std::string_view bytes, std::span<const std::size_t> ends) {
  http::HeaderTable table;
  http::RequestParser parser;
  Forwarded result;
  http::Framing framing = http::Framing::none;
  std::string body;
  bool in_body = false;
  bool keep = true;
  std::size_t at = 0;  // first byte not yet used
  for (const std::size_t end : ends) {
    while (at < end || in_body) {
      if (!in_body) {
        const Exact copy(bytes.substr(at, end - at));
        http::RequestHead head;
        const http::HeadResult read = parser.parse_head(copy.span(), http::HeadLimits{}, head, table);
        if (read.refused() || (read.complete() && !good_path(head.target))) {
          result.status = read.refused() ? read.http_status : 400;
          return result;
        }
        if (!read.complete()) break;
        http::ForwardContext context;
        context.peer = kPeer;
        context.request_id = kOurId;
        context.framing = framing = head.framing;
        context.content_length = head.content_length;
        if (head.authority.empty()) context.host = "localhost";
        ByteBuffer out;
        http::write_request_head(out, head, table, context);
        body.assign(out.view());
        result.continues |= head.expect_continue;
        keep = head.keep_alive;
        at += read.consumed;
        in_body = true;
      }
      // Heads go out with their bodies: of a broken body nothing small ever reaches a worker.
      std::array<std::string_view, 3> pieces;
      const Exact copy(bytes.substr(at, end - at));
      const http::BodyStep step = parser.feed_body(copy.span(), pieces);
      const std::size_t head_end = body.find("\r\n\r\n") + 4;
      for (std::size_t i = 0; i < step.pieces; ++i)
        body.append(pieces[i]);
      at += step.consumed;
      if (step.refused()) {
        result.status = step.http_status;
        return result;
      }
      if (!step.done()) {
        if (at == end) break;
        continue;
      }
      result.bytes.append(body, 0, head_end);
      write_body(result.bytes, framing, body.substr(head_end), true);
      in_body = false;
      if (!keep) {
        result.closed = true;
        return result;
      }
    }
  }
  result.unfinished = in_body || at < bytes.size();
  return result;
}

Delivered deliver_answer(std::string_view asked, bool closes, std::string_view bytes,
                         std::span<const std::size_t> ends, std::size_t skip) {
  http::HeaderTable table;
  http::ResponseParser parser;
  http::RequestHead request;
  if (asked == "HEAD") request.method = http::Method::head;
  if (asked.starts_with("1.0")) request.version_minor = 0;
  http::Expected expected;
  expected.method = request.method;
  if (asked == "websocket") expected.upgrade_protocol = "websocket";

  Delivered result;
  http::ResponsePlan plan;
  std::string body;
  bool in_body = false;
  bool done = false;
  bool keep = false;
  bool tunnel = false;
  std::size_t at = 0;
  for (const std::size_t end : ends) {
    while (!in_body && at < end) {
      const Exact copy(bytes.substr(at, end - at));
      http::ResponseHead head;
      const bool before = at < skip;
      const http::HeadResult read = parser.parse_head(copy.span(), http::HeadLimits{}, expected, head, table);
      if (read.refused()) {
        result.bytes.clear();
        result.refused = true;
        return result;
      }
      if (!read.complete()) break;
      at += read.consumed;
      http::ResponseContext context;
      context.client_minor = request.version_minor;
      ByteBuffer out;
      if (head.interim()) {
        if (head.status == 100 || request.version_minor == 0) continue;
        http::write_response_head(out, head, table, context);
        result.bytes.append(out.view());
        continue;
      }
      if (before) {  // an answer without a body, of an earlier request
        parser.reset();
        continue;
      }
      // A client that wanted an upgrade and did not get it may have sent what is no HTTP: its connection ends.
      plan = http::plan_response(head, request, asked != "1.0" && asked != "websocket");
      context.plan = plan;
      context.upgrade = tunnel = head.status == 101;
      context.date = "now";
      context.request_id = kOurId;
      http::write_response_head(out, head, table, context);
      result.bytes.append(out.view());
      keep = head.keep_alive && head.framing != http::Framing::until_close;
      in_body = true;
    }
    if (!in_body) continue;
    std::array<std::string_view, 3> pieces;
    while (!done) {
      const Exact copy(bytes.substr(at, end - at));
      const http::BodyStep step = parser.feed_body(copy.span(), pieces);
      for (std::size_t i = 0; i < step.pieces; ++i)
        body.append(pieces[i]);
      at += step.consumed;
      if (step.refused()) {
        write_body(result.bytes, plan.framing, body, false);
        result.cut = true;
        return result;
      }
      done = step.done();
      if (at == end) break;
    }
  }
  if (tunnel) {
    result.bytes.append(bytes.substr(at));
    return result;
  }
  if (!done) {
    if (!closes) {
      result = {};
      result.incomplete = true;
      return result;
    }
    switch (parser.finish(bytes.size() - at)) {
      case http::ResponseEnd::complete: done = true; break;
      case http::ResponseEnd::cut:
      case http::ResponseEnd::nothing:
        result.refused = !in_body;
        result.cut = in_body;
        if (!in_body) result.bytes.clear();
        break;
    }
  }
  if (in_body) write_body(result.bytes, plan.framing, body, done);
  result.kept = done && keep && at == bytes.size();
  return result;
}

}  // namespace perigee::test
