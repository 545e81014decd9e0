#pragma once

#include <cstdint>
#include <vector>

#include "modes/mode.h"
#include "pointers.h"

namespace mlmod {

/// An owned atom of the group and its row in what a mode sees.
struct OwnedRow {
  int local;
  std::int64_t row;
};

/// Numbers that another fix keeps for each atom; one of the two is set where there are atoms.
struct AtomColumns {
  int width = 0;
  const double* vector = nullptr;
  double* const* array = nullptr;

  const double* of(int local) const { return array ? array[local] : vector + local; }
};

/// Reads LAMMPS' atoms and box for the two views modes have.
class GroupAtoms : protected LAMMPS_NS::Pointers {
 public:
  explicit GroupAtoms(LAMMPS_NS::LAMMPS* lmp) : Pointers(lmp) {}

  mlcore::Cell cell() const;
  const std::vector<OwnedRow>& owned() const { return owned_; }

 protected:
  int local_count() const;
  bool in_group(int local, int groupbit) const;
  /// Position inside the periodic box.
  void wrapped(int local, double x[3]) const;
  /// Position as if the box had no boundaries.
  void unwrapped(int local, double x[3]) const;

  std::vector<OwnedRow> owned_;
};

}  // namespace mlmod
