// The pages of the admin port as text, from a View. No I/O.
#pragma once

#include <string>

#include "perigee/admin/view.h"

namespace perigee::admin {

[[nodiscard]] std::string index_page(const View& view);
[[nodiscard]] std::string metrics_page(const View& view);
[[nodiscard]] std::string status_page(const View& view);
[[nodiscard]] std::string backends_page(const View& view);
[[nodiscard]] std::string queues_page(const View& view);
[[nodiscard]] std::string rates_page(const View& view);
[[nodiscard]] std::string classes_page(const View& view);
[[nodiscard]] std::string breakers_page(const View& view);
[[nodiscard]] std::string events_page(const View& view);
[[nodiscard]] std::string throttle_page(const View& view);
[[nodiscard]] std::string config_page(const View& view);

}  // namespace perigee::admin
