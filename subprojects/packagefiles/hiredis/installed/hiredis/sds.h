#include "../../sds.h"
