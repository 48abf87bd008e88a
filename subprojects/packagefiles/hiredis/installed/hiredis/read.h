#include "../../read.h"
