// What a file may say to harm us, and that its places are right.
#include "document.h"

#include <doctest/doctest.h>

namespace perigee::config {
namespace {

std::string error_of(const std::string& text) {
  std::size_t nodes = 0;
  const auto result = read_document(text, 0, nodes);
  if (result) return "read";
  const DocumentError& e = result.error().front();
  return std::to_string(e.mark.line) + ":" + std::to_string(e.mark.column) + " " + e.message;
}

}  // namespace

TEST_CASE("a bomb of aliases is counted before it is unfolded") {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 9; ++i) {
    const std::string name = "a" + std::to_string(i);
    const std::string last = "*a" + std::to_string(i - 1);
    bomb += name + ": &" + name + " [" + last;
    for (int k = 1; k < 10; ++k)
      bomb += ", " + last;
    bomb += "]\n";
  }
  CHECK(error_of(bomb).ends_with("more than 100000 values, aliases counted as often as used"));
}

TEST_CASE("anchors inside anchors are counted for each copy kept") {
  std::string text;
  for (int i = 0; i < 30; ++i)
    text += "&a" + std::to_string(i) + " [";
  for (int i = 0; i < 20'000; ++i)
    text += "1,";
  text += std::string(30, ']');
  CHECK(error_of(text).ends_with("more than 100000 values, aliases counted as often as used"));
}

TEST_CASE("depth") {
  CHECK(error_of(std::string(31, '[') + "1" + std::string(31, ']')) == "read");
  CHECK(error_of(std::string(33, '[') + "1" + std::string(33, ']')) == "1:33 nested deeper than 32 levels");
  CHECK(error_of(std::string(500'000, '[')) != "read");
  std::string dashes;
  for (int i = 0; i < 100'000; ++i)
    dashes += "- ";
  CHECK(error_of(dashes).ends_with("nested deeper than 32 levels"));
  // Unfolding must not get deeper either.
  std::string folded = "a0: &a0 [1]\n";
  for (int i = 1; i < 40; ++i) {
    folded += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [*a" + std::to_string(i - 1) + "]\n";
  }
  CHECK(error_of(folded).ends_with("nested deeper than 32 levels"));
}

TEST_CASE("size") {
  CHECK(error_of(std::string(kMaxFileBytes, '#')) == "read");
  CHECK(error_of(std::string(kMaxFileBytes + 1, '#')) == "0:0 larger than 1 MiB");
  std::string many = "[";
  for (int i = 0; i < 120'000; ++i)
    many += "1,";
  CHECK(error_of(many + "]").ends_with("more than 100000 values, aliases counted as often as used"));
}

TEST_CASE("an alias inside its own anchor") {
  CHECK(error_of("a: &a [1, *a]") == "1:11 this alias refers to a value that contains it");
  CHECK(error_of("a: *nowhere").starts_with("1:4 not YAML"));
}

TEST_CASE("bytes that are no text") {
  CHECK(error_of("a: 1\nb: \xff\n") == "2:4 a byte that is not UTF-8 text");
  CHECK(error_of(std::string("a: 1\n\0b: 2", 10)) == "2:1 a byte that is not UTF-8 text");
  CHECK(error_of("a: 1\n\x04\nb: [") ==
        "2:1 a byte that is not UTF-8 text");  // would end the file for yaml-cpp
  CHECK(error_of("a: \xed\xa0\x80") == "1:4 a byte that is not UTF-8 text");  // a surrogate
  CHECK(error_of("a: \xc0\xaf") == "1:4 a byte that is not UTF-8 text");      // not the shortest form
  CHECK(error_of("a: \xf4\x90\x80\x80") == "1:4 a byte that is not UTF-8 text");
  CHECK(error_of("a: \xe2\x82") == "1:4 a byte that is not UTF-8 text");
  CHECK(error_of("a: \xe2\x82\xac \xf0\x9f\x8c\x8a") == "read");
}

TEST_CASE("keys and tags") {
  CHECK(error_of("[a]: 1") == "1:1 a key must be plain text");
  CHECK(error_of("? {a: b}\n: 1") == "1:3 a key must be plain text");
  CHECK(error_of("a: 1\na: 2") == "2:1 the key `a` is written twice");
  CHECK(error_of("a: !!python/object:os.system x").find("is not understood") == std::string::npos);
  CHECK(error_of("a: !secret x") == "1:4 the tag `!secret` is not understood here");
  CHECK(error_of("<<: 1") == "1:5 `<<` takes a map or a list of maps");
}

TEST_CASE("places, quotes and nothing") {
  std::size_t nodes = 0;
  const auto root = read_document("a:\n  b: [1, \"2\"]\nc:\nd: ~\n", 3, nodes);
  REQUIRE(root);
  const Node& list = root->find("a")->value.find("b")->value;
  CHECK(list.items[1].mark.line == 2);
  CHECK(list.items[1].mark.column == 10);
  CHECK(list.items[1].mark.file == 3);
  CHECK(list.items[1].quoted);
  CHECK_FALSE(list.items[0].quoted);
  CHECK(root->find("c")->value.kind == Node::Kind::null);
  CHECK(root->find("c")->value.mark.line == 3);
  CHECK(root->find("d")->value.kind == Node::Kind::null);
  CHECK(nodes > 5);
}

}  // namespace perigee::config
