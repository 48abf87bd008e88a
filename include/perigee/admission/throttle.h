// What a machine that is short of CPU or memory does to work of little importance.
//
// Twice a second the control loop hands in what the machine and its control group use; out comes a level x,
// 0 at the soft mark and 1 at the hard one, and what follows from it. CPU alone refuses nobody: a machine at
// 100 % is healthy as long as nobody waits for long. Above a soft mark low priority waits and slots do not
// grow; with a standing queue as well, or with memory above its hard mark, low priority is refused, then
// normal; high and critical never. The level rises at once, is held at its highest of five seconds, then
// falls by 0.1 a second at most, so that what it does does not flap.
// Curve after Netflix's prioritised load shedding (1 - x³); holding after Envoy's scaled overload triggers.
// Pure; one thread: `Throttle` and `WorkerHeat` the control loop's, `StandingQueue` under the dispatcher's lock.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "perigee/base/time.h"
#include "perigee/base/vocabulary.h"

namespace perigee::admission {

// Shares of what may be used, 0 … 1.
struct ThrottleMarks {
  bool enabled = true;
  double cpu = 0.80;
  double cpu_hard = 0.95;
  double memory = 0.85;
  double memory_hard = 0.95;
  bool operator==(const ThrottleMarks&) const = default;
};

// One look; what could not be had is absent, which is never the same as 0.
struct ResourceSample {
  std::optional<double> cpu;
  std::optional<double> cpu_quota;  // share of the periods in which a quota stopped us
  std::optional<double> memory;
  std::optional<double> cpu_pressure;  // shares of time in which somebody stalled
  std::optional<double> memory_pressure;
  std::optional<double> memory_full_pressure;  // … in which everybody did
  std::optional<double> io_pressure;
};

// What is done, each with all that stands before it.
enum class ThrottleStep : std::uint8_t {
  calm,
  low_waits,       // low priority gets only workers that do nothing else; slots and pace do not grow
  no_retries,      // x > .4: but for attempts of which nothing was sent
  fewer_streams,   // x > .6, memory only: half of `limits.streams` for new ones
  low_refused,     // at the door
  normal_refused,  // at the door
};
inline constexpr std::array<std::string_view, 6> kThrottleStepNames = {"calm",          "low_waits",   "no_retries",
                                                                       "fewer_streams", "low_refused", "normal_refused"};
enum class ThrottleCause : std::uint8_t { none, cpu, cpu_quota, memory, cpu_pressure, memory_pressure, io_pressure };
inline constexpr std::array<std::string_view, 7> kThrottleCauseNames = {
    "none", "cpu", "cpu_quota", "memory", "cpu_pressure", "memory_pressure", "io_pressure"};

constexpr std::string_view to_string(ThrottleStep s) { return kThrottleStepNames[static_cast<std::size_t>(s)]; }
constexpr std::string_view to_string(ThrottleCause c) { return kThrottleCauseNames[static_cast<std::size_t>(c)]; }

// Rank of a request: 1 is kept longest. Above `shed_above` it is refused.
inline constexpr unsigned kMostRank = 100;
[[nodiscard]] unsigned shed_rank(Priority priority, bool retry);
// Least rank that is kept no more … at level x: 100·(1 - x³), never below that of high.
[[nodiscard]] double shed_above(double x);

// What the dispatcher does with it.
struct ThrottleOrders {
  bool above_soft = false;  // low waits, nothing grows
  bool no_retries = false;
  bool halve_streams = false;
  std::uint8_t refuse_above = kMostRank;  // ranks; kMostRank = nobody
  bool operator==(const ThrottleOrders&) const = default;
};

struct ThrottleState {
  double level = 0;         // x: the greatest of the following
  double cpu_level = 0;     // also of a quota that stops us
  double memory_level = 0;
  double pressure_level = 0;
  double refusing_level = 0;  // x of the curve; 0 = nobody is refused
  std::optional<double> cpu;  // smoothed
  double standing = 0;        // least wait of five seconds, as a share of the longest allowed
  ThrottleStep step = ThrottleStep::calm;
  ThrottleCause cause = ThrottleCause::none;  // of the level
  ThrottleOrders orders;
};

// Mean over time: a sample counts half after `half_life`. Absent before the first sample and kStale after the last.
class HalfLifeMean {
 public:
  static constexpr Duration kStale = std::chrono::seconds(10);
  explicit HalfLifeMean(Duration half_life) : half_life_(half_life) {}
  void add(const std::optional<double>& sample, TimePoint now);
  [[nodiscard]] std::optional<double> value(TimePoint now) const;

