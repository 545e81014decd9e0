#include "modes/gather_cost.h"

namespace mlmod {

std::string gather_cost(const Surroundings& around, const Needs& needs, std::int64_t atoms) {
  const std::int64_t columns = 4 + 3 * needs.v + 3 * needs.f + needs.types + needs.stored;
  return "fix mlcore " + around.fix_id +
         ": the model sees the whole group: " + std::to_string(atoms) + " atoms go to each of " +
         std::to_string(around.ranks) + " ranks in every step, " +
         std::to_string(8 * columns * atoms) +
         " bytes per rank, and each rank evaluates all of it\n";
}

}  // namespace mlmod
