// HTTP/1.1 to the letter: each case of tests/data/conformance is either refused or goes on in exactly one form,
// whole, byte by byte, split in two at every place, twice in a row, and behind an earlier message on the same
// connection. And for what is in no list: every byte in every place, and random damage, judged by a second
// reader that shares nothing with the first (strict_reader.h).
#include <doctest/doctest.h>

#include <array>
#include <set>
#include <string>
#include <vector>

#include "conformance.h"
#include "passing.h"
#include "perigee/base/random.h"
#include "strict_reader.h"

namespace perigee::test {
namespace {

using namespace std::string_literals;

std::vector<std::size_t> whole(std::string_view bytes) {
  return {bytes.size()};
}

// Byte by byte; of what is long, in reads of a prime number of bytes.
std::vector<std::size_t> bytewise(std::string_view bytes) {
  const std::size_t step = bytes.size() > 4000 ? 997 : 1;
  std::vector<std::size_t> ends;
  for (std::size_t at = step; at < bytes.size(); at += step)
    ends.push_back(at);
  ends.push_back(bytes.size());
  return ends;
}

// Calls `check` for all the ways in which `bytes` are cut: at every place, of what is long at two hundred. A case
// behind or before others is cut at each seventh place where a sanitizer makes everything ten times as slow.
#if defined(__SANITIZE_ADDRESS__)
constexpr std::size_t kStepAmongOthers = 7;
#elif defined(__has_feature)
constexpr std::size_t kStepAmongOthers = __has_feature(address_sanitizer) ? 7 : 1;
#else
constexpr std::size_t kStepAmongOthers = 1;
#endif
template <typename Check>
void for_each_cut(std::string_view bytes, std::size_t least_step, Check&& check) {
  check(whole(bytes));
  check(bytewise(bytes));
  const std::size_t step = bytes.size() > 2000 ? bytes.size() / 200 : least_step;
  for (std::size_t at = 1; at < bytes.size(); at += step)
    check({at, bytes.size()});
}

std::string shown(const Forwarded& f) {
  return std::to_string(f.status) + (f.unfinished ? " unfinished" : "") + (f.closed ? " closed" : "") +
         (f.continues ? " continues" : "") + "\n" + f.bytes.substr(0, 2000);
}
std::string shown(const Delivered& d) {
  return (d.refused ? "refused"s : d.incomplete ? "incomplete"s : d.cut ? "cut"s : d.kept ? "kept"s : "not kept"s) +
         "\n" + d.bytes.substr(0, 2000);
}

void check_requests(const std::string& bytes, const Forwarded& wanted, std::size_t least_step = 1) {
  for_each_cut(bytes, least_step, [&](const std::vector<std::size_t>& ends) {
    const Forwarded got = forward_requests(bytes, ends);
    if (got == wanted) return;
    CAPTURE(bytes.substr(0, 2000));
    CAPTURE(ends.front());
    CAPTURE(ends.size());
    CHECK(shown(got) == shown(wanted));
  });
}

// What goes on is a row of messages in the one form that the strict reader takes, and nothing else.
void check_canonical(std::string_view forwarded) {
  while (!forwarded.empty()) {
    const StrictMessage message = read_strictly(forwarded, StrictKind::request);
    CAPTURE(forwarded);
    REQUIRE(message.wrong == "");
    forwarded.remove_prefix(message.bytes);
  }
}

const std::string kBefore =
    "POST /before HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n";

void run_requests(const char* group) {
  static const Forwarded kBeforeForwarded = forward_requests(kBefore, whole(kBefore));
  REQUIRE(kBeforeForwarded.bytes.ends_with("\r\n\r\n1\r\nx\r\n0\r\n\r\n"));
  const auto& cases = request_cases();
  REQUIRE(cases.contains(group));
  for (const RequestCase& c : cases.at(group)) {
    if (c.sockets_only) continue;
    CAPTURE(c.rule);
    check_canonical(c.forwarded);
    Forwarded wanted;
    wanted.bytes = c.forwarded;
    wanted.status = c.status;
    wanted.unfinished = c.incomplete;
    wanted.closed = c.closes;
    wanted.continues = c.continues;
    check_requests(c.send, wanted);

    // Behind an earlier request.
    Forwarded behind = wanted;
    behind.bytes.insert(0, kBeforeForwarded.bytes);
    check_requests(kBefore + c.send, behind, kStepAmongOthers);

    // Twice in a row: the second only where the first leaves the connection open.
    if (c.incomplete) continue;
    Forwarded twice = wanted;
    if (c.status == 0 && !c.closes) twice.bytes.append(c.forwarded);
    check_requests(c.send + c.send, twice, kStepAmongOthers);
  }
}

void check_answer(const AnswerCase& c, const std::string& bytes, const Delivered& wanted, std::size_t skip,
                  std::size_t least_step) {
  for_each_cut(bytes, least_step, [&](const std::vector<std::size_t>& ends) {
    const Delivered got = deliver_answer(c.asked, c.ends, bytes, ends, skip);
    if (got == wanted) return;
    CAPTURE(bytes.substr(0, 2000));
    CAPTURE(ends.front());
    CAPTURE(ends.size());
    CHECK(shown(got) == shown(wanted));
  });
}

void check_canonical_answer(const AnswerCase& c) {
  std::string_view rest = c.delivered;
  while (!rest.empty()) {
    const bool until_close = c.asked.starts_with("1.0") && rest.find("Content-Length: ") == std::string_view::npos;
    const StrictKind kind = c.asked == "HEAD" ? StrictKind::answer_to_head
                            : until_close     ? StrictKind::answer_until_close
                                              : StrictKind::answer;
    const StrictMessage message = read_strictly(rest, kind);
    CAPTURE(rest);
    if (c.cut) {
      // It must not look whole; where its end is the connection's, that one is a reset (tests/proxy).
      CHECK((message.unfinished || until_close));
      return;
    }
    REQUIRE(message.wrong == "");
    rest.remove_prefix(message.bytes);
    if (message.line[1] == "101") return;  // the rest is the tunnel's
  }
}

void run_answers(const char* group) {
  static const std::string kPrevious = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
  const auto& cases = answer_cases();
  REQUIRE(cases.contains(group));
  for (const AnswerCase& c : cases.at(group)) {
    CAPTURE(c.rule);
    check_canonical_answer(c);
    const Delivered wanted{c.delivered, c.refused, c.cut, c.kept, c.incomplete};
    check_answer(c, c.send, wanted, 0, 1);
    check_answer(c, kPrevious + c.send, wanted, kPrevious.size(), kStepAmongOthers);

    // Twice in a row: nobody gets the second, and the connection is not used again.
    if (c.ends || c.incomplete) continue;
    Delivered twice = wanted;
    twice.kept = false;
    if (c.delivered.find("HTTP/1.1 101 ") != std::string::npos) twice.bytes.append(c.send);
    check_answer(c, c.send + c.send, twice, 0, kStepAmongOthers);
  }
}

}  // namespace

// One test for each class, so that a report names what broke.
#define PERIGEE_REQUEST_CLASSES(X)                                                                               \
  X("request line") X("methods") X("versions") X("targets and paths") X("host and authority")                    \
  X("line ends, folding and controls") X("field names and values") X("sizes") X("framing") X("numbers")          \
  X("chunks") X("trailers") X("persistence") X("Connection names fields") X("expectations") X("upgrades")        \
  X("aliases") X("forwarded fields") X("values that we build") X("pipelines")
#define PERIGEE_ANSWER_CLASSES(X)                                                                                \
  X("status line") X("line ends, folding and controls") X("field names and values") X("framing") X("numbers")    \
  X("chunks") X("trailers") X("without a body") X("interim answers") X("upgrades") X("the end of the connection") \
  X("persistence") X("queue poisoning") X("fields that stay here") X("values that we build") X("older clients")
#define PERIGEE_REQUEST_TEST(group) \
  TEST_CASE("conformance of requests: " group) { run_requests(group); }
#define PERIGEE_ANSWER_TEST(group) \
  TEST_CASE("conformance of answers: " group) { run_answers(group); }
PERIGEE_REQUEST_CLASSES(PERIGEE_REQUEST_TEST)
PERIGEE_ANSWER_CLASSES(PERIGEE_ANSWER_TEST)

TEST_CASE("conformance: no class of cases is without its test, and none is thin") {
#define PERIGEE_NAME(group) group,
  const std::set<std::string> requests{PERIGEE_REQUEST_CLASSES(PERIGEE_NAME)};
  const std::set<std::string> answers{PERIGEE_ANSWER_CLASSES(PERIGEE_NAME)};
  std::size_t count = 0;
  for (const auto& [group, cases] : request_cases()) {
    CAPTURE(group);
    CHECK(requests.contains(group));
    CHECK(cases.size() >= 4);
    count += cases.size();
  }
  CHECK(count >= 900);
  for (const auto& [group, cases] : answer_cases()) {
    CAPTURE(group);
    CHECK(answers.contains(group));
    CHECK(cases.size() >= 4);
    count += cases.size();
  }
  CHECK(count >= 1250);
}

TEST_CASE("conformance: every byte in every place of a request") {
  constexpr std::string_view kTokenMarks = "!#$%&'*+-.^_`|~";
  const auto taken = [](const std::string& bytes) { return !forward_requests(bytes, whole(bytes)).bytes.empty(); };
  const auto refused = [](const std::string& bytes) { return forward_requests(bytes, whole(bytes)).status != 0; };
  for (int value = 0; value < 256; ++value) {
    CAPTURE(value);
    const char c = static_cast<char>(value);
    const bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool token = alnum || (kTokenMarks.find(c) != std::string_view::npos);
    const bool text = c == '\t' || (value >= 32 && value != 127);
    const auto place = [c](const std::string& before, const std::string& behind) { return before + c + behind; };
    CHECK(taken(place("GET /a?", " HTTP/1.1\r\nHost: a\r\n\r\n")) == (value > 32 && value < 127 && c != '#'));
    CHECK(taken(place("GET / HTTP/1.1\r\nHost: a\r\nX", "Y: b\r\n\r\n")) == (token || c == ':'));
    CHECK(taken(place("GET / HTTP/1.1\r\nHost: a\r\n", ": b\r\n\r\n")) == token);
    CHECK(taken(place("GET / HTTP/1.1\r\nHost: a\r\nX: b", "c\r\n\r\n")) == text);
    CHECK(taken(place("GET / HTTP/1.1\r\nHost: a\r\nX:", "\r\n\r\n")) == text);
    const bool host = alnum || c == '.' || c == '-' || c == '_' || c == '~';
    CHECK(taken(place("GET / HTTP/1.1\r\nHost: a", "b\r\n\r\n")) == host);
    // Directly behind a framing value nothing may stand but blanks.
    const bool blank = c == ' ';
    CHECK(taken(place("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked", "\r\n\r\n0\r\n\r\n")) == blank);
    CHECK(taken(place("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ", "chunked\r\n\r\n0\r\n\r\n")) == blank);
    CHECK(taken(place("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ", "\r\n\r\n123456789")) ==
          (c >= '0' && c <= '9'));
    CHECK(taken(place("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1", "\r\n\r\nxxxxxxxxxxxxxxxxxxxx")) ==
          ((c >= '0' && c <= '9') || blank));
    const std::string chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    CHECK(taken(place(chunked + "1;", "\r\nx\r\n0\r\n\r\n")) == text);
    CHECK(taken(place(chunked + "0\r\nX", "Y: b\r\n\r\n")) == (token || c == ':'));
    CHECK(taken(place(chunked + "0\r\nX: b", "c\r\n\r\n")) == text);
    CHECK(!refused(place(chunked, "\r\n")) == ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') ||
                                                       (c >= 'A' && c <= 'F')));
    CHECK(taken(place(chunked + "1\r\nx", "\n0\r\n\r\n")) == (c == '\r'));
    CHECK(taken(place(chunked + "1\r\nx\r", "0\r\n\r\n")) == (c == '\n'));
    // Only GET, and a line end that is forgiven, begin such a request.
    CHECK(taken(place("", "GET / HTTP/1.1\r\nHost: a\r\n\r\n")) == false);
  }
}

