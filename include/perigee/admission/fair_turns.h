// Fair turns among tenants: who has had the least for its weight goes first.
//
// A counter for each tenant and pool grows with the work that was granted to it: what it sent (a quarter of
// its body's bytes) and twice what was generated for it. What a chat will generate is not known when it
// starts: the tenant's usual output is charged then and the difference at its end, or else one tenant could
// start many long streams before its counter moves. Somebody who was idle saves up nothing: when a tenant
// begins to wait, its counter is lifted to the least of those it will stand among.
// (Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024: virtual token counter.)
//
// Nothing here allocates after construction. Memory is bounded: kMaxAccounts counters; the one that was idle
// longest makes room for a new one, and one that was idle for ten minutes begins anew. Where all of them
// wait or run, further tenants share one counter. Under the dispatcher's lock.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "perigee/base/intrusive_list.h"
#include "perigee/base/time.h"
#include "perigee/base/vocabulary.h"

namespace perigee::admission {

struct LaneTag;
struct IdleTag;
struct Line;
class LineTree;

inline constexpr std::size_t kMaxAccounts = 4096;
inline constexpr std::size_t kMaxLines = 8192;  // pairs of tenant and lane in which somebody waits
inline constexpr Duration kAccountMemory = std::chrono::minutes(10);
// What a tenant is charged for a token's worth of what it sent, and for a token generated for it.
inline constexpr double kInputCost = 1.0;
inline constexpr double kOutputCost = 2.0;
inline constexpr double kBytesPerToken = 4.0;
inline constexpr double kLeastInput = 50.0;  // tokens that even an empty request counts as

// One tenant in one pool.
struct Account : ListNode<IdleTag> {
  std::uint64_t id = 0;
  std::uint32_t pool = 0;      // PoolShares::serial
  std::uint32_t running = 0;   // tickets that will settle with it
  double served = 0;           // charged so far, divided by its weight
  double weight = 1.0;         // > 0
  double output = -1;          // usual number of tokens of its chats; -1 = none has ended yet
  TimePoint idle_since{};
  Line* lines = nullptr;       // where it waits
  Account* next = nullptr;      // of the same hash; of the free list
  std::array<std::uint32_t, kPriorityCount> waiting{};
  std::uint64_t bytes_waiting = 0;
  [[nodiscard]] bool idle() const { return lines == nullptr && running == 0; }
};

// A tenant's waiting requests in one lane, oldest first.
struct Line {
  IntrusiveList<LaneTag> waiting;
  Account* account = nullptr;
  LineTree* tree = nullptr;  // nullptr: the line of a lane that keeps all its tenants in one
  Line* left = nullptr;
  Line* right = nullptr;
  Line* next = nullptr;       // of the same tenant; of the free list
  std::uint64_t arrival = 0;  // of its oldest
  std::uint32_t entries = 0;
};

// The lines of one lane: least served tenant first, then the older request. A treap, so that insertion and
// removal are O(log lines) whatever tenants do: its shape hangs on a hash of arrivals, which are ours.
class LineTree {
 public:
  [[nodiscard]] Line* first() const { return first_; }
  void insert(Line& line);
  void remove(Line& line);
  // a goes before b.
  [[nodiscard]] static bool before(const Line& a, const Line& b) {
    if (a.account->served != b.account->served) return a.account->served < b.account->served;
    return a.arrival < b.arrival;
  }
  template <typename F>
  void for_each(F&& f) const { walk(root_, f); }

 private:
  template <typename F>
  static void walk(Line* at, F& f) {
    if (at == nullptr) return;
    walk(at->left, f);
    f(*at);
    walk(at->right, f);
  }
  Line* root_ = nullptr;
  Line* first_ = nullptr;
};

// Room for `capacity` objects, taken and given back without allocating; memory that was never used is never
// touched. T has a member `next`.
template <typename T>
class Slab {
 public:
  explicit Slab(std::size_t capacity) : capacity_(capacity), items_(std::allocator<T>().allocate(capacity)) {}
  ~Slab() {
    std::destroy_n(items_, used_);
    std::allocator<T>().deallocate(items_, capacity_);
  }
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;
  // nullptr: all are taken.
  T* take() {
    if (free_ == nullptr) return used_ < capacity_ ? std::construct_at(items_ + used_++) : nullptr;
    T* t = free_;
    free_ = t->next;
    t->next = nullptr;
    return t;
  }
  void give_back(T& t) {
    t.next = free_;
    free_ = &t;
  }
  [[nodiscard]] std::size_t index(const T& t) const { return static_cast<std::size_t>(&t - items_); }
  [[nodiscard]] T& at(std::size_t index) const { return items_[index]; }
  [[nodiscard]] std::size_t used() const { return used_; }  // 0 … used-1 were taken at some time

