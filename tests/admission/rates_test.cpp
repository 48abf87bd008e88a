#include "perigee/admission/rates.h"

#include <doctest/doctest.h>

#include <memory>

#include "perigee/base/random.h"

using namespace perigee;
using namespace perigee::admission;
using namespace std::chrono_literals;

namespace {

const TimePoint kStart{1000s};
const std::vector<std::pair<std::string, config::Tenant>> kTenants{{"acme", {}}, {"beta", {}}};
constexpr Tenant kAcme{101, 1};
constexpr Tenant kBeta{102, 2};
constexpr Tenant kNobody{103, 0};
constexpr std::uint64_t kAddress = 9001;

config::RateLimit rule(std::string name, std::optional<std::uint32_t> requests, std::optional<std::uint32_t> tokens = {},
                       Duration per = 10s) {
  config::RateLimit limit;
  limit.name = std::move(name);
  limit.requests = requests;
  limit.tokens = tokens;
  limit.per = per;
  return limit;
}

struct Book {
  Rates rates;
  RatePoliciesPtr policies;
  TimePoint now = kStart;
  std::vector<RateMatch> matches;

  explicit Book(const std::vector<config::RateLimit>& limits) { configure(limits); }
  void configure(const std::vector<config::RateLimit>& limits) { policies = rates.configure(limits, kTenants, now); }
  std::vector<RateMatch>& match(const Tenant& tenant, RequestClass c = RequestClass::search, std::string_view path = "/a") {
    matches.clear();
    Rates::match(*policies, c, path, tenant, kAddress, matches);
    return matches;
  }
  RateVerdict ask(const Tenant& tenant, RequestClass c = RequestClass::search, std::string_view path = "/a") {
    return rates.take(match(tenant, c, path), now);
  }
  RateVerdict chat(const Tenant& tenant, std::uint64_t input) {
    rates.estimate(match(tenant, RequestClass::chat), input);
    return rates.take(matches, now);
  }
};

}  // namespace

TEST_CASE("what matches: class, path, names, and whose bucket it is") {
  config::RateLimit chats = rule("chats", 5);
  chats.request_class = RequestClass::chat;
  config::RateLimit files = rule("files", 5);
  files.path = "/files/";
  files.path_prefix = true;
  files.by = config::RateBy::address;
  config::RateLimit all = rule("all", 100);
  all.by = config::RateBy::all;
  config::RateLimit of_acme = rule("named", 5);
  of_acme.tenants = {"acme"};
  Book book({chats, files, all, of_acme});
  CHECK(book.match(kNobody).size() == 1);
  CHECK(book.match(kNobody)[0].key == 1);
  CHECK(book.match(kNobody, RequestClass::chat).size() == 2);
  CHECK(book.match(kNobody, RequestClass::chat)[0].key == kNobody.id);
  CHECK(book.match(kNobody, RequestClass::search, "/files/x")[0].key == kAddress);
  CHECK(book.match(kNobody, RequestClass::search, "/filesx").size() == 1);
  CHECK(book.match(kAcme).size() == 2);
  CHECK(book.match(kBeta).size() == 1);
}

TEST_CASE("of one name the first that matches holds") {
  config::RateLimit generous = rule("r", 4);
  generous.tenants = {"acme"};
  Book book({generous, rule("r", 1)});
  for (int i = 0; i < 4; ++i) CHECK(book.ask(kAcme).allowed);
  CHECK_FALSE(book.ask(kAcme).allowed);
  CHECK(book.ask(kBeta).allowed);
  CHECK_FALSE(book.ask(kBeta).allowed);
  REQUIRE(book.rates.counts().policies.size() == 1);
  CHECK(book.rates.counts().policies[0].allowed == 5);
  CHECK(book.rates.counts().policies[0].refused_requests == 2);
}

