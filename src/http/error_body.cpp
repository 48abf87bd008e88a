// The answers that Perigee gives itself.
#include "perigee/http/error_body.h"

#include "bytes.h"

namespace perigee::http {
namespace {

struct ReasonRow {
  std::string_view name;
  std::uint16_t status;
  std::string_view message;
};
constexpr std::array<ReasonRow, kReasonCount> kReasons = {{
    {"bad_request", 400, "The request is malformed or ambiguous."},
    {"request_timeout", 408, "The request did not arrive in time."},
    {"too_large", 413, "The request is larger than allowed."},
    {"forbidden", 403, "This route is reserved for operators; it is not open to clients."},
    {"rate_limited", 429, "Too many requests. Please retry later."},
    {"upstream_failed", 502, "The server behind this gateway failed. Please retry."},
    {"queue_full", 503, "The service is at capacity. Please retry shortly."},
    {"queue_timeout", 503, "The service is busy and the request waited too long. Please retry shortly."},
    {"throttled", 503, "The service is protecting itself from overload. Please retry shortly."},
    {"no_backend", 503, "No server is available at the moment. Please retry shortly."},
    {"circuit_open", 503, "The servers for this request are failing. Please retry shortly."},
    {"draining", 503, "This server is shutting down. Please retry."},
    {"upstream_timeout", 504, "The server behind this gateway did not answer in time."},
}};

const ReasonRow& row(Reason reason) {
  return kReasons[static_cast<std::size_t>(reason)];
}

// In the words that OpenAI's clients branch on.
std::string_view openai_type(std::uint16_t status) {
  if (status == 429) return "rate_limit_error";
  return status < 500 ? "invalid_request_error" : "server_error";
}

void append_openai_error(ByteBuffer& out, std::string_view message, std::uint16_t status,
                         std::string_view code) {
  out.append("{\"error\":{\"message\":");
  append_json_string(out, message);
  out.append(",\"type\":\"");
  out.append(openai_type(status));
  out.append("\",\"param\":null,\"code\":\"");
  out.append(code);
  out.append("\"}}");
}

void append_line(ByteBuffer& out, std::string_view name, std::string_view value) {
  out.append(name);
  out.append(value);
  out.append("\r\n");
}

}  // namespace

std::string_view to_string(Reason reason) {
  return row(reason).name;
}
std::uint16_t default_status(Reason reason) {
  return row(reason).status;
}
std::string_view default_message(Reason reason) {
  return row(reason).message;
}

Reason reason_for_status(std::uint16_t status) {
  switch (status) {
    case 403: return Reason::forbidden;
    case 408: return Reason::request_timeout;
    case 413:
    case 414:
    case 431: return Reason::too_large;
    case 429: return Reason::rate_limited;
    case 502: return Reason::upstream_failed;
    case 503: return Reason::no_backend;
    case 504: return Reason::upstream_timeout;
    default: return Reason::bad_request;
  }
}

std::string_view status_text(std::uint16_t status) {
  switch (status) {
    case 100: return "Continue";
    case 101: return "Switching Protocols";
    case 103: return "Early Hints";
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 206: return "Partial Content";
    case 301: return "Moved Permanently";
    case 302: return "Found";
    case 303: return "See Other";
    case 304: return "Not Modified";
    case 307: return "Temporary Redirect";
    case 308: return "Permanent Redirect";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 417: return "Expectation Failed";
    case 422: return "Unprocessable Content";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    default: return "";
  }
}

ErrorShape error_shape(std::string_view path) {
  static constexpr std::array<std::string_view, 8> kOpenAi = {
      "/v1/chat/completions", "/v1/completions", "/v1/embeddings",         "/v1/models",
      "/v1/responses",        "/v1/moderations", "/v1/images/generations", "/v1/audio"};
  for (const std::string_view prefix : kOpenAi) {
    if (path.starts_with(prefix) && (path.size() == prefix.size() || path[prefix.size()] == '/')) {
      return ErrorShape::openai;
    }
  }
  return ErrorShape::fastapi;
}

void append_json_string(ByteBuffer& out, std::string_view text, std::size_t bytes_max) {
  if (text.size() > bytes_max) {
    // Not in the middle of a character.
    std::size_t cut = bytes_max;
    while (cut > 0 && (byte_of(text[cut]) & 0xc0) == 0x80)
      --cut;
    text = text.substr(0, cut);
  }
  char* to = out.prepare(text.size() * 6 + 2);
  *to++ = '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      *to++ = '\\';
      *to++ = c;
    } else if (byte_of(c) < 0x20 || c == 0x7f) {
      std::memcpy(to, "\\u00", 4);
      to[4] = "0123456789abcdef"[byte_of(c) >> 4];
      to[5] = "0123456789abcdef"[byte_of(c) & 15];
      to += 6;
    } else {
      *to++ = c;
    }
  }
  *to++ = '"';
  out.commit_to(to);
}

void write_error(ByteBuffer& out, const ErrorContext& context) {
  const std::uint16_t status = context.status != 0 ? context.status : default_status(context.reason);
  const std::string_view message =
      context.message.empty() ? default_message(context.reason) : context.message;

  // The body is built where it will nearly stand, so that its length is known, and put behind the head.
  const std::size_t begin = out.size();
  if (context.shape == ErrorShape::openai) {
    append_openai_error(out, message, status, to_string(context.reason));
  } else {
    out.append("{\"detail\":");
    append_json_string(out, message);
    out.append('}');
  }
  const std::size_t body = out.size() - begin;

  out.append("HTTP/1.1 ");
  out.append_u64(status);
  out.append(' ');
  out.append(status_text(status));
  out.append("\r\nContent-Type: application/json\r\nContent-Length: ");
  out.append_u64(body);
  out.append("\r\nCache-Control: no-store\r\n");
  append_line(out, "X-Perigee-Reason: ", to_string(context.reason));
  if (!context.request_id.empty()) append_line(out, "X-Request-ID: ", context.request_id);
  if (!context.date.empty()) append_line(out, "Date: ", context.date);
  if (context.retry_after_s != 0) {
    out.append("Retry-After: ");
    out.append_u64(context.retry_after_s);
    out.append("\r\n");
  }
  if (status == 405) out.append("Allow: GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH\r\n");
  out.append(context.extra);
  if (context.close) {
    out.append("Connection: close\r\n");
  } else if (context.keep_alive_1_0) {
    out.append("Connection: keep-alive\r\n");
  }
  out.append("\r\n");

  const std::size_t head = out.size() - begin - body;
  out.prepare(body);
  char* const at = out.data() + begin;
  std::memcpy(at + body + head, at, body);
  std::memmove(at, at + body, head + body);
  out.commit_to(at + head + (context.head ? 0 : body));
}

void write_sse_error(ByteBuffer& out, SseDialect dialect, Reason reason, std::string_view message) {
  if (dialect == SseDialect::orbit_chat) {
    out.append("data: {\"error\": ");
    append_json_string(out, message.empty() ? default_message(reason) : message);
    out.append(", \"done\": true}\n\n");
    return;
  }
  out.append(dialect == SseDialect::generic ? "event: error\ndata: " : "data: ");
  append_openai_error(out, message.empty() ? default_message(reason) : message, default_status(reason),
                      to_string(reason));
  out.append("\n\n");
}

}  // namespace perigee::http
