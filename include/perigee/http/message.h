// A request or response head as this room hands it out: numbers, flags, and views into the received bytes.
//
// Nothing here owns text. A RequestHead, a ResponseHead and the HeaderTable beside it are valid while the
// bytes they were parsed from stay where they are; when those are moved, `rebase` moves the views along.
// One HeaderTable serves a whole event loop: it is filled by parse_head and used up in the same turn,
// before anything else may be parsed with it (write the forwarded head before waiting).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "perigee/http/header_name.h"

namespace perigee::http {

// CONNECT and TRACE are refused and have no value. `other` is any further method of the registry that
// llhttp knows (PROPFIND, REPORT …): passed on by its text.
enum class Method : std::uint8_t { get, head, post, put, del, options, patch, other };
std::string_view to_string(Method method);  // "GET" …; "other"

enum class Framing : std::uint8_t {
  none,    // no body
  length,  // content_length bytes
  chunked,
  until_close,  // answers only: the body ends where the connection ends
};

enum class UpgradeKind : std::uint8_t { none, websocket, other };

struct Header {
  std::string_view name;   // as received
  std::string_view value;  // without surrounding blanks
  HeaderName id = HeaderName::other;
  bool hop = false;        // named by Connection: not passed on
  bool canonical = false;  // the bytes around it are `name: value CRLF`, as we would write them
};

// The fields of one head in their order, bounded, with O(1) access to the first of each known name.
class HeaderTable {
 public:
  static constexpr std::size_t kCapacity = 256;

  HeaderTable() : headers_(std::make_unique<Header[]>(kCapacity)) {}

  void clear() {
    size_ = 0;
    present_.clear();
    repeated_.clear();
  }
  // False when the table is full. `name` is a token, `value` trimmed.
  bool add(std::string_view name, std::string_view value);
  // For the reader of heads: the places to fill, and then how many of them it filled (name, value, id).
  [[nodiscard]] Header* places() { return headers_.get(); }
  void filled(std::size_t count);

  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] std::span<const Header> headers() const { return {headers_.get(), size_}; }
  [[nodiscard]] std::span<Header> headers() { return {headers_.get(), size_}; }
  [[nodiscard]] const Header* begin() const { return headers_.get(); }
  [[nodiscard]] const Header* end() const { return headers_.get() + size_; }

  [[nodiscard]] bool has(HeaderName id) const { return present_.contains(id); }
  // More than one line of this name.
  [[nodiscard]] bool repeated(HeaderName id) const { return repeated_.contains(id); }
  // The first of this known name; nullptr where there is none.
  [[nodiscard]] const Header* find(HeaderName id) const {
    return has(id) ? &headers_[first_[static_cast<std::size_t>(id)]] : nullptr;
  }
  // Its value; empty where there is none.
  [[nodiscard]] std::string_view value(HeaderName id) const {
    const Header* header = find(id);
    return header == nullptr ? std::string_view{} : header->value;
  }
  [[nodiscard]] const HeaderSet& present() const { return present_; }

  // Every view into `from` now points to the same place in the copy at `to`.
  void rebase(std::string_view from, const char* to);

 private:
  std::unique_ptr<Header[]> headers_;
  std::size_t size_ = 0;
  HeaderSet present_;
  HeaderSet repeated_;
  std::array<std::uint8_t, kHeaderNameCount> first_;  // valid where present_ has the bit
};

// What a request's head says without the bytes that it came in: for whoever outlives them.
struct RequestFacts {
  std::uint64_t content_length = 0;  // with Framing::length
  std::uint32_t head_bytes = 0;      // from the first byte to the empty line, included
  Method method = Method::get;
  std::uint8_t version_minor = 1;  // 0 or 1
  Framing framing = Framing::none;
  UpgradeKind upgrade = UpgradeKind::none;
  bool keep_alive = true;        // the client wishes it
  bool expect_continue = false;  // and waits for a 100 before it sends its body

  // "Content-Length: 0" is Framing::length, and no body.
  [[nodiscard]] bool has_body() const { return framing == Framing::chunked || content_length != 0; }
};

struct RequestHead : RequestFacts {
  std::string_view method_text;       // of static storage: outlives the bytes; a zero follows
  std::string_view target;            // origin form as it is forwarded: "/path?query", or "*"
  std::string_view authority;         // Host as received; empty only from an HTTP/1.0 client that sent none
  std::string_view upgrade_protocol;  // what Upgrade asks for; empty unless `upgrade` is set

  void rebase(std::string_view from, const char* to);
};

struct ResponseHead {
  std::string_view reason;           // may be empty
  std::uint64_t content_length = 0;  // valid with has_content_length
  std::uint32_t head_bytes = 0;
  std::uint16_t status = 0;  // 100 to 599
  std::uint8_t version_minor = 1;
  Framing framing = Framing::none;  // of the body that follows; none for HEAD, 1xx, 204, 304
  bool has_content_length = false;  // also told for HEAD and 304, where no body follows
  bool keep_alive = true;           // the worker's connection may be used again after this answer
  bool event_stream = false;        // Content-Type is text/event-stream

  [[nodiscard]] bool interim() const { return status < 200 && status != 101; }
  void rebase(std::string_view from, const char* to);
};

}  // namespace perigee::http