TEST_CASE("conformance: every byte in every place of an answer's head") {
  constexpr std::string_view kTokenMarks = "!#$%&'*+-.^_`|~";
  const auto good = [&](const std::string& bytes) { return !deliver_answer("GET", false, bytes, whole(bytes)).refused; };
  for (int value = 0; value < 256; ++value) {
    CAPTURE(value);
    const char c = static_cast<char>(value);
    const bool digit = c >= '0' && c <= '9';
    const bool alnum = digit || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool token = alnum || (kTokenMarks.find(c) != std::string_view::npos);
    const bool text = c == '\t' || (value >= 32 && value != 127);
    const auto place = [c](const std::string& before, const std::string& behind) {
      return before + c + behind + "Content-Length: 0\r\n\r\n";
    };
    CHECK(good(place("HTTP/1.1 200 a", "b\r\n")) == text);
    CHECK(good(place("HTTP/1.1 20", " OK\r\n")) == digit);
    CHECK(good(place("HTTP/1.", " 200 OK\r\n")) == (c == '0' || c == '1'));
    CHECK(good(place("HTTP/1.1 200", "OK\r\n")) == (c == ' '));
    CHECK(good(place("HTTP/1.1 200 OK\r\nX", "Y: b\r\n")) == (token || c == ':'));
    CHECK(good(place("HTTP/1.1 200 OK\r\nX: b", "c\r\n")) == text);
    CHECK(good(place("", "HTTP/1.1 200 OK\r\n")) == false);
  }
}

