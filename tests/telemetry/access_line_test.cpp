// Lines of the access log: what is said, what is never said, hostile texts, and the buffer.
#include <doctest/doctest.h>

#include <array>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "allocations.h"
#include "perigee/base/random.h"
#include "perigee/telemetry/access_log.h"

using namespace perigee;
using namespace perigee::telemetry;
using nlohmann::json;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

const TimePoint kStart{seconds(1000)};

std::string line_of(const AccessRecord& record) {
  AccessLineFormatter formatter;
  std::string out(kLineMax, '~');
  out.resize(formatter.format(record, out.data()));
  return out;
}

json parsed(const AccessRecord& record) {
  return json::parse(line_of(record));
}

AccessRecord chat() {
  AccessRecord r;
  r.wall_ms = 1'795'422'705'042;  // 2026-11-23T08:31:45.042Z
  r.request_id = "pg-6f1c9ab2-0000002a";
  r.worker_request_id = "0b54b9de-5d2e-4b6c-9f2e-9a1f62e1c1a5";
  r.method = "POST";
  r.path = "/v1/chat/completions";
  r.request_class = RequestClass::chat;
  r.stream = StreamVerdict::completed;
  r.backend = "worker-2";
  r.attempts = 1;
  r.status = 200;
  r.bytes_in = 812;
  r.bytes_out = 45'210;
  r.read = microseconds(213);
  r.queue = milliseconds(12);
  r.connect = microseconds(4);
  r.head = microseconds(6'789);
  r.first_event = milliseconds(412);
  r.total = microseconds(8'123'456);
  return r;
}

struct Blocks final : BlockSink {
  std::vector<std::string> blocks;
  std::uint32_t lines = 0;
  void write_block(std::string_view block, std::uint32_t n) override {
    blocks.emplace_back(block);
    lines += n;
  }
};

}  // namespace

TEST_CASE("a whole line, word for word") {
  CHECK(
      line_of(chat()) ==
      R"({"time":"2026-11-23T08:31:45.042Z","id":"pg-6f1c9ab2-0000002a",)"
      R"("worker_id":"0b54b9de-5d2e-4b6c-9f2e-9a1f62e1c1a5","method":"POST","path":"/v1/chat/completions",)"
      R"("class":"chat","priority":"normal","backend":"worker-2","reason":"served","attempts":1,"status":200,)"
      R"("bytes_in":812,"bytes_out":45210,"read_ms":0.213,"queue_ms":12.000,"connect_ms":0.004,)"
      R"("head_ms":6.789,"first_event_ms":412.000,"total_ms":8123.456,"stream":"completed"})"
      "\n");
}

TEST_CASE("who asked, and in which trace; left out where nothing is known") {
  AccessRecord r = chat();
  const std::array<std::uint8_t, 16> none{};
  r.trace_id = &none;
  CHECK_FALSE(parsed(r).contains("client"));
  CHECK_FALSE(parsed(r).contains("trace_id"));
  const std::array<std::uint8_t, 16> trace{0x0a, 0xf7, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0x80, 0xff};
  r.trace_id = &trace;
  r.client = "2001:db8::7";
  CHECK(parsed(r)["client"] == "2001:db8::7");
  CHECK(parsed(r)["trace_id"] == "0af7000102030405060708090a0b80ff");
  const std::string odd = "\"\n" + std::string(100, 'x');  // never happens, and could do nothing
  r.client = odd;
  CHECK(parsed(r)["client"].get<std::string>().size() < 64);
}

TEST_CASE("numbers of every length") {
  AccessRecord r = chat();
  for (std::uint64_t power = 1, digits = 1; digits <= 20; power *= 10, ++digits) {
    for (const std::uint64_t n : {power - 1, power, power + 1, power * 9}) {
      r.bytes_in = n;
      r.bytes_out = ~n;
      CHECK(line_of(r).find("\"bytes_in\":" + std::to_string(n) + ",\"bytes_out\":" + std::to_string(~n) +
                            ",") != std::string::npos);
    }
  }
}

