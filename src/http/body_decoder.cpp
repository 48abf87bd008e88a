// Takes the framing off a body: by length, by chunks, or up to the end of the connection.
//
// Our own and not llhttp's, because between two chunks of a stream that runs for minutes only these few words
// should have to stay; tests/http/body_decoder_test.cpp holds it against llhttp, byte for byte.
#include <algorithm>

#include "bytes.h"
#include "perigee/http/parser.h"

namespace perigee::http {
namespace {

constexpr std::uint32_t kExtensionMax = 256;         // of one chunk
constexpr std::uint32_t kExtensionsMax = 16 * 1024;  // of one message
constexpr std::uint32_t kTrailersMax = 8 * 1024;
constexpr std::uint16_t kTrailerLinesMax = 64;
constexpr std::uint16_t kSizeDigitsMax = 16;
const char* const kTooLarge = "body over its bound";

}  // namespace

void BodyDecoder::start(Framing framing, std::uint64_t content_length) {
  *this = BodyDecoder();
  framing_ = framing;
  switch (framing) {
    case Framing::none: break;
    case Framing::length:
      remaining_ = content_length;
      state_ = content_length == 0 ? State::done : State::data;
      break;
    case Framing::chunked: state_ = State::size_first; break;
    case Framing::until_close: state_ = State::endless; break;
  }
}

BodyStep BodyDecoder::decode(std::span<const char> in, std::span<std::string_view> out) {
  BodyStep step;
  const char* p = in.data();
  const char* const end = p + in.size();
  while (true) {
    if (state_ == State::data || state_ == State::endless) {
      if (p == end || step.pieces == out.size()) break;
      const auto here = static_cast<std::uint64_t>(end - p);
      const std::uint64_t take = state_ == State::data ? std::min(remaining_, here) : here;
      if (room_ < (state_ == State::data ? remaining_ : here)) {
        broken(kTooLarge);
        continue;
      }
      if (room_ != kNoBound) room_ -= take;
      out[step.pieces++] = {p, static_cast<std::size_t>(take)};
      step.bytes += static_cast<std::size_t>(take);
      p += take;
      if (state_ == State::endless) continue;
      remaining_ -= take;
      if (remaining_ == 0) state_ = framing_ == Framing::chunked ? State::data_cr : State::done;
      continue;
    }
    if (state_ == State::done) {
      step.status = BodyStep::Status::done;
      break;
    }
    if (state_ == State::broken) {
      step.status = BodyStep::Status::refused;
      step.reason = why_;
      step.http_status = why_ == kTooLarge ? 413 : 400;
      break;
    }
    if (p == end) break;
    p = skip_framing(p, end);
    if (p == nullptr) p = end;  // broken: told in the next turn
  }
  step.consumed = static_cast<std::size_t>(p - in.data());
  return step;
}

const char* BodyDecoder::broken(const char* why) {
  state_ = State::broken;
  why_ = why;
  return nullptr;
}

const char* BodyDecoder::skip_framing(const char* p, const char* end) {
  for (; p < end; ++p) {
    const char c = *p;
    switch (state_) {
      case State::size_first:
        remaining_ = 0;
        line_ = 0;
        if (hex_value(c) < 0) return broken("chunk size is not a hexadecimal number");
        state_ = State::size;
        [[fallthrough]];
      case State::size: {
        const int digit = hex_value(c);
        if (digit >= 0) {
          if (++line_ > kSizeDigitsMax || (remaining_ >> 59) != 0) return broken("chunk size too large");
          remaining_ = remaining_ << 4 | static_cast<std::uint64_t>(digit);
        } else if (c == '\r') {
          state_ = State::size_lf;
        } else if (c == ';') {
          line_ = 0;
          state_ = State::extension;
        } else {
          return broken("chunk size is not a hexadecimal number");
        }
        break;
      }
      case State::extension:
        if (c == '\r') {
          state_ = State::size_lf;
        } else if ((byte_of(c) < 0x20 && c != '\t') || c == 0x7f) {
          return broken("control character in a chunk extension");
        } else if (++line_ > kExtensionMax || ++overhead_ > kExtensionsMax) {
          return broken("chunk extensions over their bound");
        }
        break;
      case State::size_lf:
        if (c != '\n') return broken("bare CR in a chunk size line");
        line_ = 0;
        if (remaining_ != 0) {
          state_ = State::data;
          return p + 1;
        }
        overhead_ = 0;
        state_ = State::trailer_start;
        break;
      case State::data_cr:
        if (c != '\r') return broken("chunk data longer than its size");
        state_ = State::data_lf;
        break;
      case State::data_lf:
        if (c != '\n') return broken("bare CR after chunk data");
        state_ = State::size_first;
        break;
      case State::trailer_start:
        if (c == '\r') {
          state_ = State::last_cr;
          break;
        }
        if (!kTokenChar[byte_of(c)]) return broken("malformed trailer");
        if (++line_ > kTrailerLinesMax) return broken("too many trailers");
        state_ = State::trailer_name;
        [[fallthrough]];
      case State::trailer_name:
        if (c == ':') {
          state_ = State::trailer_value;
        } else if (!kTokenChar[byte_of(c)]) {
          return broken("malformed trailer");
        }
        if (++overhead_ > kTrailersMax) return broken("trailers over their bound");
        break;
      case State::trailer_value:
        if (c == '\r') {
          state_ = State::trailer_cr;
        } else if ((byte_of(c) < 0x20 && c != '\t') || c == 0x7f) {
          return broken("control character in a trailer");
        }
        if (++overhead_ > kTrailersMax) return broken("trailers over their bound");
        break;
      case State::trailer_cr:
        if (c != '\n') return broken("bare CR in a trailer");
        state_ = State::trailer_start;
        break;
      case State::last_cr:
        if (c != '\n') return broken("bare CR at the end of a body");
        state_ = State::done;
        return p + 1;
      case State::done:
      case State::data:
      case State::endless:
      case State::broken: return p;
    }
  }
  return p;
}

}  // namespace perigee::http