TEST_CASE("conformance: damaged requests get one verdict, and what goes on has one meaning") {
  Rng rng(11);
  static constexpr std::array<std::string_view, 24> kParts = {
      "\r\n", "\r", "\n", "\t", " ", ":", ";", ",", "0", "a", std::string_view("\0", 1), "\x7f", "\xff", "/", "#", "%",
      "Transfer-Encoding: chunked\r\n", "Content-Length: 1\r\n", "\r\n\r\n", "Host: b\r\n", "Connection: close\r\n",
      "0\r\n\r\n", "GET / HTTP/1.1\r\n", "%2e%2e"};
  std::size_t accepted = 0;
  for (const auto& [group, cases] : request_cases()) {
    for (const RequestCase& c : cases) {
      if (c.send.size() > 1000 || c.sockets_only) continue;
      for (int round = 0; round < 12; ++round) {
        std::string bytes = c.send;
        for (std::uint32_t n = 1 + rng.below(2); n > 0 && !bytes.empty(); --n) {
          const auto at = static_cast<std::size_t>(rng.below(static_cast<std::uint32_t>(bytes.size())));
          const std::string_view part = kParts[rng.below(kParts.size())];
          switch (rng.below(3)) {
            case 0: bytes.replace(at, 1, part); break;
            case 1: bytes.insert(at, part); break;
            default: bytes.erase(at, 1 + rng.below(3)); break;
          }
        }
        if (bytes.empty()) continue;
        CAPTURE(bytes);
        const Forwarded once = forward_requests(bytes, whole(bytes));
        REQUIRE(shown(forward_requests(bytes, bytewise(bytes))) == shown(once));
        check_canonical(once.bytes);
        accepted += once.bytes.empty() ? 0 : 1;
      }
    }
  }
  CHECK(accepted > 800);
}

