#pragma once

#include <cstdint>
#include <vector>

#include "mlcore/cell.hpp"

namespace mlmod {

/// Members of the group this rank owns, then, where the mode has a cutoff, its ghosts of members.
/// Columns the mode did not ask for are empty.
struct LocalAtoms {
  std::int64_t owned = 0;  ///< members 0 .. owned - 1 are owned, the others are ghosts
  std::vector<std::uint32_t> tags;
  std::vector<double> x;     ///< (members, 3); with a cutoff: where the images are; else wrapped
  std::vector<double> home;  ///< (owned, 3) wrapped, with Needs::home
  std::vector<double> v;     ///< (members, 3)
  std::vector<double> f;     ///< (members, 3)
  std::vector<std::int32_t> types;  ///< (members,) 1, 2, ... as in LAMMPS
  std::vector<double> stored;       ///< (owned, Needs::stored)
  mlcore::Cell cell;

  /// Candidates of owned member i: neighbors[first[i]] .. neighbors[first[i + 1] - 1], members that
  /// were nearer than cutoff + skin when the list was made; every ordered pair whose first is
  /// owned.
  std::vector<std::int64_t> first;  ///< (owned + 1,); empty without a cutoff
  std::vector<std::int32_t> neighbors;

  std::int64_t members() const { return static_cast<std::int64_t>(tags.size()); }
};

}  // namespace mlmod
