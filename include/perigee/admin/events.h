// The last things of note that happened: changes by operators, steps of the throttle, reloads, health of workers.
//
// A ring of kMost entries with texts of bounded length; whoever polls remembers the number of the newest one it
// saw. Control loop only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace perigee::admin {

struct Event {
  std::uint64_t number = 0;  // counts up from 1; a gap to the one before means that some were forgotten
  std::int64_t wall_ms = 0;
  std::string kind;          // `operator`, `throttle`, `reload`, `health`
  std::vector<std::pair<std::string, std::string>> fields;
};

class Events {
 public:
  static constexpr std::size_t kMost = 256;
  static constexpr std::size_t kTextMax = 256;

  using Field = std::pair<std::string_view, std::string_view>;
  void add(std::int64_t wall_ms, std::string_view kind, std::initializer_list<Field> fields);
  // Oldest first.
  [[nodiscard]] const std::deque<Event>& all() const { return events_; }

 private:
  std::deque<Event> events_;
  std::uint64_t last_ = 0;
};

}  // namespace perigee::admin
