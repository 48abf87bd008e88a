// The sidecar-wide limits: how many of a class may be before their first event, how many streams after it.
//
// They lie beside the slots of each backend and are exact: every exchange holds one LimitHold that says
// what it counts in, so that it is given back once whatever happens. A streamed exchange counts in its
// class until its first event and in `streams` from then on; it starts only if `streams` has room for it
// and for all that are on their way there, so that the limit is never passed. What turns out to be a
// stream later (an SSE answer nobody asked for in the request) may pass it. Under the dispatcher's lock.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "perigee/base/vocabulary.h"

namespace perigee::admission {

inline constexpr std::uint32_t kNoLimit = std::numeric_limits<std::uint32_t>::max();

struct ClassLimitValues {
  std::uint32_t streams = 5000;
  std::array<std::uint32_t, kClassCount> before_first_event = unlimited();  // by RequestClass

  static constexpr std::array<std::uint32_t, kClassCount> unlimited() {
    std::array<std::uint32_t, kClassCount> a{};
    a.fill(kNoLimit);
    return a;
  }
  // The defaults: in front of ORBIT also chat 2000, embeddings 1000, search 1500.
  static constexpr ClassLimitValues defaults(WorkerKind kind) {
    ClassLimitValues v;
    if (kind != WorkerKind::http) {
      v[RequestClass::chat] = 2000;
      v[RequestClass::embeddings] = 1000;
      v[RequestClass::search] = 1500;
    }
    return v;
  }
  constexpr std::uint32_t& operator[](RequestClass c) {
    return before_first_event[static_cast<std::size_t>(c)];
  }
  constexpr std::uint32_t operator[](RequestClass c) const {
    return before_first_event[static_cast<std::size_t>(c)];
  }
};

// The partition rule, after Netflix's concurrency-limits: below the limit anybody, at or above it a class that has
// less than its floor. So what a class does not use is everybody's, and yet it gets its floor at once; what runs
// may be more than the limit by as much as was borrowed.
constexpr std::uint32_t floor_of(std::uint32_t limit, double share) {
  if (share <= 0) return 0;
  const double exact = static_cast<double>(limit) * share;
  const auto whole = static_cast<std::uint32_t>(exact);
  return std::max<std::uint32_t>(1, exact - whole > 1e-9 ? whole + 1 : whole);
}
constexpr bool partition_admits(std::uint32_t busy, std::uint32_t limit, std::uint32_t busy_of_class, double share) {
  return busy < limit || busy_of_class < floor_of(limit, share);
}

// What one exchange counts in. Plain data; its owner calls ClassLimits::end once (more is harmless).
struct LimitHold {
  enum class Phase : std::uint8_t { none, before_first_event, streaming };
  RequestClass request_class : 4 = RequestClass::other;
  Phase phase : 2 = Phase::none;
  bool streamed : 1 = false;
};
static_assert(sizeof(LimitHold) == 1 && kClassCount <= 16);

class ClassLimits {
 public:
  explicit ClassLimits(ClassLimitValues values) : values_(values) {}

  // Takes effect for the next start; what runs goes on. The caller pumps after raising one.
  void set(ClassLimitValues values) { values_ = values; }
  [[nodiscard]] const ClassLimitValues& values() const { return values_; }

  [[nodiscard]] bool may_start(RequestClass c, bool streamed) const;
  // `hold` must be in phase none.
  void start(LimitHold& hold, RequestClass c, bool streamed);
  // The answer is a stream although the request did not say so.
  void became_stream(LimitHold& hold);
  // The first event came; no effect on what does not stream, which counts until its end. True where a
  // place in its class became free: the caller pumps.
  bool first_event(LimitHold& hold);
  void end(LimitHold& hold);

  [[nodiscard]] std::uint32_t streams() const { return streams_; }
  [[nodiscard]] std::uint32_t before_first_event(RequestClass c) const { return starting_[index(c)]; }

 private:
  static constexpr std::size_t index(RequestClass c) { return static_cast<std::size_t>(c); }

  ClassLimitValues values_;
  std::uint32_t streams_ = 0;           // after their first event
  std::uint32_t streams_expected_ = 0;  // streamed, before it
  std::array<std::uint32_t, kClassCount> starting_{};
};

}  // namespace perigee::admission