TEST_CASE("all buckets are looked at before any is charged") {
  config::RateLimit all = rule("all", 3);
  all.by = config::RateBy::all;
  Book book({all, rule("each", 1)});
  CHECK(book.ask(kAcme).allowed);
  // Refused by its own bucket, ten times: the common one is not charged for it.
  for (int i = 0; i < 10; ++i) {
    const RateVerdict verdict = book.ask(kAcme);
    CHECK_FALSE(verdict.allowed);
    CHECK(verdict.refused_by->written.name == "each");
    CHECK(verdict.retry_after == 10s);
  }
  CHECK(book.ask(kBeta).allowed);
  CHECK(book.ask(kNobody).allowed);
  CHECK(book.ask({200, 0}).refused_by->written.name == "all");
  // And the other way round: the tenant's own was not charged when the common one refused.
  book.now += 4s;
  CHECK(book.ask({200, 0}).allowed);
}

TEST_CASE("tokens: an estimate at the door, the truth at the end, learnt for the next one") {
  Book book({rule("t", 100, 1000, 1000s)});
  CHECK(book.chat(kAcme, 50).allowed);
  CHECK(book.matches[0].tokens == 250);  // nothing is known of its answers
  book.rates.settle(book.matches, 80, 30, book.now);
  auto usage = book.rates.usage(book.policies->all[0], 5, book.now);
  REQUIRE(usage.size() == 1);
  CHECK(usage[0].key == kAcme.id);
  CHECK(usage[0].requests_used == 1);
  CHECK(usage[0].tokens_used == 80);
  CHECK(book.chat(kAcme, 50).allowed);
  CHECK(book.matches[0].tokens == 80);  // 50, and the 30 of its last answer
  // A far longer answer than anybody expected: a debt that is paid with time.
  book.rates.settle(book.matches, 2000, 1950, book.now);
  const RateVerdict refused = book.chat(kAcme, 1);
  CHECK_FALSE(refused.allowed);
  CHECK(refused.retry_after > 1000s);
  CHECK(book.rates.counts().policies[0].refused_tokens == 1);
  // What asks for no tokens is not held to the debt, and other tenants are not either.
  CHECK(book.ask(kAcme).allowed);
  CHECK(book.chat(kBeta, 1).allowed);
  // More than the whole burst is asked for: it passes when all of it is there.
  CHECK(book.chat(kNobody, 1'000'000).allowed);
  CHECK_FALSE(book.chat(kNobody, 1).allowed);
  // What a worker says is bounded.
  book.rates.settle(book.matches, ~std::uint64_t{0}, ~std::uint64_t{0}, book.now);
}

TEST_CASE("a refund gives back what was charged, once") {
  Book book({rule("r", 2, 100, 100s)});
  CHECK(book.chat(kAcme, 1).allowed);
  std::vector<RateMatch> first = book.matches;
  CHECK_FALSE(book.chat(kAcme, 1).allowed);
  book.rates.refund(first, book.now);
  book.rates.refund(first, book.now);
  CHECK(book.rates.counts().policies[0].allowed == 1);  // a counter never falls
  CHECK(book.chat(kAcme, 1).allowed);
  CHECK_FALSE(book.chat(kAcme, 1).allowed);
}

TEST_CASE("what another rate may still refuse is counted once that is known") {
  Book book({rule("r", 2)});
  const auto allowed = [&] { return book.rates.counts().policies[0].allowed; };
  CHECK(book.rates.take(book.match(kAcme), book.now, false).allowed);
  CHECK(allowed() == 0);
  book.rates.refund(book.matches, book.now);
  CHECK(allowed() == 0);
  CHECK(book.rates.take(book.match(kAcme), book.now, false).allowed);
  book.rates.count(book.matches, nullptr, false);
  CHECK(allowed() == 1);
}

TEST_CASE("who asks for no tokens takes no place among those who do") {
  Book book({rule("r", 5, 100)});
  CHECK(book.ask(kAcme).allowed);
  const GcraTable& tokens = book.policies->all[0].state->tokens;
  CHECK(tokens.slots() == 0);
  book.rates.mirror(book.match(kBeta), book.now);
  CHECK(tokens.slots() == 0);
  // Who has a place there is told how it stands.
  CHECK(book.chat(kAcme, 1).allowed);
  book.match(kAcme)[0].of_tokens.reset = 7s;
  book.rates.mirror(book.matches, book.now);
  CHECK(book.rates.usage(book.policies->all[0], 5, book.now)[0].tokens_used == 70);
}

