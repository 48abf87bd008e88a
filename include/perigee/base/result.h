// Errors that can happen are values: Result<T> is std::expected<T, Error>.
//
// An Error says what happened, on which side, and whether another attempt is safe; nobody compares
// strings. It is three words, owns nothing and is copied freely (`detail` is a literal).
#pragma once

#include <cstdint>
#include <expected>
#include <utility>

namespace perigee {

enum class ErrorKind : std::uint8_t {
  cancelled,    // somebody asked us to stop: the client left, a scope ends, the process stops
  timeout,      // a clock ran out; `detail` names the clock
  refused,      // a connect was refused or could not be made
  reset,        // the peer reset or closed where it should not have
  eof,          // the peer ended its side in good order
  protocol,     // bytes that break the protocol
  too_large,    // over a bound of ours
  exhausted,    // descriptors, memory
  unavailable,  // admission or choice said no
  denied,       // not allowed
  invalid,      // a value of ours or of the operator's that makes no sense
  io,           // anything else the system reports; `code` is the errno
};

enum class Side : std::uint8_t { internal, client, upstream };

// What is known of the request when the error arose; the route's replay rule decides with it.
enum class Sent : std::uint8_t {
  nothing,  // no byte reached the worker: another attempt is always safe
  maybe,    // the worker may have begun
};

struct Error {
  ErrorKind kind = ErrorKind::io;
  Side side = Side::internal;
  Sent sent = Sent::maybe;
  int code = 0;                // an errno or an HTTP status, by context; 0 = none
  const char* detail = "";     // a literal: static storage
};

template <typename T>
using Result = std::expected<T, Error>;

inline std::unexpected<Error> fail(ErrorKind kind, const char* detail, Side side = Side::internal, int code = 0) {
  return std::unexpected(Error{kind, side, Sent::maybe, code, detail});
}

// Stable lower-case name, for logs and metrics.
const char* to_string(ErrorKind kind);

}  // namespace perigee

#define PERIGEE_CONCAT_INNER(a, b) a##b
#define PERIGEE_CONCAT(a, b) PERIGEE_CONCAT_INNER(a, b)

// TRY(const int x, f()) declares x from f()'s value or returns its error. CO_TRY is the same in a
// coroutine; its expression must not contain co_await (name the awaited result first).
#define TRY_IMPL(result, decl, expr, ret)                        \
  auto result = (expr);                                          \
  if (!result) ret std::unexpected(std::move(result).error());   \
  decl = std::move(*result)
#define TRY(decl, expr) TRY_IMPL(PERIGEE_CONCAT(try_, __LINE__), decl, expr, return)
#define CO_TRY(decl, expr) TRY_IMPL(PERIGEE_CONCAT(try_, __LINE__), decl, expr, co_return)
#define TRY_VOID_IMPL(result, expr, ret)                         \
  if (auto&& result = (expr); !result) ret std::unexpected(std::move(result).error())
#define TRY_VOID(expr) TRY_VOID_IMPL(PERIGEE_CONCAT(try_, __LINE__), expr, return)
#define CO_TRY_VOID(expr) TRY_VOID_IMPL(PERIGEE_CONCAT(try_, __LINE__), expr, co_return)
