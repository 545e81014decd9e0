#include "gather_layout.h"

#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>

namespace mlmod {

GatherLayout gather_layout(const std::vector<std::int64_t>& atoms, std::int64_t width) {
  const std::int64_t all = std::accumulate(atoms.begin(), atoms.end(), std::int64_t{0});
  const std::int64_t most = std::numeric_limits<int>::max() / width;
  if (all > most)
    throw std::runtime_error("the model sees the whole group, whose " + std::to_string(all) +
                             " atoms with " + std::to_string(width) +
                             " numbers each are too many to gather on every rank: at most " +
                             std::to_string(most) + " atoms");
  GatherLayout layout;
  for (const std::int64_t count : atoms) {
    layout.begins.push_back(static_cast<int>(layout.total));
    layout.counts.push_back(static_cast<int>(count * width));
    layout.total += static_cast<std::size_t>(count * width);
  }
  return layout;
}

}  // namespace mlmod
