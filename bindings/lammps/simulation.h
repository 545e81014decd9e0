#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "group_atoms.h"
#include "pointers.h"
#include "surroundings.h"

namespace LAMMPS_NS {
class Fix;
}

namespace mlmod {

/// What the other parts of a simulation show to a fix.
class Simulation : protected LAMMPS_NS::Pointers {
 public:
  explicit Simulation(LAMMPS_NS::LAMMPS* lmp) : Pointers(lmp) {}

  /// Collective. Throws std::runtime_error when there is no fix of this id.
  Shown shown_by(const std::string& id, bool values) const;
  /// Where the values per atom of these fixes are now.
  std::vector<AtomColumns> columns_of(const std::vector<std::string>& ids) const;
  /// Fixes beside `fix` which act after the forces were computed.
  std::vector<ForceFix> force_fixes(const LAMMPS_NS::Fix* fix) const;
  /// Collective. Of all atoms; tells that it is wanted at step `next`.
  double potential_energy(std::int64_t next) const;

 private:
  LAMMPS_NS::Fix* fix_named(const std::string& id) const;
};

}  // namespace mlmod
