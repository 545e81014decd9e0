#pragma once

#include <cstdint>
#include <vector>

#include "mlcore/cell.hpp"

namespace mlmod {

/// The whole group in the order of its atom ids, the same on every rank.
struct Configuration {
  std::vector<std::uint32_t> tags;
  std::vector<double> x;  ///< (n, 3) wrapped into the box
  std::vector<double> f;  ///< (n, 3)
  mlcore::Cell cell;

  std::int64_t size() const { return static_cast<std::int64_t>(tags.size()); }
};

}  // namespace mlmod
