// Event streams: what the scanner tells is the same however the stream is cut, in each dialect.
#include "fuzz.h"
#include "perigee/http/sse.h"

namespace {

using namespace perigee;

struct Seen {
  int outputs = 0;
  int terminals = 0;
  bool boundary = false;
  http::SseVerdict verdict = http::SseVerdict::unterminated;
  bool operator==(const Seen&) const = default;
};

Seen scan(http::SseDialect dialect, std::string_view bytes, const std::vector<std::size_t>& ends) {
  http::SseScanner scanner(dialect);
  Seen seen;
  std::size_t at = 0;
  for (const std::size_t end : ends) {
    const fuzz::Exact piece(bytes.substr(at, end - at));
    const http::SseScanner::Seen told = scanner.feed(piece.view());
    at = end;
    seen.outputs += told.first_output ? 1 : 0;
    seen.terminals += told.terminal ? 1 : 0;
    if (!told.request_id.empty()) {
      const char* const id = told.request_id.data();
      fuzz::demand(id >= piece.view().data() && id + told.request_id.size() <= piece.view().data() + piece.view().size(),
                   "a request id that is not of the piece");
    }
    fuzz::demand(!told.first_output || scanner.had_output(), "output that was not");
    fuzz::demand(!told.terminal || scanner.had_terminal(), "a terminal event that was not");
  }
  fuzz::demand(seen.outputs <= 1, "the first output came twice");
  seen.terminals = scanner.had_terminal() ? 1 : 0;
  seen.boundary = scanner.at_boundary();
  seen.verdict = scanner.verdict();
  fuzz::demand(scanner.had_output() == (seen.outputs == 1), "output was not told");
  return seen;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes = fuzz::text_of(data, size);
  for (const http::SseDialect dialect : {http::SseDialect::generic, http::SseDialect::orbit_chat, http::SseDialect::openai}) {
    const auto cuts = fuzz::cuts_of(bytes);
    const Seen whole = scan(dialect, bytes, cuts.front());
    for (const auto& ends : cuts) {
      fuzz::demand(scan(dialect, bytes, ends) == whole, "what a stream means depends on how it was cut");
    }
  }
  return 0;
}
