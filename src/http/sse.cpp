// Two small machines, one inside the other: lines of an event stream, and the JSON of its data lines.
//
// Both stop at any byte and go on with the next piece. Of the JSON only the path down to the interesting keys
// is kept: one bit a level for object or array, and for the outer five levels which known key stands there.
// Text is skipped sixteen bytes at a time, so an event costs little more than its punctuation.
#include "perigee/http/sse.h"

#include <algorithm>

#include "bytes.h"

namespace perigee::http {
namespace {

enum Key : std::uint8_t {
  kNoKey,
  kResponse,
  kDone,
  kError,
  kRequestId,
  kAudioChunk,
  kChoices,
  kDelta,
  kFinishReason,
  kText,
  kContent,
  kStructured,
  kOrbit,
};

template <std::size_t N>
bool is(const char* name, const char (&word)[N]) {
  return std::memcmp(name, word, N - 1) == 0;
}

Key key_from(std::string_view key) {
  const char* const name = key.data();
  switch (key.size()) {
    case 4: return is(name, "done") ? kDone : is(name, "text") ? kText : kNoKey;
    case 5:
      if (is(name, "delta")) return kDelta;
      if (is(name, "error")) return kError;
      if (is(name, "orbit")) return kOrbit;
      return is(name, "audio") ? kStructured : kNoKey;
    case 7:
      return is(name, "content") || is(name, "refusal") ? kContent : is(name, "choices") ? kChoices : kNoKey;
    case 8: return is(name, "response") ? kResponse : kNoKey;
    case 9: return is(name, "reasoning") ? kContent : kNoKey;
    case 10: return is(name, "request_id") ? kRequestId : is(name, "tool_calls") ? kStructured : kNoKey;
    case 11: return is(name, "audio_chunk") ? kAudioChunk : kNoKey;
    case 13:
      return is(name, "finish_reason") ? kFinishReason : is(name, "function_call") ? kStructured : kNoKey;
    case 17: return is(name, "reasoning_content") ? kContent : kNoKey;
    default: return kNoKey;
  }
}

// What an event has shown (flags_).
enum Flag : std::uint16_t {
  kOutputFlag = 1,    // model output
  kTerminalFlag = 2,  // "done": true, or [DONE]
  kErrorFlag = 4,
  kFinishFlag = 8,       // a finish_reason
  kJsonFlag = 16,        // its data began as an object
  kOpaqueFlag = 32,      // its data is of no interest, or not understood
  kWantText = 64,        // the string in hand is output if it is not empty
  kWantReason = 128,     // the string in hand is a finish_reason: kept in key_
  kWantRequestId = 256,  // the string in hand is the request id
  kWantAny = kWantText | kWantReason | kWantRequestId,
};

constexpr std::string_view kDataField = "data";
constexpr std::string_view kDoneText = "[DONE]";

}  // namespace

SseScanner::Seen SseScanner::feed(std::string_view piece) {
  Seen seen;
  const char* p = piece.data();
  const char* const end = p + piece.size();
  while (p < end) {
    const char c = *p;
    const bool line_end = c == '\n' || c == '\r';
    switch (line_) {
      case Line::after_cr:
        line_ = Line::start;
        if (c == '\n') {
          ++p;
          break;
        }
        [[fallthrough]];
      case Line::start:
        if (line_end) {
          end_event(seen);
          line_ = c == '\r' ? Line::after_cr : Line::start;
          ++p;
        } else if (c == ':') {
          line_ = Line::comment;
        } else {
          pending_ = true;
          matched_ = 0;
          line_ = Line::field;
          if (end - p >= 6 && std::memcmp(p, "data:", 5) == 0) {  // in one step, where it is here
            line_ = Line::data_blank;
            p += 5;
          }
        }
        break;
      case Line::field:
        if (matched_ == kDataField.size()) {
          if (c == ':') {
            line_ = Line::data_blank;
            matched_ = 0;
            ++p;
          } else {
            line_ = Line::other;
          }
        } else if (c == kDataField[matched_]) {
          ++matched_;
          ++p;
        } else {
          line_ = Line::other;
        }
        break;
      case Line::data_blank:
        if (c == ' ' && matched_ == 0) {
          matched_ = 1;  // one blank after the colon belongs to the format
          ++p;
          break;
        }
        matched_ = 0;
        if (line_end) {
          line_ = Line::other;
        } else if ((flags_ & kOpaqueFlag) != 0) {
          line_ = Line::opaque;
        } else if ((flags_ & kJsonFlag) != 0) {
          line_ = Line::json;
        } else if (dialect_ == SseDialect::generic) {
          flags_ |= kOutputFlag | kOpaqueFlag;
          line_ = Line::opaque;
        } else if (c == '{') {
          flags_ |= kJsonFlag;
          json_ = Json::value;
          depth_ = 0;
          objects_ = 0;
          escape_ = false;
          line_ = Line::json;
        } else if (c == '[' && dialect_ == SseDialect::openai) {
          line_ = Line::done_text;
        } else {
          flags_ |= kOpaqueFlag;
          line_ = Line::opaque;
        }
        break;
      case Line::done_text:
        if (line_end) {
          if (matched_ == kDoneText.size()) flags_ |= kTerminalFlag;
          flags_ |= kOpaqueFlag;
          line_ = Line::other;
        } else {
          if (matched_ < kDoneText.size() && c == kDoneText[matched_]) {
            ++matched_;
          } else {
            matched_ = 0xff;
          }
          ++p;
        }
        break;
      case Line::json:
        p = feed_json(p, end, seen);
        if (p < end) line_ = (flags_ & kOpaqueFlag) != 0 ? Line::opaque : Line::other;
        break;
      case Line::comment:
      case Line::other:
      case Line::opaque:
        p = find_line_end(p, end);
        if (p < end) {
          line_ = *p == '\r' ? Line::after_cr : Line::start;
          ++p;
        }
        break;
    }
  }
  return seen;
}

// A value begins at the place that `depth` and path_ describe; `first` is its first character.
inline void SseScanner::value_begins(char first, unsigned depth) {
  if (depth == 0 || path_[0] == kNoKey) return;
  const bool null = first == 'n';
  const bool text = first == '"';
  const std::uint8_t outermost = path_[0];
  if (dialect_ == SseDialect::orbit_chat) {
    if (depth != 1) return;
    if (outermost == kDone && first == 't') flags_ |= kTerminalFlag;
    if (outermost == kError && !null) flags_ |= kErrorFlag;
    if ((outermost == kResponse || outermost == kAudioChunk) && text) flags_ |= kWantText;
    if (outermost == kRequestId && text) flags_ |= kWantRequestId;
    return;
  }
  if (depth == 1) {
    if (outermost == kError && !null) flags_ |= kErrorFlag;
  } else if (outermost == kOrbit) {
    if (depth == 2 && path_[1] == kError && !null) flags_ |= kErrorFlag;
  } else if (outermost == kChoices && depth == 3) {
    if (path_[2] == kFinishReason && !null) flags_ |= text ? kFinishFlag | kWantReason : kFinishFlag;
    if (path_[2] == kText && text) flags_ |= kWantText;
  } else if (outermost == kChoices && depth >= 4 && path_[2] == kDelta) {
    if (depth == 4 && path_[3] == kContent && text) flags_ |= kWantText;
    if (depth >= 5 && path_[3] == kStructured) flags_ |= kOutputFlag;  // something inside tool_calls
  }
}

// Reads JSON up to the end of the line or the piece. Outside of strings any text moves on: what is no JSON
// means nothing, and a line end always brings the machine back.
const char* SseScanner::feed_json(const char* p, const char* end, Seen& seen) {
  const char* text_begin = nullptr;  // of a request id that began in this piece
  // Held in registers: the compiler must otherwise assume that they change under it.
  Json json = json_;
  unsigned depth = depth_;
  std::uint32_t objects = objects_;
  while (p < end) {
    const char c = *p;
    if (c == '\n' || c == '\r') break;
    if (json == Json::string) {
      if (escape_) {
        escape_ = false;
        ++p;
        continue;
      }
      const char* const stop = find_json_special(p, end);
      if ((flags_ & (kWantText | kWantReason)) != 0) read_text(p, stop, end);
      p = stop;
      if (p == end) break;
      if (*p == '\\') {
        escape_ = true;
      } else if (*p == '"') {
        if ((flags_ & kWantAny) != 0) end_text(text_begin, p, seen);
        json = Json::comma;
      } else if (*p == '\n' || *p == '\r') {
        break;
      }
      ++p;
    } else if (json == Json::key) {
      if (key_size_ == 0 && !escape_) {
        // Nearly always the whole key is here and is looked at in its place.
        const char* const stop = find_json_special(p, end);
        if (stop != end && *stop == '"') {
          if (depth <= kPathMax) path_[depth - 1] = key_from({p, static_cast<std::size_t>(stop - p)});
          json = Json::colon;
          p = stop + 1;
          continue;
        }
      }
      ++p;
      if (escape_) {
        escape_ = false;
      } else if (c == '\\') {
        escape_ = true;
        key_size_ = kKeyMax + 1;  // no known key needs an escape
      } else if (c == '"') {
        if (depth <= kPathMax) path_[depth - 1] = key_size_ <= kKeyMax ? key_from({key_, key_size_}) : kNoKey;
        json = Json::colon;
      } else if (key_size_ < kKeyMax) {
        key_[key_size_++] = c;
      } else {
        key_size_ = kKeyMax + 1;
      }
    } else if (json == Json::value) {
      ++p;
      if (c == ' ' || c == '\t') continue;
      if (c == ']' && depth > 0 && (objects & 1) == 0) {  // an empty array
        --depth;
        objects >>= 1;
        json = Json::comma;
        continue;
      }
      value_begins(c, depth);
      if (c == '"') {
        json = Json::string;
        key_size_ = 0;
        text_begin = p;
      } else if (c == '{' || c == '[') {
        if (depth == 32) {
          flags_ |= kOpaqueFlag;
          break;
        }
        objects = objects << 1 | (c == '{' ? 1u : 0u);
        if (depth < kPathMax) path_[depth] = kNoKey;
        ++depth;
        json = c == '{' ? Json::key_or_end : Json::value;
      } else {
        json = Json::literal;
      }
    } else if (json == Json::literal) {
      if (c == ',' || c == '}' || c == ']' || c == ' ') {
        json = Json::comma;
      } else {
        ++p;
      }
    } else if (json == Json::key_or_end) {
      ++p;
      if (c == '"') {
        key_size_ = 0;
        json = Json::key;
      } else if (c == '}' && depth > 0) {
        --depth;
        objects >>= 1;
        json = Json::comma;
      }
    } else if (json == Json::colon) {
      ++p;
      if (c == ':') json = Json::value;
    } else {  // Json::comma
      ++p;
      if (c == ',') {
        json = (objects & 1) != 0 ? Json::key_or_end : Json::value;
      } else if ((c == '}' || c == ']') && depth > 0) {
        --depth;
        objects >>= 1;
      }
    }
  }
  json_ = json;
  depth_ = static_cast<std::uint8_t>(depth);
  objects_ = objects;
  return p;
}

// Part of a string whose text matters: from `p` to `stop`, which is its end or an escape, quote or control.
void SseScanner::read_text(const char* p, const char* stop, const char* end) {
  if ((flags_ & kWantReason) != 0) {
    for (const char* q = p; q < stop && key_size_ < kKeyMax; ++q)
      key_[key_size_++] = *q;
  }
  if ((flags_ & kWantText) != 0 && (stop != p || (stop != end && *stop == '\\'))) {
    flags_ = static_cast<std::uint16_t>((flags_ & ~kWantText) | kOutputFlag);
  }
}

void SseScanner::end_text(const char* begin, const char* quote, Seen& seen) {
  if ((flags_ & kWantReason) != 0 && std::string_view(key_, key_size_) == "error") flags_ |= kErrorFlag;
  if ((flags_ & kWantRequestId) != 0 && begin != nullptr) {
    seen.request_id = {begin, static_cast<std::size_t>(quote - begin)};
  }
  flags_ &= static_cast<std::uint16_t>(~kWantAny);
}

void SseScanner::end_event(Seen& seen) {
  if (!pending_) return;
  if ((flags_ & kOutputFlag) != 0) {
    ++seen.outputs;
    if (!output_) output_ = seen.first_output = true;
  }
  if ((flags_ & kErrorFlag) != 0) failed_ = true;
  if ((flags_ & kFinishFlag) != 0) finished_ = true;
  if ((flags_ & kTerminalFlag) != 0 && !terminal_) terminal_ = seen.terminal = true;
  flags_ = 0;
  pending_ = false;
}

SseVerdict SseScanner::verdict() const {
  if (failed_) return SseVerdict::failed;
  switch (dialect_) {
    case SseDialect::orbit_chat: return terminal_ ? SseVerdict::completed : SseVerdict::unterminated;
    case SseDialect::openai: return terminal_ && finished_ ? SseVerdict::completed : SseVerdict::unterminated;
    case SseDialect::generic: return SseVerdict::completed;
  }
  return SseVerdict::unterminated;
}

}  // namespace perigee::http
