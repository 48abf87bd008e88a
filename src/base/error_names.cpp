#include "perigee/base/result.h"

namespace perigee {

const char* to_string(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::cancelled: return "cancelled";
    case ErrorKind::timeout: return "timeout";
    case ErrorKind::refused: return "refused";
    case ErrorKind::reset: return "reset";
    case ErrorKind::eof: return "eof";
    case ErrorKind::protocol: return "protocol";
    case ErrorKind::too_large: return "too_large";
    case ErrorKind::exhausted: return "exhausted";
    case ErrorKind::unavailable: return "unavailable";
    case ErrorKind::denied: return "denied";
    case ErrorKind::invalid: return "invalid";
    case ErrorKind::io: return "io";
  }
  return "unknown";
}

}  // namespace perigee
