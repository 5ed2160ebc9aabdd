// Test equipment: the kernel as a shared library with tq4_emulate.
#include "launch.h"
