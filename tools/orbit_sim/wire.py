"""The bytes that are always the same: status lines, header blocks, JSON in ORBIT's two spacings, token events."""

import json
import time

REASONS = {200: "OK", 202: "Accepted", 204: "No Content", 307: "Temporary Redirect", 400: "Bad Request",
           401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 413: "Request Entity Too Large",
           422: "Unprocessable Entity", 429: "Too Many Requests", 500: "Internal Server Error", 501: "Not Implemented",
           502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout"}
SECURITY = (
    b"content-security-policy: default-src 'self'; script-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net; "
    b"worker-src 'self' blob:; style-src 'self' 'unsafe-inline' https://fonts.googleapis.com; "
    b"img-src 'self' data: blob:; connect-src 'self' ws: wss:; "
    b"font-src 'self' data: https://fonts.gstatic.com https://fonts.googleapis.com; frame-ancestors 'self'; "
    b"base-uri 'self'; form-action 'self'\r\nx-content-type-options: nosniff\r\nx-frame-options: SAMEORIGIN\r\n"
    b"x-xss-protection: 1; mode=block\r\nreferrer-policy: strict-origin-when-cross-origin\r\n"
    b"permissions-policy: geolocation=(), microphone=(), camera=()\r\n")
CORS = (b"access-control-allow-origin: *\r\naccess-control-expose-headers: X-Request-ID, X-RateLimit-Limit, "
        b"X-RateLimit-Remaining, X-RateLimit-Reset\r\n")
CORS_ALLOWED = ["Accept", "Accept-Language", "Authorization", "Content-Language", "Content-Type", "X-API-Key",
                "X-Request-ID", "X-Session-ID", "X-User-ID"]
PREFLIGHT = (b"vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers, "
             b"Access-Control-Request-Private-Network\r\naccess-control-allow-origin: *\r\n"
             b"access-control-allow-methods: GET, POST, PUT, DELETE, OPTIONS, PATCH\r\naccess-control-max-age: 600\r\n"
             b"access-control-allow-headers: " + ", ".join(CORS_ALLOWED).encode() + b"\r\n")
VARY = b"vary: Origin\r\n"
MALFORMED = (b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
             b"Invalid HTTP request received.")
EVENT_STREAM = b"cache-control: no-cache\r\nx-accel-buffering: no\r\n%bcontent-type: text/event-stream; charset=utf-8\r\n"
JSON_TYPE = b"application/json"
TEXT_TYPE = b"text/plain; charset=utf-8"
LAST_CHUNK = b"0\r\n\r\n"
WORDS = ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliett", "kilo", "lima",
         "mike", "november", "oscar", "papa", "quebec", "romeo", "sierra", "tango", "uniform", "victor", "whiskey",
         "xray", "yankee", "zulu"]

_date_at = 0
_date = b""


def compact(value):
    """JSON of plain answers: no spaces."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def event(value):
    """An SSE event, JSON with spaces."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


def date():
    """The Date value, made once a second."""
    global _date_at, _date
    now = int(time.time())
    if now != _date_at:
        _date_at = now
        _date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now)).encode()
    return _date


def status_line(status):
    return b"HTTP/1.1 %d %b\r\ndate: %b\r\nserver: uvicorn\r\n" % (status, REASONS.get(status, "Unknown").encode(), date())


def sentence(status):
    """What ORBIT tells a user when its provider fails; a closed list keyed by the provider's status."""
    if status in (401, 403):
        return "The AI service is not available due to an authentication issue. Please contact your administrator."
    if status == 429:
        return "The AI service is receiving too many requests. Please try again shortly."
    if status in (0, 502, 503, 504):
        return "The AI service is temporarily unavailable. Please try again shortly."
    return "The AI service encountered an internal error. Please try again later."


WORD_BYTES = [json.dumps(word + " ").encode() for word in WORDS]
NATIVE_TOKENS = [b'data: {"response": %b, "done": false}\n\n' % word for word in WORD_BYTES]
NATIVE_CHUNKS = [chunk(token) for token in NATIVE_TOKENS]


def answer_text(tokens):
    return " ".join(WORDS[at % len(WORDS)] for at in range(tokens))
