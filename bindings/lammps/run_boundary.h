#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "group_atoms.h"

namespace LAMMPS_NS {
class Fix;
}

namespace mlmod {

/// Tells whether anything but runs changed what forces depend on, between the end of one run and
/// the start of the next: atoms, box, styles and their coefficients, fixes.
class RunBoundary : public GroupAtoms {
 public:
  using GroupAtoms::GroupAtoms;

  /// Numbers noted of each atom.
  static constexpr int kColumns = 4;

  /// Position, and a digest of velocity, type and charge, of owned atom i.
  void note(int i, double* columns) const;
  /// Whether the atom is as it was noted; a periodic image of its position is the same.
  bool unchanged(int i, const double* columns) const;

  /// Collective. A whole number that is the same as long as box, styles, their coefficients, as far
  /// as restart files hold them, and the other fixes that act on forces are; never 0.
  double force_field(const LAMMPS_NS::Fix* fix) const;

 private:
  std::string styles() const;
  std::string box() const;
  std::string fixes(const LAMMPS_NS::Fix* fix) const;
};

}  // namespace mlmod