TEST_CASE("a part of a rate, for the time without Redis") {
  Book book({rule("r", 10)});
  const auto ask = [&] {
    book.match(kAcme);
    book.matches[0].parts = 5;
    return book.rates.take(book.matches, book.now).allowed;
  };
  CHECK(ask());
  CHECK(ask());
  CHECK_FALSE(ask());
  book.now += 4s;
  CHECK_FALSE(ask());
  book.now += 1s;  // ten in ten seconds, a fifth of it: one in five seconds
  CHECK(ask());
}

TEST_CASE("a reload: names that stay keep what they counted, in requests; others begin anew") {
  Book book({rule("kept", 4), rule("other", 100)});
  for (int i = 0; i < 4; ++i) CHECK(book.ask(kAcme).allowed);
  CHECK_FALSE(book.ask(kAcme).allowed);
  const RatePoliciesPtr old = book.policies;
  book.configure({rule("kept", 8)});
  for (int i = 0; i < 4; ++i) CHECK(book.ask(kAcme).allowed);
  CHECK_FALSE(book.ask(kAcme).allowed);
  CHECK(book.rates.counts().policies.size() == 1);
  // Who matched before the reload may still settle.
  std::vector<RateMatch> late;
  Rates::match(*old, RequestClass::chat, "/a", kAcme, kAddress, late);
  CHECK(late.size() == 2);
  (void)book.rates.take(late, book.now);
  book.rates.settle(late, 5, 5, book.now);
  book.configure({});
  book.configure({rule("kept", 8)});
  CHECK(book.ask(kAcme).allowed);
}

TEST_CASE("fields: policies, what is left, when it grows") {
  Book book({rule("req", 10, 1000, 10s)});
  CHECK(book.chat(kAcme, 100).allowed);
  CHECK(rate_fields(book.matches) ==
        "RateLimit-Policy: \"req\";q=10;w=10, \"req-tokens\";q=1000;w=10\r\n"
        "RateLimit: \"req\";r=9;t=1, \"req-tokens\";r=700;t=1\r\n");
}

TEST_CASE("random schedules: no key ever gets more than burst and rate, whatever is refused, settled or given back") {
  for (const std::uint64_t seed : {42U, 1U, 2U}) {
    Rng rng(seed);
    config::RateLimit all = rule("all", 300, {}, 1s);
    all.by = config::RateBy::all;
    Book book({all, rule("each", 40, {}, 1s)});
    std::map<std::uint64_t, std::uint64_t> taken;
    std::uint64_t sum = 0;
    for (int i = 0; i < 20'000; ++i) {
      book.now += from_seconds(rng.exponential(0.0005));
      const Tenant tenant{1000 + rng.below(12), 0};
      if (!book.ask(tenant).allowed) continue;
      if (rng.uniform() < 0.1) {
        book.rates.refund(book.matches, book.now);
        continue;
      }
      ++taken[tenant.id];
      ++sum;
    }
    const double elapsed = to_seconds(book.now - kStart);
    CHECK(static_cast<double>(sum) <= 300 + 300 * elapsed);
    CHECK(static_cast<double>(sum) >= 250 * elapsed);
    for (const auto& [id, n] : taken) CHECK(static_cast<double>(n) <= 40 + 40 * elapsed);
  }
}

