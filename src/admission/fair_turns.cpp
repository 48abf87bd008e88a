#include "perigee/admission/fair_turns.h"

#include <algorithm>
#include <cassert>
#include <cmath>

#include "perigee/base/random.h"

namespace perigee::admission {

namespace {

// A bijection of arrivals, so that no two have the same rank.
std::uint64_t rank(const Line& line) { return mix(line.arrival); }

constexpr double kLearning = 0.2;
constexpr double kTooLarge = 0x1p50;  // beyond it a counter would lose single tokens

}  // namespace

// --- LineTree -----------------------------------------------------------------------------------------------

void LineTree::insert(Line& line) {
  Line** at = &root_;
  while (*at != nullptr && rank(**at) > rank(line)) at = before(line, **at) ? &(*at)->left : &(*at)->right;
  // What stood here is split around it.
  Line* rest = *at;
  *at = &line;
  Line** smaller = &line.left;
  Line** larger = &line.right;
  while (rest != nullptr) {
    if (before(*rest, line)) {
      *smaller = rest;
      smaller = &rest->right;
      rest = *smaller;
    } else {
      *larger = rest;
      larger = &rest->left;
      rest = *larger;
    }
  }
  *smaller = *larger = nullptr;
  if (first_ == nullptr || before(line, *first_)) first_ = &line;
}

void LineTree::remove(Line& line) {
  Line** at = &root_;
  while (*at != &line) {
    assert(*at != nullptr);
    at = before(line, **at) ? &(*at)->left : &(*at)->right;
  }
  Line* a = line.left;
  Line* b = line.right;
  while (a != nullptr && b != nullptr) {
    if (rank(*a) > rank(*b)) {
      *at = a;
      at = &a->right;
      a = *at;
    } else {
      *at = b;
      at = &b->left;
      b = *at;
    }
  }
  *at = a != nullptr ? a : b;
  line.left = line.right = nullptr;
  if (first_ != &line) return;
  first_ = root_;
  while (first_ != nullptr && first_->left != nullptr) first_ = first_->left;
}

// --- Accounts --------------------------------------------------------------------------------------------

Accounts::Accounts(std::size_t tenants, std::size_t lines) : tenants_(tenants), lines_(lines) {
  assert(tenants <= kMaxAccounts);
}

std::size_t Accounts::chain(std::uint32_t pool, std::uint64_t id) {
  return mix(id + pool * 0x9E3779B97F4A7C15ULL) % kChains;
}

Account* Accounts::find(std::uint32_t pool, std::uint64_t id) const {
  Account* t = chains_[chain(pool, id)];
  while (t != nullptr && (t->id != id || t->pool != pool)) t = t->next;
  return t;
}

Account* Accounts::obtain(std::uint32_t pool, std::uint64_t id, TimePoint now) {
  now_ = std::max(now_, now);
  if (Account* known = find(pool, id); known != nullptr) {
    if (known->idle() && now_ - known->idle_since >= kAccountMemory) {
      known->served = 0;
      known->output = -1;
    }
    return known;
  }
  // One that nobody remembers is taken before the table grows, the one idle longest when it cannot.
  Account* oldest = idle_.front<Account>();
  Account* t = oldest != nullptr && now_ - oldest->idle_since >= kAccountMemory ? nullptr : tenants_.take();
  if (t == nullptr) {
    if (oldest == nullptr) return nullptr;
    t = oldest;
    t->unlink();
    Account** at = &chains_[chain(t->pool, t->id)];
    while (*at != t) at = &(*at)->next;
    *at = t->next;
    t->served = 0;
    t->output = -1;
  }
  t->id = id;
  t->pool = pool;
  t->idle_since = now_;
  Account*& head = chains_[chain(pool, id)];
  t->next = head;
  head = t;
  idle_.push_back(*t);
  return t;
}

std::uint64_t Accounts::running() const {
  std::uint64_t n = 0;
  for (std::size_t i = 0; i < tenants_.used(); ++i) n += tenants_.at(i).running;
  return n;
}

void Accounts::rest_if_idle(Account& tenant) {
  if (!tenant.idle()) return;
  tenant.idle_since = now_;
  idle_.push_back(tenant);
}

// --- PoolShares ---------------------------------------------------------------------------------------------

Line* PoolShares::line_for(std::uint64_t id, double weight, LineTree& tree, TimePoint now) {
  if (!on_) return nullptr;
  Account* t = table_.obtain(pool_, id, now);
  if (t == nullptr) return nullptr;
  for (Line* line = t->lines; line != nullptr; line = line->next) {
    if (line->tree == &tree) return line;
  }
  Line* line = table_.take_line();
  if (line == nullptr) return nullptr;
  if (t->lines == nullptr) {
    t->weight = weight;
    const double level = tree.first() != nullptr ? tree.first()->account->served : last_served_;
    t->served = std::max(t->served, level);
  }
  t->unlink();  // not idle
  line->account = t;
  line->tree = &tree;
  line->next = t->lines;
  t->lines = line;
  return line;
}

void PoolShares::drop(Line& line) {
  assert(line.entries == 0 && line.waiting.empty());
  Account& t = *line.account;
  Line** at = &t.lines;
  while (*at != &line) at = &(*at)->next;
  *at = line.next;
  line.account = nullptr;
  line.tree = nullptr;
  table_.give_back(line);
  table_.rest_if_idle(t);
}

void PoolShares::entered(Account& tenant, Priority p, std::uint64_t bytes) {
  const auto i = static_cast<std::size_t>(p);
  tenant.bytes_waiting += bytes;
  if (tenant.waiting[i]++ != 0) return;
  ++tenants_waiting_[i];
  weight_waiting_[i] += tenant.weight;
}

void PoolShares::left(Account& tenant, Priority p, std::uint64_t bytes) {
  const auto i = static_cast<std::size_t>(p);
  assert(tenant.bytes_waiting >= bytes);
  tenant.bytes_waiting -= bytes;
  assert(tenant.waiting[i] > 0);
  if (--tenant.waiting[i] != 0) return;
  weight_waiting_[i] = --tenants_waiting_[i] == 0 ? 0 : weight_waiting_[i] - tenant.weight;
}

// Its lines stand by its counter: they step aside while it changes.
void PoolShares::add(Account& tenant, double cost) {
  for (Line* line = tenant.lines; line != nullptr; line = line->next) line->tree->remove(*line);
  tenant.served += cost / tenant.weight;
  for (Line* line = tenant.lines; line != nullptr; line = line->next) line->tree->insert(*line);
}

std::uint16_t PoolShares::charge(std::uint64_t id, double weight, RequestClass c, std::uint64_t body_bytes,
                                 TimePoint now) {
  if (!on_) return kNoAccount;
  Account* found = table_.obtain(pool_, id, now);
  Account& t = found != nullptr ? *found : others_;
  if (t.lines == nullptr && found != nullptr) t.weight = weight;
  // The level of turns: what is granted at the door to who does not wait is nobody's.
  if (found == nullptr || t.lines != nullptr) last_served_ = t.served;
  const double expected = generates(c) ? std::max(t.output, 0.0) : 0.0;
  const double input = std::max(static_cast<double>(body_bytes) / kBytesPerToken, kLeastInput);
  add(t, kInputCost * input + kOutputCost * expected);
  if (t.served > kTooLarge) renormalise(t);
  if (found == nullptr) return kNoAccount;
  t.unlink();
  ++t.running;
  return table_.index(t);
}

void PoolShares::settle(Accounts& table, std::uint16_t tenant, RequestClass c, double tokens, bool learn) {
  if (tenant == kNoAccount) return;
  Account& t = table.at(tenant);
  // Beside what is expected now, not what was expected then: over time both are the same, and no ticket has to
  // remember a number.
  const double expected = generates(c) ? std::max(t.output, 0.0) : 0.0;
  const bool told = tokens >= 0;
  if (told && tokens != expected) add(t, kOutputCost * (tokens - expected));
  if (learn && told && generates(c)) t.output = t.output < 0 ? tokens : t.output + kLearning * (tokens - t.output);
  assert(t.running > 0);
  --t.running;
  table.rest_if_idle(t);
}

// Once in a thousand million requests.
void PoolShares::renormalise(Account& tenant) {
  const double level = tenant.served;
  table_.for_each(pool_, [&](Account& t) { add(t, -level * t.weight); });
  if (&tenant == &others_ || others_.served > 0) others_.served -= level;
  last_served_ -= level;
}

std::uint64_t PoolShares::fair_ahead(std::uint64_t own, double weight, Priority p, bool waits) const {
  const double all = weight_waiting_[static_cast<std::size_t>(p)] + (waits ? 0.0 : weight);
  const double turns = static_cast<double>(own + 1) * std::max(all / weight, 1.0);
  return static_cast<std::uint64_t>(std::ceil(turns - 1e-9)) - 1;
}

std::uint32_t PoolShares::own_waiting(std::uint64_t id, Priority p) const {
  const Account* t = table_.find(pool_, id);
  return t == nullptr ? 0 : t->waiting[static_cast<std::size_t>(p)];
}

bool PoolShares::anything_waits(std::uint64_t id) const {
  const Account* t = table_.find(pool_, id);
  return t != nullptr && t->lines != nullptr;
}

std::uint64_t PoolShares::bytes_waiting(std::uint64_t id) const {
  const Account* t = table_.find(pool_, id);
  return t == nullptr ? 0 : t->bytes_waiting;
}

const char* PoolShares::check(const std::array<std::uint32_t, kPriorityCount>& waiting) const {
  const char* wrong = "";
  std::array<std::uint32_t, kPriorityCount> entries = others_.waiting;
  std::array<std::uint32_t, kPriorityCount> tenants{};
  for (std::size_t p = 0; p < kPriorityCount; ++p) tenants[p] = others_.waiting[p] != 0 ? 1 : 0;
  table_.for_each(pool_, [&](const Account& a) {
    std::uint32_t in_lines = 0;
    for (const Line* line = a.lines; line != nullptr; line = line->next) {
      in_lines += line->entries;
      if (line->account != &a) wrong = "a line of another account";
    }
    for (std::size_t p = 0; p < kPriorityCount; ++p) {
      entries[p] += a.waiting[p];
      tenants[p] += a.waiting[p] != 0 ? 1 : 0;
      in_lines -= a.waiting[p];
    }
    if (in_lines != 0) wrong = "an account and its lines differ";
    if (a.idle() != a.linked()) wrong = "stale: idle accounts";
  });
  if (entries != waiting) wrong = "accounts and lanes differ";
  return tenants != tenants_waiting_ ? "stale: tenants that wait" : wrong;
}

std::uint32_t PoolShares::tenants_waiting() const {
  std::uint32_t n = 0;
  for (const std::uint32_t each : tenants_waiting_) n = std::max(n, each);
  return n;
}

}  // namespace perigee::admission
