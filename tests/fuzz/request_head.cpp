// A client's bytes: one verdict however they are cut, and what goes on is canonical to the second reader.
#include "../http/passing.h"
#include "../http/strict_reader.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace perigee;
  const std::string_view bytes = fuzz::text_of(data, size);
  test::Forwarded first;
  bool have = false;
  for (const auto& ends : fuzz::cuts_of(bytes)) {
    const test::Forwarded got = test::forward_requests(bytes, ends);
    if (have) {
      fuzz::demand_same(first.bytes, got.bytes, "what is forwarded, cut differently");
      fuzz::demand(first == got, "the verdict on a request depends on how it was cut");
    }
    first = got;
    have = true;
  }
  std::string_view rest = first.bytes;
  while (!rest.empty()) {
    const test::StrictMessage message = test::read_strictly(rest, test::StrictKind::request);
    fuzz::demand_same(message.wrong, "", "what is forwarded is not canonical");
    rest.remove_prefix(message.bytes);
  }
  return 0;
}