TEST_CASE("conformance: damaged answers get one verdict, and what is delivered has one meaning") {
  Rng rng(12);
  static constexpr std::array<std::string_view, 16> kParts = {
      "\r\n", "\r", "\n", "\t", " ", ":", ";", "0", "9", std::string_view("\0", 1), "\xff", "\r\n\r\n",
      "Transfer-Encoding: chunked\r\n", "Content-Length: 1\r\n", "0\r\n\r\n", "HTTP/1.1 200 OK\r\n"};
  std::size_t accepted = 0;
  for (const auto& [group, cases] : answer_cases()) {
    for (const AnswerCase& c : cases) {
      if (c.send.size() > 1000 || c.send.empty() || c.asked == "websocket") continue;
      for (int round = 0; round < 20; ++round) {
        std::string bytes = c.send;
        const auto at = static_cast<std::size_t>(rng.below(static_cast<std::uint32_t>(bytes.size())));
        const std::string_view part = kParts[rng.below(kParts.size())];
        switch (rng.below(3)) {
          case 0: bytes.replace(at, 1, part); break;
          case 1: bytes.insert(at, part); break;
          default: bytes.erase(at, 1 + rng.below(3)); break;
        }
        if (bytes.empty()) continue;
        CAPTURE(bytes);
        const Delivered once = deliver_answer(c.asked, c.ends, bytes, whole(bytes));
        REQUIRE(shown(deliver_answer(c.asked, c.ends, bytes, bytewise(bytes))) == shown(once));
        if (once.refused || once.incomplete) continue;
        AnswerCase seen = c;
        seen.delivered = once.bytes;
        seen.cut = once.cut;
        check_canonical_answer(seen);
        ++accepted;
      }
    }
  }
  CHECK(accepted > 700);
}

TEST_CASE("the strict reader itself takes nothing but the canonical form") {
  const auto wrong = [](std::string_view bytes, StrictKind kind = StrictKind::request) {
    return !read_strictly(bytes, kind).good();
  };
  CHECK_FALSE(wrong("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
  CHECK_FALSE(wrong("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"));
  CHECK(read_strictly("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\nX", StrictKind::request)
            .body == "hi");
  for (const std::string_view bytes :
       {"GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "GET a HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:a\r\n\r\n", "GET / HTTP/1.1\r\nHost:  a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a \r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 02\r\n\r\nhi", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nh",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;a\r\nhi\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhix\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n"}) {
    CAPTURE(bytes);
    CHECK(wrong(bytes));
  }
  CHECK_FALSE(wrong("HTTP/1.1 204 X\r\n\r\n", StrictKind::answer));
  CHECK(wrong("HTTP/1.1 200 X\r\n\r\n", StrictKind::answer));
  CHECK(wrong("HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n", StrictKind::answer));
  CHECK(wrong("HTTP/1.0 200 X\r\nContent-Length: 0\r\n\r\n", StrictKind::answer));
  CHECK(wrong("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", StrictKind::answer));
  CHECK(read_strictly("HTTP/1.1 200 X\r\n\r\nabc", StrictKind::answer_until_close).body == "abc");
}

}  // namespace perigee::test
