#pragma once

#include <cstdint>
#include <vector>

namespace mlmod {

/// Where the numbers of each rank lie in a gathered array, as MPI takes them.
struct GatherLayout {
  std::vector<int> counts, begins;
  std::size_t total = 0;
};

/// Of `atoms[rank]` atoms with `width` numbers each. Throws std::runtime_error naming the number of
/// atoms that can be gathered when there are more: MPI counts in int.
GatherLayout gather_layout(const std::vector<std::int64_t>& atoms, std::int64_t width);

}  // namespace mlmod
