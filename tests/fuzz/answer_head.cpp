// A worker's bytes, as the answer to each kind of request: one verdict however they are cut, and what a client
// gets is canonical to the second reader, or does not look whole.
#include "../http/passing.h"
#include "../http/strict_reader.h"
#include "fuzz.h"

namespace {

using namespace perigee;

void check(std::string_view asked, bool closes, std::string_view bytes) {
  test::Delivered first;
  bool have = false;
  for (const auto& ends : fuzz::cuts_of(bytes)) {
    const test::Delivered got = test::deliver_answer(asked, closes, bytes, ends);
    if (have) {
      fuzz::demand_same(first.bytes, got.bytes, "what is delivered, cut differently");
      fuzz::demand(first == got, "the verdict on an answer depends on how it was cut");
    }
    first = got;
    have = true;
  }
  fuzz::demand(!first.kept || (!first.cut && !first.refused && !first.incomplete), "a broken answer's connection is kept");
  std::string_view rest = first.bytes;
  while (!rest.empty()) {
    const bool old = asked.starts_with("1.0") && rest.substr(0, rest.find("\r\n\r\n")).find("\r\nContent-Length: ") == rest.npos;
    const test::StrictKind kind = asked == "HEAD" ? test::StrictKind::answer_to_head
                                  : old           ? test::StrictKind::answer_until_close
                                                  : test::StrictKind::answer;
    const test::StrictMessage message = test::read_strictly(rest, kind);
    if (first.cut && !message.good()) {
      fuzz::demand(message.unfinished, "what was cut is malformed, not just unfinished");
      return;
    }
    fuzz::demand_same(message.wrong, "", "what is delivered is not canonical");
    rest.remove_prefix(message.bytes);
    if (message.line[1] == "101") return;
    const bool final_head = message.line[1][0] != '1';
    fuzz::demand(!final_head || rest.empty(), "bytes behind the answer");
    fuzz::demand(!final_head || !first.cut || old, "a cut answer looks whole");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes = fuzz::text_of(data, size);
  for (const std::string_view asked : {"GET", "HEAD", "websocket", "1.0", "1.0 kept"})
    check(asked, (fuzz::hash_of(bytes) & 1) != 0, bytes);
  return 0;
}
