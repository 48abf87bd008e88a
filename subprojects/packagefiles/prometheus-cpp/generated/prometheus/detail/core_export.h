// The library's own build generates this file. A static library exports and hides nothing.
#pragma once

#define PROMETHEUS_CPP_CORE_EXPORT
#define PROMETHEUS_CPP_CORE_NO_EXPORT
