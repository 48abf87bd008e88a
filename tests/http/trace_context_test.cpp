// W3C trace context: what is one, what must not pass, and what we write.
#include "perigee/http/trace_context.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace perigee::http {
namespace {

const std::string kGood = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

TEST_CASE("trace: a traceparent that is none") {
  std::vector<std::string> bad = {"", "00", kGood.substr(1), kGood + "-", kGood + "-00", kGood + " ", "ff" + kGood.substr(2),
                                  "0g" + kGood.substr(2), "cc" + kGood.substr(2) + "x",
                                  "00-00000000000000000000000000000000-b7ad6b7169203331-01",
                                  "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
                                  "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
                                  "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0x",
                                  "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0A"};
  for (const std::size_t dash : {2U, 35U, 52U}) {
    bad.push_back(kGood);
    bad.back()[dash] = '_';
  }
  for (const std::string& value : bad) {
    CAPTURE(value);
    TraceId id{7};
    CHECK_FALSE(read_traceparent(value, id));
    CHECK(id == TraceId{7});
  }
}

TEST_CASE("trace: a traceparent, and one of a later version") {
  for (const std::string& value : {kGood, "cc" + kGood.substr(2), "cc" + kGood.substr(2) + "-what-ever"}) {
    CAPTURE(value);
    TraceId id{};
    CHECK(read_traceparent(value, id));
    CHECK(id[0] == 0x0a);
    CHECK(id[15] == 0x9c);
  }
}

TEST_CASE("trace: tracestate") {
  std::string members;
  for (int i = 0; i < 32; ++i) members += (i == 0 ? "" : ",") + std::string("k") + std::to_string(i) + "=v";
  for (const std::string& good : {std::string(), std::string("a=b"), std::string("a=b , 1c@d=e f"), std::string("a=b,,c=d"),
                                  std::string("a_-*/=!~"), members}) {
    CAPTURE(good);
    CHECK(valid_tracestate(good));
  }
  for (const std::string& bad : {std::string("a"), std::string("=b"), std::string("a="), std::string("A=b"), std::string("_a=b"),
                                 std::string("a@b@c=d"), std::string("a=b=c"), std::string("a=b\tc"), members + ",x=y",
                                 "a=" + std::string(257, 'x'), "a=" + std::string(250, 'x') + ",b=" + std::string(256, 'x') + ",c=ddd"}) {
    CAPTURE(bad);
    CHECK_FALSE(valid_tracestate(bad));
  }
}

TraceContext of(const std::vector<std::pair<const char*, std::string>>& fields) {
  HeaderTable table;
  for (const auto& [name, value] : fields) REQUIRE(table.add(name, value));
  return read_trace_context(table);
}

TEST_CASE("trace: what of a head may pass") {
  TraceContext c = of({});
  CHECK((!c.valid && !c.drop_parent && !c.drop_state));
  c = of({{"traceparent", kGood}, {"tracestate", "a=b"}, {"tracestate", "c=d"}});
  CHECK((c.valid && !c.drop_parent && !c.drop_state));
  c = of({{"traceparent", kGood}, {"tracestate", "A"}});
  CHECK((c.valid && !c.drop_parent && c.drop_state));
  c = of({{"traceparent", "x"}, {"tracestate", "a=b"}});
  CHECK((!c.valid && c.drop_parent && c.drop_state));
  c = of({{"traceparent", kGood}, {"traceparent", kGood}});
  CHECK((!c.valid && c.drop_parent && !c.drop_state));
  c = of({{"tracestate", "a=b"}});
  CHECK((!c.valid && !c.drop_parent && c.drop_state));
}

TEST_CASE("trace: what is written is read back") {
  const TraceId id{0, 0, 0, 0, 0, 0, 0, 1, 0xab, 0, 0, 0, 0, 0, 0, 0xff};
  for (const bool sampled : {false, true}) {
    const auto text = write_traceparent(id, 0x0123456789abcdefULL, sampled);
    const std::string_view view(text.data(), text.size());
    CHECK(view == "00-0000000000000001ab000000000000ff-0123456789abcdef-0" + std::string(sampled ? "1" : "0"));
    TraceId back{};
    CHECK(read_traceparent(view, back));
    CHECK(back == id);
  }
}

}  // namespace
}  // namespace perigee::http
