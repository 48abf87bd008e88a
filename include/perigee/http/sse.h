// Watches a stream of server-sent events go by and knows what it means: when the model began to speak,
// whether the stream ended properly, and where an event of ours could be put in between.
//
// The status line says nothing here: a provider's failure arrives as 200 with an ordinary sentence, and its
// only sign is the missing terminal event. The scanner reads the JSON of each event as it passes (keys at
// their depth, so that no quoted text can fool it), holds no bytes, and may be fed in any pieces.
// At most 64 bytes; one per running stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace perigee::http {

enum class SseDialect : std::uint8_t {
  generic,     // no known terminal event: any data is output, any orderly end is complete
  orbit_chat,  // /v1/chat: {"response": …, "done": false} … {"done": true}
  openai,      // chat.completion.chunk … finish_reason … [DONE]
};

enum class SseVerdict : std::uint8_t {
  completed,
  failed,        // an error event said so
  unterminated,  // it stopped without its terminal event
};

class SseScanner {
 public:
  explicit SseScanner(SseDialect dialect = SseDialect::generic) : dialect_(dialect) {}

  // What the piece brought to light.
  struct Seen {
    std::uint32_t outputs = 0;    // events with model output that became complete in this piece
    bool first_output = false;    // the first event with model output became complete in this piece
    bool terminal = false;        // the terminal event (whatever it says) became complete in this piece
    std::string_view request_id;  // "request_id" of an orbit_chat event, where it lies within the piece
  };
  Seen feed(std::string_view piece);

  // Between two events: an event written now would not be mixed with another.
  [[nodiscard]] bool at_boundary() const { return line_ <= Line::after_cr && !pending_; }
  [[nodiscard]] bool had_output() const { return output_; }
  [[nodiscard]] bool had_terminal() const { return terminal_; }
  // To be asked when the body has ended in good order.
  [[nodiscard]] SseVerdict verdict() const;

 private:
  enum class Line : std::uint8_t {
    start,
    after_cr,
    field,
    comment,
    other,
    data_blank,
    done_text,
    json,
    opaque
  };
  enum class Json : std::uint8_t { value, key_or_end, key, colon, comma, string, literal };
  static constexpr std::size_t kKeyMax = 20;
  static constexpr std::size_t kPathMax = 5;

  const char* feed_json(const char* p, const char* end, Seen& seen);
  void value_begins(char first, unsigned depth);
  void read_text(const char* p, const char* stop, const char* end);
  void end_text(const char* begin, const char* quote, Seen& seen);
  void end_event(Seen& seen);

  std::uint32_t objects_ = 0;  // one bit a level: 1 = object, 0 = array
  std::uint16_t flags_ = 0;    // what the event in hand has shown so far
  SseDialect dialect_;
  Line line_ = Line::start;
  Json json_ = Json::value;
  std::uint8_t depth_ = 0;
  std::uint8_t matched_ = 0;  // of a field name or of [DONE]
  std::uint8_t key_size_ = 0;
  char key_[kKeyMax] = {};
  std::uint8_t path_[kPathMax] = {};  // which known key each of the outer levels is at
  bool escape_ = false;
  bool pending_ = false;  // the event in hand has lines
  bool output_ = false;
  bool terminal_ = false;
  bool finished_ = false;  // openai: a finish_reason was seen
  bool failed_ = false;
};
static_assert(sizeof(SseScanner) <= 64);

}  // namespace perigee::http
