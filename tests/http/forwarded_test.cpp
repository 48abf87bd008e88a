// Who a request comes from, as proxies tell it: hops from the right, and lines that nobody may read two ways.
#include "perigee/http/forwarded.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace perigee::http {
namespace {

struct Field {
  const char* name;
  std::string value;
};

// Hops from the right, until one says nothing.
std::vector<std::string> hops(const std::vector<Field>& fields) {
  HeaderTable table;
  for (const Field& field : fields) REQUIRE(table.add(field.name, field.value));
  HopWalk walk(table);
  std::vector<std::string> found;
  for (std::string_view hop = walk.next(); !hop.empty(); hop = walk.next()) found.emplace_back(hop);
  CHECK(walk.next().empty());
  return found;
}

using Hops = std::vector<std::string>;

TEST_CASE("forwarded: hops of X-Forwarded-For from the right, over all its lines") {
  CHECK(hops({}) == Hops{});
  CHECK(hops({{"X-Forwarded-For", ""}}) == Hops{});
  CHECK(hops({{"X-Forwarded-For", "1.1.1.1"}}) == Hops{"1.1.1.1"});
  CHECK(hops({{"X-Forwarded-For", "1.1.1.1 ,\t2.2.2.2"}, {"Accept", "x"}, {"x-forwarded-for", "3.3.3.3"}}) ==
        Hops{"3.3.3.3", "2.2.2.2", "1.1.1.1"});
  CHECK(hops({{"X-Forwarded-For", "1.1.1.1:80, [2001:db8::1]:443, [::1], ::2"}}) ==
        Hops{"::2", "::1", "2001:db8::1", "1.1.1.1"});
}

TEST_CASE("forwarded: behind a hop that says nothing, nothing is certain") {
  CHECK(hops({{"X-Forwarded-For", "1.1.1.1,, 2.2.2.2"}}) == Hops{"2.2.2.2"});
  CHECK(hops({{"X-Forwarded-For", "1.1.1.1, [::1, 2.2.2.2"}}) == Hops{"2.2.2.2"});
  CHECK(hops({{"X-Forwarded-For", "1.1.1.1, [::1]x, 2.2.2.2"}}) == Hops{"2.2.2.2"});
  CHECK(hops({{"X-Forwarded-For", "1.1.1.1,"}}) == Hops{});
  CHECK(hops({{"Forwarded", "for=1.1.1.1, proto=http, for=2.2.2.2"}}) == Hops{"2.2.2.2"});
}

TEST_CASE("forwarded: X-Forwarded-For comes before Forwarded, which speaks only where it is alone") {
  CHECK(hops({{"Forwarded", "for=1.1.1.1"}, {"X-Forwarded-For", "2.2.2.2"}}) == Hops{"2.2.2.2"});
  CHECK(hops({{"Forwarded", "For=\"[2001:db8::1]:99\";proto=http;by=x, for=1.1.1.1 , host=\"a,b;c=\\\"\";FOR=3.3.3.3"},
              {"Forwarded", "for=\"4.4.4.4:80\""}}) == Hops{"4.4.4.4", "3.3.3.3", "1.1.1.1", "2001:db8::1"});
}

TEST_CASE("forwarded: a line that is malformed says nothing, nor what stands before it") {
  CHECK(hops({{"Forwarded", "for=1.1.1.1"}, {"Forwarded", "for=2.2.2.2, for"}}) == Hops{});
  CHECK(hops({{"Forwarded", "for=\"2.2.2.2"}, {"Forwarded", "for=1.1.1.1"}}) == Hops{"1.1.1.1"});
}

TEST_CASE("forwarded: only the last hops of very many are looked at") {
  std::string many;
  for (int i = 0; i < 100; ++i) many += (i == 0 ? "" : ",") + std::string("10.0.0.") + std::to_string(i);
  const Hops found = hops({{"X-Forwarded-For", many}});
  REQUIRE(found.size() == HopWalk::kHopsMax);
  CHECK(found.front() == "10.0.0.99");
  CHECK(found.back() == "10.0.0.68");
}

TEST_CASE("forwarded: what RFC 7239 calls a line") {
  for (const char* good : {"", "for=1.1.1.1", "for=a;by=b", "for=a , for=b", "for=\"a\\\"b\"", ";", "for=a;", ",", "Secret=x;FOR=y"}) {
    CAPTURE(good);
    CHECK(valid_forwarded(good));
  }
  for (const char* bad : {"for", "for=", "=a", "for =a", "for= a", "for=a b", "for=\"a", "for=\"a\\", "for=a;for=b", "for=[::1]",
                          "for=a:1", "for=\"a\"b", "for=a\x80"}) {
    CAPTURE(bad);
    CHECK_FALSE(valid_forwarded(bad));
  }
}

}  // namespace
}  // namespace perigee::http
