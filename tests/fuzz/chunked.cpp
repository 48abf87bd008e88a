// Chunked bodies: however they are cut and however few places there are for the pieces, the decoder gives the data
// that a plain reading of RFC 9112, 7.1 gives, and stops at the same byte.
#include <array>
#include <optional>

#include "fuzz.h"
#include "perigee/http/parser.h"

namespace {

using namespace perigee;

struct Decoded {
  enum class End { more, done, broken } end = End::more;
  std::string data;
  std::size_t used = 0;
};

Decoded by_us(std::string_view bytes, const std::vector<std::size_t>& ends, std::size_t places, std::uint64_t bound) {
  http::BodyDecoder decoder;
  decoder.start(http::Framing::chunked, 0);
  decoder.bound(bound);
  Decoded decoded;
  std::array<std::string_view, 8> pieces;
  for (const std::size_t end : ends) {
    while (true) {
      const fuzz::Exact read(bytes.substr(decoded.used, end - decoded.used));
      const http::BodyStep step = decoder.decode(read.span(), std::span(pieces).first(places));
      std::size_t sum = 0;
      for (std::size_t i = 0; i < step.pieces; ++i) {
        fuzz::demand(!pieces[i].empty(), "an empty piece");
        decoded.data.append(pieces[i]);
        sum += pieces[i].size();
      }
      fuzz::demand(sum == step.bytes && step.consumed <= end - decoded.used, "counts of a step");
      decoded.used += step.consumed;
      if (step.refused()) {
        fuzz::demand(step.http_status == 400 || step.http_status == 413, "status of a refusal");
        decoded.end = Decoded::End::broken;
        return decoded;
      }
      if (step.done()) {
        decoded.end = Decoded::End::done;
        return decoded;
      }
      if (decoded.used == end) break;
      fuzz::demand(step.pieces == places, "a step that stops early without need");
    }
  }
  return decoded;
}

// The grammar, line by line, without any bound. Nothing: not (yet) a chunked body.
std::optional<Decoded> by_the_book(std::string_view bytes) {
  Decoded decoded;
  const auto line = [&](std::string_view& text) {
    const std::size_t end = bytes.find("\r\n", decoded.used);
    if (end == std::string_view::npos) return false;
    text = bytes.substr(decoded.used, end - decoded.used);
    decoded.used = end + 2;
    for (const char c : text) {
      const int value = static_cast<unsigned char>(c);
      if ((value < 32 && c != '\t') || value == 127) return false;
    }
    return true;
  };
  while (true) {
    std::string_view text;
    if (!line(text)) return {};
    const std::string_view digits = text.substr(0, text.find(';'));
    if (digits.empty() || digits.size() > 16) return {};
    std::uint64_t size = 0;
    for (const char c : digits) {
      static constexpr std::string_view kDigits = "0123456789abcdef";
      const std::size_t digit = kDigits.find(c >= 'A' && c <= 'F' ? static_cast<char>(c + 32) : c);
      if (digit == std::string_view::npos) return {};
      size = size * 16 + digit;
    }
    if (size == 0) break;
    if (size > bytes.size() - decoded.used) return {};
    decoded.data.append(bytes.substr(decoded.used, static_cast<std::size_t>(size)));
    decoded.used += static_cast<std::size_t>(size);
    if (bytes.substr(decoded.used, 2) != "\r\n") return {};
    decoded.used += 2;
  }
  while (true) {
    std::string_view text;
    if (!line(text)) return {};
    if (text.empty()) break;
    static constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
    const std::size_t colon = text.find(':');
    if (colon == 0 || colon == std::string_view::npos) return {};
    for (const char c : text.substr(0, colon)) {
      const bool token = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || kMarks.find(c) != kMarks.npos;
      if (!token) return {};
    }
  }
  decoded.end = Decoded::End::done;
  return decoded;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes = fuzz::text_of(data, size);
  const std::uint64_t hash = fuzz::hash_of(bytes);
  const std::uint64_t bound = (hash & 3) == 0 ? hash % 64 : http::BodyDecoder::kNoBound;
  Decoded first;
  bool have = false;
  for (const auto& ends : fuzz::cuts_of(bytes)) {
    const std::size_t places = 1 + static_cast<std::size_t>(hash >> 8) % 8;
    const Decoded got = by_us(bytes, ends, have ? places : 8, bound);
    if (have) {
      fuzz::demand(got.end == first.end, "the verdict on a body depends on how it was cut");
      if (got.end == Decoded::End::done) fuzz::demand(got.used == first.used, "its end depends on how it was cut");
      if (got.end != Decoded::End::broken) fuzz::demand_same(got.data, first.data, "data, cut differently");
    }
    first = got;
    have = true;
  }
  const auto book = by_the_book(bytes);
  if (first.end == Decoded::End::done) {
    fuzz::demand(book.has_value(), "taken against the grammar");
    fuzz::demand_same(first.data, book->data, "data by the grammar");
    fuzz::demand(first.used == book->used, "the end by the grammar");
  } else if (first.end == Decoded::End::more && bound == http::BodyDecoder::kNoBound) {
    fuzz::demand(!book.has_value(), "a whole body that was not taken as one");
  }
  return 0;
}
