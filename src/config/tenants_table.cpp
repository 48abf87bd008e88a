// Tenants, rates and what sidecars share. Keys and passwords are read here and shown nowhere.
#include <algorithm>
#include <cctype>

#include "perigee/config/redis_url.h"
#include "tables.h"
#include "values.h"

namespace perigee::config {
namespace {

constexpr std::uint32_t kMost = 1'000'000'000;

Codec<std::string> api_key() {
  Codec<std::string> codec = secret();
  codec.read = [read = codec.read](Reader& r, const Node& n, std::string& out) {
    if (!read(r, n, out)) return false;
    return !out.empty() || r.error(n.mark, "expected a key");  // `none` is no secret
  };
  return codec;
}

// Not a secret, but nobody's business either: shown, because it must read back.
Codec<std::string> sha256() {
  Codec<std::string> codec = text({.longest = 64, .expected = "a SHA-256"});
  codec.read = [](Reader& r, const Node& n, std::string& out) {
    const bool good = n.kind == Node::Kind::scalar && n.text.size() == 64 &&
                      std::ranges::all_of(n.text, [](unsigned char c) { return std::isxdigit(c) != 0; });
    // Its own report: what was found may be the key itself.
    if (!good) return r.error(n.mark, "expected the SHA-256 of a key as 64 hex digits");
    out = n.text;
    std::ranges::transform(out, out.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return true;
  };
  return codec;
}

// Fills path and path_prefix; `any` is none.
Codec<RateLimit> rate_path() {
  Codec<RateLimit> codec;
  codec.schema = {{"anyOf", Json::array({Json{{"type", "string"}, {"pattern", "^/[^*]*[*]?$"}}, Json{{"const", "any"}}})}};
  codec.read = [](Reader& r, const Node& n, RateLimit& out) {
    const std::string expected = "a path such as `/v1/chat`, or a prefix such as `/v1/*`";
    if (!is_scalar(r, n, expected)) return false;
    if (n.text == "any") return true;
    const auto pattern = read_path_pattern(n.text);
    if (!pattern) return r.mismatch(n, expected);
    out.path_prefix = pattern->prefix;
    out.path = pattern->path;
    return true;
  };
  codec.write = [](const RateLimit& limit, Show) {
    return Json(limit.path.empty() ? "any" : limit.path + (limit.path_prefix ? "*" : ""));
  };
  return codec;
}

Codec<std::string> redis_url() {
  Codec<std::string> codec = url();
  codec.read = [read = codec.read](Reader& r, const Node& n, std::string& out) {
    if (n.kind == Node::Kind::scalar && n.text == "none") {
      out.clear();
      return true;
    }
    if (!read(r, n, out)) return false;
    // Its own report: it may hold a password.
    return parse_redis_url(out).has_value() || r.error(n.mark, "expected a URL such as `redis://USER:PASSWORD@127.0.0.1:6379/0`");
  };
  codec.write = [write = codec.write](const std::string& value, Show show) {
    return value.empty() ? Json("none") : write(value, show);
  };
  return codec;
}

}  // namespace

Codec<Tenant> tenant() {
  Table<Tenant> t;
  t.add("keys", &Tenant::keys, list_of(api_key(), 16, true), "Its API keys, usually `${VARIABLE}`; never shown");
  t.add("key_sha256", &Tenant::key_sha256, list_of(sha256(), 16, true), "The same as SHA-256 in hex");
  t.add("weight", &Tenant::weight, number(0.01, 100), "Its share of the work beside other tenants");
  t.add("priority", &Tenant::priority, optional_of(one_of<Priority>(kPriorityNames)),
        "Priority of its requests, before that of the route");
  return section(std::move(t));
}

Codec<RateLimit> rate_limit() {
  const TextRule name{.longest = 64, .allowed = "._-", .expected = "a name (letters, digits, `.` `_` `-`)"};
  Codec<std::string> or_numbered = text(name);
  or_numbered.write = [](const std::string& value, Show) { return Json(value); };
  Table<RateLimit> t;
  t.add("name", &RateLimit::name, or_numbered,
        "Its name in metrics and RateLimit fields; `limit-1` and so on unless written. Of several with one name the first that matches holds");
  t.add("by", &RateLimit::by, one_of<RateBy>(kRateByNames), "Whose rate it is: each tenant's, each address's, or of all together");
  t.add("class", &RateLimit::request_class, optional_of(one_of<RequestClass>(kClassNames)), "Class that it holds for");
  t.add(
      "path", [](auto& x) -> auto& { return x; }, rate_path(), "Path that it holds for, or a prefix that ends in `*`");
  t.add("tenants", &RateLimit::tenants, list_of(text({.longest = kMaxNameBytes}), 256, true),
        "Names of the tenants that it holds for; none = everybody");
  t.add("requests", &RateLimit::requests, optional_of(count(1, kMost)), "Requests in `per`");
  t.add("tokens", &RateLimit::tokens, optional_of(count(1, kMost)), "Tokens of chats in `per`, prompts and answers");
  t.add("concurrent", &RateLimit::concurrent, optional_of(count(1, 1'000'000)),
        "Requests that may run or wait at once; counted by each sidecar for itself");
  t.add("per", &RateLimit::per, duration(1s, 31 * 24h), "The time");
  t.add("burst", &RateLimit::burst, optional_of(count(1, kMost)), "Requests that may come at once; `requests` unless written");
  t.add("burst_tokens", &RateLimit::burst_tokens, optional_of(count(1, kMost)),
        "Tokens that may be used at once; `tokens` unless written");
  t.add("shared", &RateLimit::shared, yes_or_no(), "Whether sidecars share it through `redis`, where that is written");
  return section(std::move(t));
}

Codec<Redis> redis() {
  Table<Redis> t;
  t.add("url", &Redis::url, redis_url(), "`redis://[USER:PASSWORD@]HOST:PORT[/DB]`, or `none`");
  t.add("timeout", &Redis::timeout, duration(1ms, 1s), "What one request may wait for it");
  t.add("sidecars", &Redis::sidecars, count(1, 1000), "While it is away each sidecar takes this part of a rate");
  t.add("secret", &Redis::secret, secret(), "Key of the tenants' names in it, the same in all sidecars");
  Codec<Redis> codec = section(std::move(t));
  codec.schema = {{"anyOf", Json::array({codec.schema, redis_url().schema})}};
  codec.read = [full = codec.read, short_form = redis_url()](Reader& r, const Node& n, Redis& out) {
    return n.kind == Node::Kind::scalar ? short_form.read(r, n, out.url) : full(r, n, out);
  };
  codec.write = [full = codec.write, short_form = redis_url()](const Redis& redis, Show show) {
    Redis plain;
    plain.url = redis.url;
    return redis == plain ? short_form.write(redis.url, show) : full(redis, show);
  };
  return codec;
}

}  // namespace perigee::config
