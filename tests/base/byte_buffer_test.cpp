// The buffer that messages are written into.
#include <doctest/doctest.h>

#include <string>
#include <utility>

#include "perigee/base/byte_buffer.h"

namespace perigee {

TEST_CASE("ByteBuffer grows, keeps its memory and gives it back") {
  ByteBuffer buffer;
  CHECK(buffer.empty());
  CHECK(buffer.capacity() == 0);
  std::string expected;
  for (int i = 0; i < 1000; ++i) {
    buffer.append("some text ");
    buffer.append('x');
    buffer.append_u64(static_cast<std::uint64_t>(i));
    expected += "some text x" + std::to_string(i);
  }
  buffer.append("");
  buffer.append_u64(~0ULL);
  expected += "18446744073709551615";
  CHECK(buffer.view() == expected);

  const std::size_t capacity = buffer.capacity();
  buffer.clear();
  CHECK(buffer.empty());
  CHECK(buffer.capacity() == capacity);
  buffer.release();
  CHECK(buffer.capacity() == 0);
  buffer.append("again");
  CHECK(buffer.view() == "again");
}

TEST_CASE("ByteBuffer: prepare and commit, consume and truncate, move") {
  ByteBuffer buffer(4);
  char* to = buffer.prepare(600);
  for (int i = 0; i < 600; ++i)
    to[i] = static_cast<char>('a' + i % 26);
  buffer.commit(26);
  CHECK(buffer.view() == "abcdefghijklmnopqrstuvwxyz");
  buffer.commit_to(buffer.data() + 27);
  CHECK(buffer.view().back() == 'a');
  buffer.consume(20);
  CHECK(buffer.view() == "uvwxyza");
  buffer.truncate(3);
  CHECK(buffer.view() == "uvw");
  buffer.truncate(100);
  CHECK(buffer.size() == 3);

  ByteBuffer other = std::move(buffer);
  CHECK(other.view() == "uvw");
  other.consume(100);
  CHECK(other.empty());
  buffer = ByteBuffer();
  buffer.append("new");
  CHECK(buffer.view() == "new");
}

}  // namespace perigee
