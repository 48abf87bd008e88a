// What reading and rewriting costs, to be counted by callgrind: run it with two numbers of rounds and divide
// the difference. `http_cost ROUNDS [small|browser|request|response|token|chunk]`: whole exchanges, their
// halves, and one event of a stream (chunk taken off, watched, put on again).
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "perigee/http/chunk.h"
#include "perigee/http/forward.h"
#include "perigee/http/parser.h"
#include "perigee/http/sse.h"
#include "perigee/http/target.h"

namespace {

using namespace perigee;
using namespace perigee::http;

constexpr std::string_view kSmallRequest =
    "GET /bytes/1024 HTTP/1.1\r\nHost: 127.0.0.1:3000\r\nUser-Agent: wrk\r\nAccept: */*\r\n\r\n";
constexpr std::string_view kBrowserRequest =
    "GET /v1/autocomplete?q=hello&limit=5 HTTP/1.1\r\n"
    "Host: orbit.example.com\r\n"
    "Connection: keep-alive\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 "
    "Safari/537.36\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    "Accept-Language: en-US,en;q=0.9\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\n"
    "Referer: https://orbit.example.com/chat\r\n"
    "Sec-Fetch-Dest: empty\r\n"
    "Sec-Fetch-Mode: cors\r\n"
    "X-API-Key: orbit_0123456789abcdef0123456789abcdef\r\n"
    "X-Session-ID: 6d0c7b9e-3f55-4b43-9d8b-7a0c1f2e3d4c\r\n"
    "\r\n";
constexpr std::string_view kResponse =
    "HTTP/1.1 200 OK\r\n"
    "date: Mon, 23 Nov 2026 08:32:56 GMT\r\n"
    "server: uvicorn\r\n"
    "content-length: 1024\r\n"
    "content-type: application/json\r\n"
    "x-content-type-options: nosniff\r\n"
    "vary: Origin\r\n"
    "\r\n";

constexpr std::string_view kToken = "2d\r\ndata: {\"response\": \"alpha \", \"done\": false}\n\n\r\n";
constexpr std::string_view kChunk =
    "110\r\ndata: {\"id\": \"chatcmpl-e187a576864348c0a7878037d3a8c89d\", \"object\": "
    "\"chat.completion.chunk\", "
    "\"created\": 1795422719, \"model\": \"orbit\", \"choices\": [{\"index\": 0, \"delta\": {\"content\": "
    "\"bravo \"}, "
    "\"finish_reason\": null, \"logprobs\": null}], \"system_fingerprint\": \"simple-chat\"}\n\n\r\n";

int relay_events(long rounds, std::string_view event, SseDialect dialect) {
  BodyDecoder decoder;
  decoder.start(Framing::chunked, 0);
  SseScanner scanner(dialect);
  ByteBuffer out(4096);
  std::string_view pieces[8];
  for (long i = 0; i < rounds; ++i) {
    const BodyStep step = decoder.decode(event, pieces);
    if (step.refused() || step.pieces != 1) return 1;
    scanner.feed(pieces[0]);
    out.append(ChunkHead(step.bytes).view());
    out.append(pieces[0]);
    out.append(kChunkEnd);
    out.clear();
  }
  return scanner.had_output() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const long rounds = argc > 1 ? std::strtol(argv[1], nullptr, 10) : 1000;
  const std::string_view mode = argc > 2 ? argv[2] : "browser";
  if (mode == "token") return relay_events(rounds, kToken, SseDialect::orbit_chat);
  if (mode == "chunk") return relay_events(rounds, kChunk, SseDialect::openai);
  const std::string_view request = mode == "small" ? kSmallRequest : kBrowserRequest;
  HeaderTable table;
  RequestParser requests;
  ResponseParser responses;
  ByteBuffer out(4096);
  char path[256];
  std::size_t sum = 0;
  for (long i = 0; i < rounds; ++i) {
    RequestHead head;
    if (mode != "response") {
      if (!requests.parse_head(request, HeadLimits{}, head, table).complete()) return 1;
      const NormalPath normal = normalise_path(head.target, EncodedSlash::separator, path);
      sum += normal.path.size();
      ForwardContext context;
      context.peer = "203.0.113.9";
      context.request_id = "0123456789abcdef-00000001";
      write_request_head(out, head, table, context);
    }
    if (mode != "request") {
      ResponseHead answer;
      if (!responses.parse_head(kResponse, HeadLimits{}, Expected{}, answer, table).complete()) return 1;
      ResponseContext context;
      context.plan = plan_response(answer, head, true);
      context.request_id = "0123456789abcdef-00000001";
      write_response_head(out, answer, table, context);
      responses.reset();
    }
    sum += out.size();
    out.clear();
  }
  return sum == 0 ? 1 : 0;
}
