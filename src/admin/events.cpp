#include "perigee/admin/events.h"

namespace perigee::admin {

void Events::add(std::int64_t wall_ms, std::string_view kind, std::initializer_list<Field> fields) {
  if (events_.size() == kMost) events_.pop_front();
  Event event{++last_, wall_ms, std::string(kind), {}};
  for (const auto& [key, value] : fields) event.fields.emplace_back(key, value.substr(0, kTextMax));
  events_.push_back(std::move(event));
}

}  // namespace perigee::admin
