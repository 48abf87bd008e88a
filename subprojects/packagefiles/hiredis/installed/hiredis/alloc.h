#include "../../alloc.h"
