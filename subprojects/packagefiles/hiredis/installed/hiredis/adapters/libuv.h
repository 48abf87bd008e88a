#include "../../../adapters/libuv.h"
