// The look into JSON bodies, held against a whole parser: where that one sees an object with `stream` and the other
// fields, the look tells the same; what is broken tells nothing wrong, and no text is made up.
#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "fuzz.h"
#include "perigee/http/json_peek.h"

namespace {

using namespace perigee;
using Json = nlohmann::json;

int depth_of(std::string_view text) {
  int deepest = 0;
  int depth = 0;
  for (const char c : text) {  // brackets within strings count too: only ever too deep
    if (c == '{' || c == '[') deepest = std::max(deepest, ++depth);
    if (c == '}' || c == ']') --depth;
  }
  return deepest;
}

std::size_t longest_number(std::string_view text) {
  std::size_t longest = 0;
  std::size_t here = 0;
  for (const char c : text) {  // digits within strings count too
    here = std::string_view("0123456789+-.eE").find(c) == std::string_view::npos ? 0 : here + 1;
    longest = std::max(longest, here);
  }
  return longest;
}

void check_text(const http::JsonText& text, const Json* seen, std::string_view body) {
  if (text.found) {
    fuzz::demand(text.raw.empty() || (text.raw.data() >= body.data() && text.raw.data() + text.raw.size() <= body.data() + body.size()),
                 "a text that is not of the body");
    fuzz::demand(text.raw.size() <= http::kJsonPeekTextMax, "a text over its bound");
  }
  if (seen == nullptr) return;
  std::array<char, 4 * http::kJsonPeekTextMax> room{};
  if (seen->is_string() && text.found) {
    const std::string_view plain = text.escaped ? http::unescape_json(text.raw, room) : text.raw;
    const std::string& wanted = seen->get_ref<const std::string&>();
    if (plain.empty() && text.escaped) return;  // it did not fit
    fuzz::demand_same(plain, wanted, "the text of a field");
  }
  fuzz::demand(seen->is_string() || !text.found, "a text where there is none");
}

const Json* field(const Json& object, const char* name) {
  static const Json kNone = nullptr;
  const auto at = object.find(name);
  return at == object.end() ? &kNone : &*at;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::Exact input(fuzz::text_of(data, size));
  const std::string_view body = input.view();
  const http::JsonPeek part = http::peek_json(body, false);
  const http::JsonPeek peek = http::peek_json(body, true);
  for (const http::JsonPeek* p : {&part, &peek}) {
    for (const http::JsonText* text : {&p->model, &p->request_id, &p->session_id, &p->method, &p->params_id})
      check_text(*text, nullptr, body);
  }
  if (size > http::kJsonPeekBytes || depth_of(body) > 16) return 0;
  if (body.find('\0') != std::string_view::npos) return 0;  // to nlohmann's reader it is the end
  if (longest_number(body) > 60) return 0;  // over the bound of the look
  const Json json = Json::parse(body, nullptr, false);
  if (json.is_discarded() || !json.is_object()) return 0;
  fuzz::demand(peek.valid && !peek.truncated, "JSON that was not seen to be it");
  check_text(peek.model, field(json, "model"), body);
  check_text(peek.request_id, field(json, "request_id"), body);
  check_text(peek.session_id, field(json, "session_id"), body);
  check_text(peek.method, field(json, "method"), body);
  const Json& stream = *field(json, "stream");
  if (stream.is_boolean()) {
    fuzz::demand(peek.stream == (stream.get<bool>() ? http::Tristate::yes : http::Tristate::no), "stream");
  } else if (stream.is_null() || stream.is_structured()) {
    fuzz::demand(peek.stream == http::Tristate::unknown, "stream where there is none");
  }
  return 0;
}