 private:
  std::size_t capacity_;
  std::size_t used_ = 0;
  T* items_;
  T* free_ = nullptr;
};

// The counters of all pools.
class Accounts {
 public:
  explicit Accounts(std::size_t tenants = kMaxAccounts, std::size_t lines = kMaxLines);

  // nullptr where there is none; where there is no room for one.
  [[nodiscard]] Account* find(std::uint32_t pool, std::uint64_t id) const;
  [[nodiscard]] Account* obtain(std::uint32_t pool, std::uint64_t id, TimePoint now);
  void rest_if_idle(Account& tenant);
  [[nodiscard]] Line* take_line() { return lines_.take(); }
  void give_back(Line& line) { lines_.give_back(line); }
  [[nodiscard]] std::uint32_t next_pool() { return ++pools_; }
  [[nodiscard]] std::uint64_t running() const;  // tickets that will settle
  template <typename F>
  void for_each(std::uint32_t pool, F&& f) const {
    for (std::size_t i = 0; i < tenants_.used(); ++i) {
      if (Account& t = tenants_.at(i); t.pool == pool) f(t);
    }
  }
  [[nodiscard]] std::uint16_t index(const Account& t) const { return static_cast<std::uint16_t>(tenants_.index(t)); }
  [[nodiscard]] Account& at(std::uint16_t index) const { return tenants_.at(index); }

 private:
  static constexpr std::size_t kChains = 4096;
  static std::size_t chain(std::uint32_t pool, std::uint64_t id);

  Slab<Account> tenants_;
  Slab<Line> lines_;
  std::array<Account*, kChains> chains_{};
  IntrusiveList<IdleTag> idle_;  // longest first
  TimePoint now_{};              // newest time told
  std::uint32_t pools_ = 0;
};

// A ticket's share in a tenant's counter.
inline constexpr std::uint16_t kNoAccount = 0xFFFF;
static_assert(kMaxAccounts <= kNoAccount);

// What generates text, so that its output is charged before it is there.
constexpr bool generates(RequestClass c) { return c == RequestClass::chat || c == RequestClass::a2a; }

// One pool's side of it: all its lanes share the counters, so that who floods one class waits in the others.
class PoolShares {
 public:
  explicit PoolShares(Accounts& table) : table_(table), pool_(table.next_pool()) {}
  PoolShares(const PoolShares&) = delete;
  PoolShares& operator=(const PoolShares&) = delete;

  // Off: all wait in one line. For those who come from now on.
  void set(bool on) { on_ = on; }
  [[nodiscard]] bool on() const { return on_; }

  // The line in which one of this tenant shall wait; nullptr: there is no room for one, or turns are off.
  [[nodiscard]] Line* line_for(std::uint64_t id, double weight, LineTree& tree, TimePoint now);
  void drop(Line& line);  // empty, and not in its tree any more
  void entered(Account& tenant, Priority p, std::uint64_t bytes);
  void left(Account& tenant, Priority p, std::uint64_t bytes);
  // Of all for whom there was no room.
  [[nodiscard]] Account& others() { return others_; }

  // Something was granted to it. What is returned goes to settle() when the ticket ends, kNoAccount to nobody.
  [[nodiscard]] std::uint16_t charge(std::uint64_t id, double weight, RequestClass c, std::uint64_t body_bytes,
                                     TimePoint now);
  // `tokens`: generated; kAsExpected where nobody will hear how many. `learn`: it ran as usual, so that the next one is
  // expected to do the same.
  static constexpr double kAsExpected = -1;
  static void settle(Accounts& table, std::uint16_t tenant, RequestClass c, double tokens, bool learn);

  // How many of the same priority go before one that has `own` of its own tenant ahead: each of the tenants
  // waiting at `p` takes its share meanwhile. `waits`: it is among them already.
  [[nodiscard]] std::uint64_t fair_ahead(std::uint64_t own, double weight, Priority p, bool waits) const;
  [[nodiscard]] std::uint32_t own_waiting(std::uint64_t id, Priority p) const;
  [[nodiscard]] bool anything_waits(std::uint64_t id) const;
  [[nodiscard]] std::uint64_t bytes_waiting(std::uint64_t id) const;
  [[nodiscard]] std::uint32_t tenants_waiting() const;
  // For tests: "" or what is wrong. `waiting`: entries in all lanes that have these turns, by priority.
  [[nodiscard]] const char* check(const std::array<std::uint32_t, kPriorityCount>& waiting) const;

 private:
  static void add(Account& tenant, double cost);
  void renormalise(Account& tenant);

  Accounts& table_;
  std::uint32_t pool_;
  bool on_ = true;
  double last_served_ = 0;  // counter of whom the newest grant went to, before it was charged
  std::array<double, kPriorityCount> weight_waiting_{};  // of tenants with something waiting at a priority
  std::array<std::uint32_t, kPriorityCount> tenants_waiting_{};
  Account others_;
};

}  // namespace perigee::admission