TEST_CASE("at most so many at once: a place for each, given back whatever became of it") {
  config::RateLimit two = rule("two", {});
  two.concurrent = 2;
  config::RateLimit all = rule("all", 100);
  all.by = config::RateBy::all;
  all.concurrent = 3;
  auto rates = std::make_shared<Rates>();
  auto policies = rates->configure({two, all}, kTenants, kStart);
  const auto enter = [&](const Tenant& tenant, RunningPlaces& into) {
    std::vector<RateMatch> matches;
    Rates::match(*policies, RequestClass::search, "/a", tenant, kAddress, matches);
    const RateVerdict verdict = Rates::enter(rates, matches, into);
    rates->look(matches, kStart);
    CHECK(matches[1].of_requests.remaining == 100);  // nothing is charged here
    return std::pair(verdict, matches[0].places_left);
  };
  RunningPlaces first;
  RunningPlaces second;
  CHECK(enter(kAcme, first).second == 1);
  CHECK(enter(kAcme, second).second == 0);
  {
    RunningPlaces third;
    const auto [verdict, left] = enter(kAcme, third);
    CHECK_FALSE(verdict.allowed);
    CHECK(left == 0);
    CHECK(verdict.refused_by->written.name == "two");
    CHECK(verdict.retry_after > 0s);
  }
  {
    RunningPlaces other;
    CHECK(enter(kBeta, other).first.allowed);
    RunningPlaces fourth;  // three run: refused by the rate of all, and its own place is not kept
    CHECK(enter(kNobody, fourth).first.refused_by->written.name == "all");
    CHECK(rates->usage(policies->all[0], 5, kStart).size() == 2);
    CHECK(rates->usage(policies->all[1], 5, kStart)[0].running == 3);
  }
  RunningPlaces moved = std::move(second);
  RunningPlaces again;
  CHECK_FALSE(enter(kAcme, again).first.allowed);
  moved.give_back();
  moved.give_back();  // once
  CHECK(enter(kAcme, again).first.allowed);
  // A reload that takes the policy away and brings it back: what ran before belongs to the old one.
  rates->configure({}, kTenants, kStart);
  policies = rates->configure({two, all}, kTenants, kStart);
  RunningPlaces after;
  CHECK(enter(kAcme, after).second == 1);
  first.give_back();
  again = RunningPlaces();
  CHECK(rates->usage(policies->all[0], 5, kStart)[0].running == 1);
  after.give_back();
  CHECK(rates->usage(policies->all[0], 5, kStart).empty());
}

TEST_CASE("fields of a bound on how many run") {
  config::RateLimit both = rule("b", 10);
  both.concurrent = 4;
  auto rates = std::make_shared<Rates>();
  const auto policies = rates->configure({both}, kTenants, kStart);
  std::vector<RateMatch> matches;
  Rates::match(*policies, RequestClass::search, "/a", kAcme, kAddress, matches);
  RunningPlaces places;
  CHECK(Rates::enter(rates, matches, places).allowed);
  CHECK(rates->take(matches, kStart).allowed);
  CHECK(rate_fields(matches) ==
        "RateLimit-Policy: \"b\";q=10;w=10, \"b-concurrent\";q=4;qu=\"concurrent-requests\"\r\n"
        "RateLimit: \"b\";r=9;t=1, \"b-concurrent\";r=3\r\n");
}

TEST_CASE("fields for OpenAI's clients: the tightest match, what may come at once, when all of it is back") {
  config::RateLimit all = rule("all", 100, {}, 1s);
  all.by = config::RateBy::all;
  Book book({all, rule("each", 10, 1000, 3600s)});
  CHECK(book.chat(kAcme, 100).allowed);  // 300 tokens by estimate
  CHECK(openai_rate_fields(book.matches) ==
        "x-ratelimit-limit-requests: 10\r\nx-ratelimit-remaining-requests: 9\r\nx-ratelimit-reset-requests: 6m0s\r\n"
        "x-ratelimit-limit-tokens: 1000\r\nx-ratelimit-remaining-tokens: 700\r\nx-ratelimit-reset-tokens: 18m0s\r\n");
  Book quick({rule("q", 100, {}, 1s)});
  CHECK(quick.ask(kAcme).allowed);
  CHECK(openai_rate_fields(quick.matches) ==
        "x-ratelimit-limit-requests: 100\r\nx-ratelimit-remaining-requests: 99\r\nx-ratelimit-reset-requests: 10ms\r\n");
  Book slow({rule("s", 1, {}, 3605s)});
  CHECK(slow.ask(kAcme).allowed);
  CHECK(openai_rate_fields(slow.matches).ends_with("reset-requests: 1h0m5s\r\n"));
  CHECK(openai_rate_fields({}).empty());
}
