#pragma once

#include <cstdint>
#include <string>

#include "modes/mode.h"
#include "surroundings.h"

namespace mlmod {

/// A line about what gathering a group of so many atoms costs in every step.
std::string gather_cost(const Surroundings& around, const Needs& needs, std::int64_t atoms);

}  // namespace mlmod
