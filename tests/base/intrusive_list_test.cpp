#include "perigee/base/intrusive_list.h"

#include <doctest/doctest.h>

#include <vector>

using perigee::IntrusiveList;
using perigee::ListNode;

namespace {
struct Item : ListNode<> {
  explicit Item(int v) : value(v) {}
  int value;
};

std::vector<int> values(const IntrusiveList<>& list) {
  std::vector<int> out;
  for (const Item* i = list.front<Item>(); i != nullptr; i = list.next_of<Item>(*i)) out.push_back(i->value);
  return out;
}
}  // namespace

TEST_CASE("nodes keep their order and leave from anywhere") {
  IntrusiveList<> list;
  Item a(1);
  Item b(2);
  Item c(3);
  list.push_back(a);
  list.push_back(b);
  list.push_front(c);
  CHECK(values(list) == std::vector{3, 1, 2});
  a.unlink();
  CHECK_FALSE(a.linked());
  CHECK(values(list) == std::vector{3, 2});
  CHECK(list.pop_front<Item>() == &c);
  CHECK(list.pop_front<Item>() == &b);
  CHECK(list.pop_front<Item>() == nullptr);
}

TEST_CASE("a node that dies leaves its list, a list that dies sets its nodes loose") {
  Item outlives(1);
  {
    IntrusiveList<> list;
    list.push_back(outlives);
    {
      Item dies(2);
      list.push_back(dies);
    }
    CHECK(values(list) == std::vector{1});
  }
  CHECK_FALSE(outlives.linked());
}

TEST_CASE("splice moves all and empties the source") {
  IntrusiveList<> one;
  IntrusiveList<> two;
  Item a(1);
  Item b(2);
  Item c(3);
  one.push_back(a);
  two.push_back(b);
  two.push_back(c);
  one.splice_back(two);
  CHECK(two.empty());
  CHECK(values(one) == std::vector{1, 2, 3});
  one.splice_back(two);
  CHECK(values(one) == std::vector{1, 2, 3});
}
