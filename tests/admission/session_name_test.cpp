#include "perigee/admission/session_name.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace perigee::admission {
namespace {

std::string name(const std::vector<std::string_view>& head, const std::vector<std::string_view>& body) {
  const SessionName made = session_name(session_seed(head), body);
  return {made.data(), made.size()};
}

}  // namespace

TEST_CASE("a session's name is the same for the same parts, and another for any other") {
  const std::string one = name({"orbit_key", "10.0.0.1"}, {"be brief", "hello"});
  CHECK(one == name({"orbit_key", "10.0.0.1"}, {"be brief", "hello"}));
  CHECK(one.size() == kSessionNameBytes);
  CHECK(one.starts_with("pg-"));
  CHECK(one.find_first_not_of("0123456789abcdef", 3) == std::string::npos);
  for (const std::string& other :
       {name({"orbit_kez", "10.0.0.1"}, {"be brief", "hello"}), name({"orbit_key", "10.0.0.2"}, {"be brief", "hello"}),
        name({"orbit_key", "10.0.0.1"}, {"be brief", "hellp"}), name({"orbit_key", "10.0.0.1"}, {"be", " briefhello"}),
        name({"orbit_key1", "0.0.0.1"}, {"be brief", "hello"}), name({"orbit_key", "10.0.0.1"}, {"be brief", "hello", ""})}) {
    CHECK(one != other);
  }
}

TEST_CASE("a session's name does not change from one version to the next: histories hang on it") {
  // SHA-256(SHA-256(le64(1) 'k') le64(1) 'h'), its first half.
  CHECK(name({"k"}, {"h"}) == "pg-1f51630e43e5acb88e6965761d86ed51");
}

}  // namespace perigee::admission
