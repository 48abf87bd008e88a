// What operators ask for through the admin port, as calls into the dispatcher; and who asked for what, written down.
#pragma once

#include <string>

#include "fleet_view.h"
#include "perigee/admin/control.h"
#include "perigee/dispatch/dispatcher.h"
#include "perigee/telemetry/log.h"

namespace perigee::app {

// Pools and backends. Reload and drain are the application's own: 202 for them.
[[nodiscard]] admin::Done apply_change(dispatch::Dispatcher& dispatcher, const admin::Change& what, TimePoint now);

// One line of the log, one event.
void write_audit(telemetry::Log& log, FleetView& view, const admin::Change& what, const admin::Done& done, const std::string& peer);

}  // namespace perigee::app
