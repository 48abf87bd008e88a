// Answers as data: the rule that each checks, what was asked, the worker's bytes, and what must come of them.
//
// `asked`: G = GET, H = HEAD, W = GET with an upgrade to websocket. `end`: the worker closes behind the bytes.
// `expect` is what response_parser_test.cpp writes: STATUS reason|minor|keep or close|framing|flags|body, one for
// each head (interim ones with an empty body), then " cut", "nothing", or +N for N bytes left over. "" = malformed,
// "..." = incomplete.
#pragma once

#include <string_view>

namespace perigee::http {

using namespace std::string_view_literals;

struct ResponseCase {
  std::string_view rule;
  char asked;
  bool end;
  std::string_view bytes;
  std::string_view expect;
};

#define OK "HTTP/1.1 200 OK\r\n"
#define L0 "Content-Length: 0\r\n"
#define TE "Transfer-Encoding: chunked\r\n"

inline constexpr ResponseCase kResponseCases[] = {
    // --- status line (RFC 9112, 4)
    {"M 4: plain", 'G', false, OK "Content-Length: 5\r\n\r\nhello"sv, "200 OK|1|keep|length 5|-|hello"},
    {"M 4: empty reason", 'G', false, "HTTP/1.1 200 \r\n" L0 "\r\n"sv, "200 |1|keep|length 0|-|"},
    {"M 4: no blank behind the status", 'G', false, "HTTP/1.1 200\r\n" L0 "\r\n"sv, "200 |1|keep|length 0|-|"},
    {"M 4: long reason", 'G', false, "HTTP/1.1 404 Not At All Found\r\n" L0 "\r\n"sv,
     "404 Not At All Found|1|keep|length 0|-|"},
    {"M 4: reason beyond ASCII", 'G', false, "HTTP/1.1 200 \xC3\xA9\r\n" L0 "\r\n"sv, "200 \xC3\xA9|1|keep|length 0|-|"},
    {"M 4: status 599", 'G', false, "HTTP/1.1 599 X\r\n" L0 "\r\n"sv, "599 X|1|keep|length 0|-|"},
    {"M 4: status 600", 'G', false, "HTTP/1.1 600 X\r\n" L0 "\r\n"sv, ""},
    {"M 4: status 099", 'G', false, "HTTP/1.1 099 X\r\n" L0 "\r\n"sv, ""},
    {"M 4: status 20", 'G', false, "HTTP/1.1 20 X\r\n" L0 "\r\n"sv, ""},
    {"M 4: status 2000", 'G', false, "HTTP/1.1 2000 X\r\n" L0 "\r\n"sv, ""},
    {"M 4: status 2x0", 'G', false, "HTTP/1.1 2x0 X\r\n" L0 "\r\n"sv, ""},
    {"M 4: status -20", 'G', false, "HTTP/1.1 -20 X\r\n" L0 "\r\n"sv, ""},
    {"M 4: no status", 'G', false, "HTTP/1.1\r\n" L0 "\r\n"sv, ""},
    {"M 4: two blanks before the status", 'G', false, "HTTP/1.1  200 OK\r\n" L0 "\r\n"sv, ""},
    {"M 4: tab before the status", 'G', false, "HTTP/1.1\t200 OK\r\n" L0 "\r\n"sv, ""},
    {"M 4: tab behind the status", 'G', false, "HTTP/1.1 200\tOK\r\n" L0 "\r\n"sv, ""},
    {"M 4: HTTP/1.2", 'G', false, "HTTP/1.2 200 OK\r\n" L0 "\r\n"sv, ""},
    {"M 4: HTTP/2.0", 'G', false, "HTTP/2.0 200 OK\r\n" L0 "\r\n"sv, ""},
    {"M 4: HTTP/0.9", 'G', false, "HTTP/0.9 200 OK\r\n" L0 "\r\n"sv, ""},
    {"M 4: http/1.1", 'G', false, "http/1.1 200 OK\r\n" L0 "\r\n"sv, ""},
    {"M 4: ICY", 'G', false, "ICY 200 OK\r\n\r\n"sv, ""},
    {"M 4: HTTP/0.9 body", 'G', false, "<html>"sv, ""},
    {"M 4: text before", 'G', false, "x" OK L0 "\r\n"sv, ""},
    {"M 4: empty line before", 'G', false, "\r\n" OK L0 "\r\n"sv, ""},
    {"M 4: blank before", 'G', false, " " OK L0 "\r\n"sv, ""},
    {"M 4: bare LF ends the line", 'G', false, "HTTP/1.1 200 OK\n" L0 "\r\n"sv, ""},
    {"M 4: bare CR in the reason", 'G', false, "HTTP/1.1 200 O\rK\r\n" L0 "\r\n"sv, ""},
    {"M 4: CR CR LF", 'G', false, "HTTP/1.1 200 OK\r\r\n" L0 "\r\n"sv, ""},
    {"M 4: NUL in the reason", 'G', false, "HTTP/1.1 200 O\0K\r\n" L0 "\r\n"sv, ""},
    {"M 4: ESC in the reason", 'G', false, "HTTP/1.1 200 \x1b[31m\r\n" L0 "\r\n"sv, ""},
    {"M 4: a request for an answer", 'G', false, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"sv, ""},

    // --- field lines
    {"M 5: header splitting by a bare CR", 'G', false, OK L0 "X: a\rSet-Cookie: b\r\n\r\n"sv, ""},
    {"M 5: header splitting by a bare LF", 'G', false, OK L0 "X: a\nSet-Cookie: b\r\n\r\n"sv, ""},
    {"M 5: NUL in a value", 'G', false, OK L0 "X: a\0b\r\n\r\n"sv, ""},
    {"M 5: control in a value", 'G', false, OK L0 "X: a\x01" "b\r\n\r\n"sv, ""},
    {"M 5: blank before the colon", 'G', false, OK "Content-Length : 0\r\n\r\n"sv, ""},
    {"M 5.2: folded line", 'G', false, OK L0 "X: a\r\n b\r\n\r\n"sv, ""},
    {"M 5: line without colon", 'G', false, OK L0 "X\r\n\r\n"sv, ""},
    {"M 5: empty name", 'G', false, OK L0 ": x\r\n\r\n"sv, ""},
    {"M 5: blank line start", 'G', false, OK " X: a\r\n" L0 "\r\n"sv, ""},

    // --- framing (RFC 9112, 6)
    {"M 6.3: chunked", 'G', false, OK TE "\r\n5\r\nhello\r\n0\r\n\r\n"sv, "200 OK|1|keep|chunked|-|hello"},
    {"M 6.3: chunked with extension and trailer", 'G', false, OK TE "\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n"sv,
     "200 OK|1|keep|chunked|-|hello"},
    {"M 6.3: an event stream", 'G', false,
     OK "Content-Type: text/event-stream; charset=utf-8\r\n" TE "\r\n3\r\n:\n\n\r\n0\r\n\r\n"sv,
     "200 OK|1|keep|chunked|e|:\n\n"},
    {"M 6.3: an event stream in capitals", 'G', false, OK "Content-Type: Text/Event-Stream\r\n" L0 "\r\n"sv,
     "200 OK|1|keep|length 0|e|"},
    {"M 6.3: nearly an event stream", 'G', false, OK "Content-Type: text/event-streams\r\n" L0 "\r\n"sv,
     "200 OK|1|keep|length 0|-|"},
    {"M 6.3: until close", 'G', true, OK "\r\nhello"sv, "200 OK|1|close|until close|-|hello"},
    {"M 6.3: until close, empty", 'G', true, OK "\r\n"sv, "200 OK|1|close|until close|-|"},
    {"M 6.3: until close, not closed", 'G', false, OK "\r\nhello"sv, "..."},
    {"M 6.3: HTTP/1.0 until close", 'G', true, "HTTP/1.0 200 OK\r\n\r\nhello"sv, "200 OK|0|close|until close|-|hello"},
    {"M 6.3: HTTP/1.0 with a length", 'G', false, "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"sv,
     "200 OK|0|close|length 5|-|hello"},
    {"M 6.3: HTTP/1.0 kept", 'G', false, "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello"sv,
     "200 OK|0|keep|length 5|-|hello"},
    {"M 6.1: HTTP/1.0 chunked", 'G', false, "HTTP/1.0 200 OK\r\n" TE "\r\n0\r\n\r\n"sv, ""},
    {"M 6.3: both lengths", 'G', false, OK L0 TE "\r\n0\r\n\r\n"sv, ""},
    {"M 6.3: both lengths, the other order", 'G', false, OK TE "Content-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n"sv, ""},
    {"M 6.3: two lengths", 'G', false, OK "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"sv, ""},
    {"M 6.3: two equal lengths", 'G', false, OK "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"sv, ""},
    {"M 6.3: a list of lengths", 'G', false, OK "Content-Length: 5, 5\r\n\r\nhello"sv, ""},
    {"M 6.3: +5", 'G', false, OK "Content-Length: +5\r\n\r\nhello"sv, ""},
    {"M 6.3: -5", 'G', false, OK "Content-Length: -5\r\n\r\nhello"sv, ""},
    {"M 6.3: 0x5", 'G', false, OK "Content-Length: 0x5\r\n\r\nhello"sv, ""},
    {"M 6.3: empty length", 'G', false, OK "Content-Length:\r\n\r\n"sv, ""},
    {"M 6.3: 2^64", 'G', false, OK "Content-Length: 18446744073709551616\r\n\r\n"sv, ""},
    {"M 6.3: gzip, chunked", 'G', false, OK "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"sv, ""},
    {"M 6.3: gzip", 'G', true, OK "Transfer-Encoding: gzip\r\n\r\nxx"sv, ""},
    {"M 6.3: chunked twice", 'G', false, OK TE TE "\r\n0\r\n\r\n"sv, ""},
    {"M 6.3: xchunked", 'G', true, OK "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"sv, ""},
    {"M 6.3: identity", 'G', true, OK "Transfer-Encoding: identity\r\n\r\nx"sv, ""},
    {"M 7.1: bad chunk size", 'G', false, OK TE "\r\nx\r\n"sv, ""},
    {"M 7.1: chunk size 0x5", 'G', false, OK TE "\r\n0x5\r\nhello\r\n0\r\n\r\n"sv, ""},
    {"M 7.1: chunk longer than said", 'G', false, OK TE "\r\n5\r\nhelloo\r\n0\r\n\r\n"sv, ""},
    {"M 7.1: chunk size line ended by LF", 'G', false, OK TE "\r\n5\nhello\r\n0\r\n\r\n"sv, ""},
    {"M 7.1: chunk size over 2^63", 'G', false, OK TE "\r\nffffffffffffffff\r\nx"sv, ""},

    // --- without a body (RFC 9110, 6.4.1)
    {"S 6.4.1: HEAD with a length", 'H', false, OK "Content-Length: 5\r\n\r\n"sv, "200 OK|1|keep|none 5|-|"},
    {"S 6.4.1: HEAD, chunked", 'H', false, OK TE "\r\n"sv, "200 OK|1|keep|none|-|"},
    {"S 6.4.1: HEAD without either", 'H', false, OK "\r\n"sv, "200 OK|1|keep|none|-|"},
    {"S 6.4.1: HEAD answered with a body", 'H', false, OK "Content-Length: 5\r\n\r\nhello"sv, "200 OK|1|keep|none 5|-|+5"},
    {"S 6.4.1: 204", 'G', false, "HTTP/1.1 204 No Content\r\n\r\n"sv, "204 No Content|1|keep|none|-|"},
    {"S 6.4.1: 204 with a length", 'G', false, "HTTP/1.1 204 X\r\nContent-Length: 5\r\n\r\n"sv, "204 X|1|keep|none 5|-|"},
    {"S 6.4.1: 304 with a length", 'G', false, "HTTP/1.1 304 X\r\nContent-Length: 5\r\n\r\n"sv, "304 X|1|keep|none 5|-|"},
    {"S 6.4.1: 304 chunked", 'G', false, "HTTP/1.1 304 X\r\n" TE "\r\n"sv, "304 X|1|keep|none|-|"},
    {"S 6.4.1: 304 with both lengths", 'G', false, "HTTP/1.1 304 X\r\n" TE L0 "\r\n"sv, ""},
    {"S 6.4.1: 205 with a body", 'G', false, "HTTP/1.1 205 X\r\nContent-Length: 1\r\n\r\nx"sv, "205 X|1|keep|length 1|-|x"},

    // --- interim (RFC 9110, 15.2)
    {"S 15.2: 100 then 200", 'G', false, "HTTP/1.1 100 Continue\r\n\r\n" OK L0 "\r\n"sv,
     "100 Continue|1|keep|none|-|200 OK|1|keep|length 0|-|"},
    {"S 15.2: 103 twice, then 200", 'G', false,
     "HTTP/1.1 103 X\r\nLink: a\r\n\r\nHTTP/1.1 103 X\r\nLink: b\r\n\r\n" OK L0 "\r\n"sv,
     "103 X|1|keep|none|-|103 X|1|keep|none|-|200 OK|1|keep|length 0|-|"},
    {"S 15.2: 102 with a length", 'G', false, "HTTP/1.1 102 X\r\nContent-Length: 9\r\n\r\n" OK L0 "\r\n"sv,
     "102 X|1|keep|none 9|-|200 OK|1|keep|length 0|-|"},
    {"S 15.2: 100 and nothing more", 'G', true, "HTTP/1.1 100 Continue\r\n\r\n"sv, "100 Continue|1|keep|none|-| cut"},
    {"S 15.2.2: 101 that was asked for", 'W', false,
     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\r\nraw"sv,
     "101 Switching Protocols|1|close|none|-|+3"},
    {"S 15.2.2: 101 with other tokens too", 'W', false,
     "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: keep-alive, upgrade\r\n\r\n"sv, "101 X|1|close|none|-|"},
    {"S 15.2.2: 101 that nobody asked for", 'G', false,
     "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"sv, ""},
    {"S 15.2.2: 101 to another protocol", 'W', false, "HTTP/1.1 101 X\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"sv, ""},
    {"S 15.2.2: 101 without Upgrade", 'W', false, "HTTP/1.1 101 X\r\nConnection: Upgrade\r\n\r\n"sv, ""},
    {"S 15.2.2: 101 without Connection", 'W', false, "HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n"sv, ""},
    {"S 15.2.2: 101 with two Upgrades", 'W', false,
     "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nUpgrade: foo\r\nConnection: Upgrade\r\n\r\n"sv, ""},
    {"S 7.8: an upgrade denied", 'W', false, "HTTP/1.1 403 Forbidden\r\n" L0 "Connection: close\r\n\r\n"sv,
     "403 Forbidden|1|close|length 0|-|"},

    // --- the end of the connection (RFC 9112, 8)
    {"M 8: nothing at all", 'G', true, ""sv, "nothing"},
    {"M 8: in the head", 'G', true, OK "Content-Le"sv, " cut"},
    {"M 8: in a body with a length", 'G', true, OK "Content-Length: 5\r\n\r\nhel"sv, "200 OK|1|keep|length 5|-|hel cut"},
    {"M 8: before the last chunk", 'G', true, OK TE "\r\n5\r\nhello\r\n"sv, "200 OK|1|keep|chunked|-|hello cut"},
    {"M 8: in the last chunk", 'G', true, OK TE "\r\n5\r\nhello\r\n0\r\n"sv, "200 OK|1|keep|chunked|-|hello cut"},
    {"M 8: complete", 'G', true, OK TE "\r\n0\r\n\r\n"sv, "200 OK|1|keep|chunked|-|"},

    // --- persistence and what follows
    {"M 9: close", 'G', false, OK L0 "Connection: close\r\n\r\n"sv, "200 OK|1|close|length 0|-|"},
    {"M 9: close on a second line", 'G', false, OK L0 "Connection: x\r\nConnection: Close\r\n\r\n"sv,
     "200 OK|1|close|length 0|-|"},
    {"M 9: malformed Connection", 'G', false, OK L0 "Connection: a b\r\n\r\n"sv, ""},
    {"queue poisoning: an answer behind the answer stays", 'G', false, OK L0 "\r\n" OK L0 "\r\n"sv,
     "200 OK|1|keep|length 0|-|+38"},
    {"queue poisoning: a byte too many", 'G', false, OK "Content-Length: 5\r\n\r\nhellox"sv, "200 OK|1|keep|length 5|-|hello+1"},
    {"queue poisoning: bytes behind the last chunk", 'G', false, OK TE "\r\n0\r\n\r\nx"sv, "200 OK|1|keep|chunked|-|+1"},
};

#undef OK
#undef L0
#undef TE

}  // namespace perigee::http