TEST_CASE("what does not apply is left out") {
  AccessRecord r;
  r.reason = Reason::bad_request;
  r.status = 400;
  r.total = milliseconds(1);
  const json line = parsed(r);
  for (const char* key : {"worker_id", "backend", "read_ms", "queue_ms", "connect_ms", "head_ms",
                          "first_event_ms", "stream", "client_gone", "detached", "path_cut"}) {
    CHECK_FALSE(line.contains(key));
  }
  CHECK(line["reason"] == "bad_request");
  CHECK(line["time"] == "1970-01-01T00:00:00.000Z");
  r.client_gone = r.detached = true;
  CHECK(parsed(r)["client_gone"] == true);
  CHECK(parsed(r)["detached"] == true);
}

TEST_CASE("no query and no fragment is ever logged") {
  AccessRecord r = chat();
  r.path = "/ws/voice?api_key=orbit_secret";
  CHECK(parsed(r)["path"] == "/ws/voice");
  CHECK(line_of(r).find("secret") == std::string::npos);
  r.path = "/a#b?c";
  CHECK(parsed(r)["path"] == "/a");
  r.path = "?api_key=orbit_secret";
  CHECK(parsed(r)["path"] == "");
}

TEST_CASE("hostile texts stay inside their string") {
  const std::pair<std::string, std::string> cases[] = {
      {"/\"},{\"reason\":\"served", "/\"},{\"reason\":\"served"},
      {"/a\\", "/a\\"},
      {"/a\nb\r\t", "/a\nb\r\t"},
      {std::string("/nul\0l", 6), std::string("/nul\0l", 6)},
      {"/\x1b[2J\x7f", "/\x1b[2J\x7f"},
      {"/caf\xc3\xa9/\xe2\x82\xac/\xf0\x9f\x98\x80", "/caf\xc3\xa9/\xe2\x82\xac/\xf0\x9f\x98\x80"},
      {"/\xc2\x9b", "/\xc2\x9b"},                                  // C1: escaped, the same character
      {"/\xff\xfe", "/\xef\xbf\xbd\xef\xbf\xbd"},                  // never UTF-8
      {"/\xc0\xaf", "/\xef\xbf\xbd\xef\xbf\xbd"},                  // overlong slash
      {"/\xed\xa0\x80", "/\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},  // surrogate
      {"/\xf4\x90\x80\x80", "/\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},  // above U+10FFFF
      {"/cut\xe2\x82", "/cut\xef\xbf\xbd\xef\xbf\xbd"},                            // ends within a character
      {"/12345678\"", "/12345678\""},
      {"/1234567\x80", "/1234567\xef\xbf\xbd"},
  };
  for (const auto& [path, expected] : cases) {
    AccessRecord r = chat();
    r.path = path;
    r.request_id = path;
    r.worker_request_id = path;
    r.method = path;
    r.backend = path;
    const std::string line = line_of(r);
    CAPTURE(line);
    REQUIRE(json::accept(line));
    const json got = json::parse(line);
    for (const char* key : {"path", "id", "worker_id", "method", "backend"})
      CHECK(got[key] == expected);
    CHECK(got["reason"] == "served");
    // Nothing a terminal or a line reader would obey.
    for (const char c : line.substr(0, line.size() - 1)) {
      const bool control = static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
      REQUIRE_FALSE(control);
    }
    CHECK(line.find("\xc2\x9b") == std::string::npos);
  }
}

TEST_CASE("random bytes of any length always give one line of JSON within its bound") {
  Rng rng(42);
  for (int round = 0; round < 5000; ++round) {
    std::string noise(rng.below(1500), '\0');
    const std::uint32_t shape = rng.below(3);
    for (char& c : noise) {
      c = static_cast<char>(shape == 0   ? rng.below(256)
                            : shape == 1 ? rng.below(32)
                                         : 0x70 + rng.below(0x60));
    }
    AccessRecord r = chat();
    r.path = r.request_id = r.worker_request_id = r.method = r.backend = noise;
    r.total = Duration(static_cast<std::int64_t>(rng.next() >> 1));
    r.bytes_out = rng.next();
    r.wall_ms = static_cast<std::int64_t>(rng.next());
    r.status = static_cast<int>(rng.next());
    const std::string line = line_of(r);
    REQUIRE(line.size() <= kLineMax);
    REQUIRE(json::accept(line));
    REQUIRE(line.find('\n') == line.size() - 1);
  }
}

TEST_CASE("long texts are cut between characters, and a cut path says so") {
  AccessRecord r = chat();
  std::string path = "/";
  while (path.size() < 600)
    path += "\xe2\x82\xac";
  r.path = path;
  const json line = parsed(r);
  CHECK(line["path_cut"] == true);
  const std::string logged = line["path"];
  CHECK(logged.size() == 511);  // 1 + 170 * 3: a character more would be 514
  CHECK(logged == path.substr(0, 511));
  path = std::string(512, 'a');
  r.path = path;
  CHECK_FALSE(parsed(r).contains("path_cut"));
}

TEST_CASE("the second of a line is its own although its text is kept") {
  AccessLineFormatter formatter;
  std::string out(kLineMax, '\0');
  AccessRecord r = chat();
  const std::pair<std::int64_t, const char*> times[] = {{1'709'164'799'999, "2024-02-28T23:59:59.999Z"},
                                                        {1'709'164'800'000, "2024-02-29T00:00:00.000Z"},
                                                        {1'709'164'800'001, "2024-02-29T00:00:00.001Z"},
                                                        {1'709'251'200'000, "2024-03-01T00:00:00.000Z"},
                                                        {1'709'164'799'999, "2024-02-28T23:59:59.999Z"}};
  for (const auto& [ms, text] : times) {
    r.wall_ms = ms;
    const std::size_t n = formatter.format(r, out.data());
    CHECK(json::parse(out.substr(0, n))["time"] == text);
  }
}

TEST_CASE("a block is handed over when it is full, when a second has passed, and at the end") {
  Blocks sink;
  {
    AccessLogBuffer buffer(sink);
    buffer.flush_if_due(kStart);
    CHECK(sink.blocks.empty());
    buffer.append(chat(), kStart);
    buffer.append(chat(), kStart + milliseconds(900));
    buffer.flush_if_due(kStart + milliseconds(999));
    CHECK(sink.blocks.empty());
    buffer.flush_if_due(kStart + seconds(1));
    REQUIRE(sink.blocks.size() == 1);
    CHECK(sink.blocks[0] == line_of(chat()) + line_of(chat()));
    CHECK(buffer.buffered_bytes() == 0);

    while (sink.blocks.size() == 1)
      buffer.append(chat(), kStart + seconds(2));
    CHECK(sink.blocks[1].size() >= AccessLogBuffer::kBlock);
    CHECK(sink.blocks[1].size() < AccessLogBuffer::kBlock + kLineMax);
    CHECK(sink.blocks[1].back() == '\n');
    buffer.append(chat(), kStart + seconds(3));
  }
  REQUIRE(sink.blocks.size() == 3);
  std::uint32_t lines = 0;
  for (const std::string& block : sink.blocks)
    lines += static_cast<std::uint32_t>(std::count(block.begin(), block.end(), '\n'));
  CHECK(lines == sink.lines);
}

TEST_CASE("formatting and buffering allocate nothing") {
  struct Nowhere final : BlockSink {
    void write_block(std::string_view, std::uint32_t) override {}
  } sink;
  AccessLogBuffer buffer(sink);
  const AccessRecord record = chat();
  buffer.append(record, kStart);
  const std::size_t before = allocations();
  for (int i = 0; i < 1000; ++i) {
    buffer.append(record, kStart + milliseconds(i));
    buffer.flush_if_due(kStart + milliseconds(i));
  }
  CHECK(allocations() == before);
}
