// Controllers of one pool's queue besides the law of admission: options, at most one a pool, off by default.
//
// codel  drops at dequeue what waited long while even the quickest of an interval waited too long.
// lifo   while the queue has not been empty for an interval, takes the newest first and ends who has waited for an
//        interval: somebody is answered in time instead of nobody.
// pi     refuses at the door the share that keeps the queue short, by rank: low priorities and, within one, whole
//        cohorts of clients, which change by the hour.
// CoDel as in folly's variant (no square-root law); LIFO after Maurer, "Fail at Scale", ACM Queue 2015; the
// rejector after Uber's Cinnamon, with a bounded integral, the queue as part of the error and an exponential squash.
// Pure, O(1) but for 512 steps of the rejector twice a second; under the dispatcher's lock.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "perigee/base/time.h"
#include "perigee/base/vocabulary.h"

namespace perigee::admission {

enum class OverloadKind : std::uint8_t { none, codel, lifo, pi };

// The middle service time (dispatch → first event or end), followed by small steps: a median that needs no memory.
class ServiceMedian {
 public:
  void add(Duration service);
  // A tenth of a second before the first sample.
  [[nodiscard]] Duration value() const { return from_seconds(seconds_); }

 private:
  double seconds_ = 0.1;
  std::uint32_t samples_ = 0;
};

// Target and interval follow the service time: 5 ms and 100 ms suit work of a millisecond.
struct DelayTarget {
  Duration target;    // half of the median, 5 ms at least
  Duration interval;  // ten times the median, between 100 ms and 5 s
  [[nodiscard]] static DelayTarget of(Duration median);
};

class CoDel {
 public:
  // A request leaves the queue after `delay`. True: drop it. The first one of an interval is never dropped.
  bool drop(Duration delay, const DelayTarget& aim, TimePoint now);
  [[nodiscard]] bool overloaded() const { return overloaded_; }

 private:
  TimePoint interval_end_{};
  Duration least_{};
  bool overloaded_ = false;
};

class PiRejector {
 public:
  static constexpr Duration kStep = std::chrono::milliseconds(500);
  static constexpr unsigned kRanks = 512;  // tier · 128 + cohort

  // Every kStep. `in`: let through since the last one; `out`: of these gone to workers; `free`: slots without work.
  void step(double in, double out, double free, double queued);
  [[nodiscard]] double share() const { return r_; }

  // A request of this rank asks: is it refused? It is counted among the last 1000 either way.
  bool refuse(unsigned rank);

 private:
  static constexpr std::size_t kRing = 1000;
  static constexpr double kKp = 0.1;
  static constexpr double kKi = 0.5;
  static constexpr double kIntegralMost = 4;
  static constexpr double kShareMost = 0.98;
  void set_threshold();

  double integral_ = 0;
  double r_ = 0;
  std::array<std::uint16_t, kRing> ring_{};
  std::array<std::uint16_t, kRanks> count_{};
  std::size_t seen_ = 0;
  std::size_t at_ = 0;
  unsigned threshold_ = kRanks;  // ranks above it are refused
  double share_at_threshold_ = 0;  // of those on it
  double carry_ = 0;
};

// One of 128 cohorts, so that victims are whole tenants, not random parts of everybody's session, and others each hour.
[[nodiscard]] constexpr std::uint8_t rejector_cohort(std::uint64_t tenant, std::int64_t hour) {
  // The finaliser of MurmurHash3: a tenant's number is a keyed hash already, only the hour is to be stirred in.
  std::uint64_t hash = tenant ^ (static_cast<std::uint64_t>(hour) * 0x9e3779b97f4a7c15ULL);
  hash = (hash ^ (hash >> 33U)) * 0xff51afd7ed558ccdULL;
  hash = (hash ^ (hash >> 33U)) * 0xc4ceb9fe1a85ec53ULL;
  return static_cast<std::uint8_t>(hash >> 57U);
}

// The rank that the rejector goes by; `cohort`: see above.
[[nodiscard]] constexpr unsigned rejector_rank(Priority priority, std::uint8_t cohort) {
  return static_cast<unsigned>(priority) * 128U + (cohort & 127U);
}

// One pool's controller.
class OverloadControl {
 public:
  explicit OverloadControl(OverloadKind kind) : kind_(kind) {}
  [[nodiscard]] OverloadKind kind() const { return kind_; }

  // pi: at the door. `queued` and `free` are asked for only when a step is due.
  template <typename Free>
  bool refuse(unsigned rank, std::uint64_t queued, TimePoint now, Free&& free) {
    if (kind_ != OverloadKind::pi) return false;
    if (now >= next_step_) step(queued, free(), now);
    return rejector_.refuse(rank);
  }
  void let_in() { ++in_; }
  // codel and lifo: somebody is about to be granted after `delay`. True: answer him 503 instead.
  bool drop(Duration delay, TimePoint now);
  void granted() { ++out_; }
  void serviced(Duration service) { median_.add(service); }

  // lifo. The queue became empty (or was paused), or is not any longer.
  void set_waiting(bool somebody, TimePoint now);
  // When the newest begin to go first, if it does not become empty; kNever where nobody waits, or for the others.
  [[nodiscard]] TimePoint newest_first_at() const {
    return kind_ == OverloadKind::lifo && waiting_ ? waiting_since_ + patience() : kNever;
  }
  [[nodiscard]] bool newest_first(TimePoint now) const { return now >= newest_first_at(); }
  // Longest wait of the oldest while the newest go first.
  [[nodiscard]] Duration patience() const { return DelayTarget::of(median_.value()).interval; }

  [[nodiscard]] double refused_share() const { return rejector_.share(); }
  [[nodiscard]] bool overloaded(TimePoint now) const;

 private:
  void step(std::uint64_t queued, double free, TimePoint now);

  OverloadKind kind_;
  bool waiting_ = false;
  ServiceMedian median_;
  CoDel codel_;
  PiRejector rejector_;
  TimePoint waiting_since_{};
  TimePoint next_step_{};
  std::uint32_t in_ = 0;
  std::uint32_t out_ = 0;
};

}  // namespace perigee::admission
