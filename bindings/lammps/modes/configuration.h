#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "mlcore/cell.hpp"

namespace mlmod {

/// The whole group in the order of its atom ids (Needs::local_order: in that of memory), the same
/// on every rank.
/// Columns the mode did not ask for are empty.
struct Configuration {
  std::vector<std::uint32_t> tags;
  std::vector<double> x;            ///< (n, 3) wrapped into the box, or unwrapped (Needs)
  std::vector<double> v;            ///< (n, 3)
  std::vector<double> f;            ///< (n, 3)
  std::vector<std::int32_t> types;  ///< (n,) 1, 2, ... as in LAMMPS
  std::vector<double> stored;       ///< (n, Needs::stored)
  std::vector<double> beside;       ///< (n, columns of all fixes of Needs::beside)
  std::array<double, 3> origin{};   ///< lower corner of the box
  mlcore::Cell cell;

  std::int64_t size() const { return static_cast<std::int64_t>(tags.size()); }
};

}  // namespace mlmod
