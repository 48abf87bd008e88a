// A doubly linked list whose nodes live inside their owners: no allocation, O(1) removal from anywhere.
//
// A type derives from ListNode<Tag>; with several tags it can stand in several lists. A node unlinks
// itself on destruction, so that nobody can leave a dangling entry behind. One thread (or one lock).
#pragma once

#include <cstddef>

namespace perigee {

template <typename Tag>
class IntrusiveList;

template <typename Tag = void>
class ListNode {
 public:
  ListNode() = default;
  ListNode(const ListNode&) = delete;
  ListNode& operator=(const ListNode&) = delete;
  ~ListNode() { unlink(); }

  [[nodiscard]] bool linked() const { return next_ != nullptr; }
  void unlink() {
    if (next_ == nullptr) return;
    prev_->next_ = next_;
    next_->prev_ = prev_;
    next_ = prev_ = nullptr;
  }

 private:
  friend class IntrusiveList<Tag>;
  ListNode* next_ = nullptr;
  ListNode* prev_ = nullptr;
};

// Holds nodes by their tag base; `front<T>()` casts back. The list owns nothing.
template <typename Tag = void>
class IntrusiveList {
 public:
  using Node = ListNode<Tag>;

  IntrusiveList() { head_.next_ = head_.prev_ = &head_; }
  IntrusiveList(const IntrusiveList&) = delete;
  IntrusiveList& operator=(const IntrusiveList&) = delete;
  // What is still linked is set loose, not destroyed.
  ~IntrusiveList() {
    while (!empty()) head_.next_->unlink();
    head_.next_ = head_.prev_ = nullptr;
  }

  [[nodiscard]] bool empty() const { return head_.next_ == &head_; }
  void push_back(Node& node) { insert_before(head_, node); }
  void push_front(Node& node) { insert_before(*head_.next_, node); }
  // `position` must be in this list.
  void insert_before(Node& position, Node& node) {
    node.unlink();
    node.prev_ = position.prev_;
    node.next_ = &position;
    position.prev_->next_ = &node;
    position.prev_ = &node;
  }

  // nullptr where there is none.
  template <typename T>
  [[nodiscard]] T* front() const { return empty() ? nullptr : static_cast<T*>(head_.next_); }
  template <typename T>
  [[nodiscard]] T* back() const { return empty() ? nullptr : static_cast<T*>(head_.prev_); }
  template <typename T>
  T* pop_front() {
    T* first = front<T>();
    if (first != nullptr) static_cast<Node*>(first)->unlink();
    return first;
  }
  template <typename T>
  [[nodiscard]] T* next_of(const Node& node) const {
    return node.next_ == &head_ ? nullptr : static_cast<T*>(node.next_);
  }
  // Everything of `other` moves to the end of this list; O(1).
  void splice_back(IntrusiveList& other) {
    if (other.empty()) return;
    Node* first = other.head_.next_;
    Node* last = other.head_.prev_;
    other.head_.next_ = other.head_.prev_ = &other.head_;
    first->prev_ = head_.prev_;
    head_.prev_->next_ = first;
    last->next_ = &head_;
    head_.prev_ = last;
  }

 private:
  Node head_;
};

}  // namespace perigee