 private:
  Duration half_life_;
  std::optional<double> mean_;
  TimePoint at_{};
};

// A level that rises at once, is held at its highest of five seconds, and falls slowly.
class HeldLevel {
 public:
  static constexpr Duration kHold = std::chrono::seconds(5);
  static constexpr double kFallPerSecond = 0.1;
  double update(double raw, TimePoint now);
  [[nodiscard]] double value() const { return x_; }

 private:
  // The highest of each half second.
  struct Part {
    std::int64_t number = -1;
    double most = 0;
  };
  static constexpr std::size_t kParts = 11;
  std::array<Part, kParts> parts_{};
  double x_ = 0;
  TimePoint at_{};
};

class Throttle {
 public:
  explicit Throttle(const ThrottleMarks& marks) : marks_(marks) {}
  // New marks hold from the next sample on; what was learnt stays.
  void configure(const ThrottleMarks& marks) { marks_ = marks; }
  // Twice a second. `standing`: StandingQueue::share.
  const ThrottleState& update(const ResourceSample& sample, double standing, TimePoint now);
  [[nodiscard]] const ThrottleState& state() const { return state_; }

 private:
  // A resource with a soft and a hard mark.
  struct Resource {
    // 1 only when saturated: after two samples at the hard mark, until below the soft one for five seconds.
    double raw(double ramp, TimePoint now);
    HeldLevel level;
    unsigned at_hard = 0;
    bool saturated = false;
    TimePoint low_since = kNever;
  };
  void look_at_pressure(const ResourceSample& sample, TimePoint now);
  void decide_refusals(TimePoint now);

  ThrottleMarks marks_;
  HalfLifeMean cpu_{std::chrono::seconds(3)};
  HalfLifeMean quota_{std::chrono::seconds(3)};
  std::array<HalfLifeMean, 4> pressure_ = {HalfLifeMean{std::chrono::seconds(5)}, HalfLifeMean{std::chrono::seconds(5)},
                                           HalfLifeMean{std::chrono::seconds(5)}, HalfLifeMean{std::chrono::seconds(5)}};
  Resource cpu_resource_;
  Resource memory_resource_;
  HeldLevel pressure_level_;
  HeldLevel queue_level_;       // of refusals for CPU and queue together
  bool memory_refuses_ = false;  // it has been above its hard mark
  ThrottleState state_;
};

// How long work of normal priority and above waits, class by class: the least share of its longest wait in the
// last five seconds. What low priority waits says nothing, because it is we who make it wait.
class StandingQueue {
 public:
  // Forgets everything; from here on there are five seconds without a verdict.
  void begin(TimePoint now);
  // A request got its ticket, or was given up, after this share of its longest wait.
  void note(RequestClass c, double share, TimePoint now);
  // The greatest of the classes' least shares; 0 where nothing waited or nothing is known yet.
  [[nodiscard]] double share(TimePoint now) const;

 private:
  static constexpr std::size_t kSeconds = 5;
  static constexpr float kNothing = 2;
  struct Second {
    std::int64_t number = -1;
    std::array<float, kClassCount> least{};
  };
  TimePoint since_{};
  std::array<Second, kSeconds> seconds_{};
};

// One worker's own process: hot at .90 of its core in two looks, or with its memory above the mark; cold again
// below .80, and below the mark by .05. A hot worker is chosen only where no other could be, and gets no low
// priority.
class WorkerHeat {
 public:
  static constexpr double kHotCpu = 0.90;
  static constexpr double kColdCpu = 0.80;
  static constexpr double kMemoryStep = 0.05;
  // `cpu`: share of the one core it computes on. `memory`: share of its limit. Absent: this look says nothing.
  bool update(std::optional<double> cpu, std::optional<double> memory, double memory_mark);
  [[nodiscard]] bool hot() const { return cpu_hot_ || memory_hot_; }
  [[nodiscard]] bool cpu_hot() const { return cpu_hot_; }
  [[nodiscard]] bool memory_hot() const { return memory_hot_; }

 private:
  unsigned looks_ = 0;
  bool cpu_hot_ = false;
  bool memory_hot_ = false;
};

// Whether a worker died of its memory: the kernel says so for control groups, not for processes. Where the group is the
// worker's own that is enough; where others live in it too, its process must have gone at the same time.
class MemoryDeath {
 public:
  static constexpr Duration kTogether = std::chrono::seconds(2);
  // `kills`: counted for its group so far; absent: not known now. `gone`: its process is not there any more, or is another
  // one. True once for each death.
  bool update(std::optional<std::uint64_t> kills, bool gone, bool shared, TimePoint now);

 private:
  std::optional<std::uint64_t> kills_;
  TimePoint killed_at_ = kNever;
  TimePoint gone_at_ = kNever;
};

}  // namespace perigee::admission
