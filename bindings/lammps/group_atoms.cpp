#include "group_atoms.h"

#include <cmath>

#include "atom.h"
#include "domain.h"

namespace mlmod {

// LAMMPS' restricted triclinic box: h = (xx, yy, zz, yz, xz, xy) of the vectors as columns.
mlcore::Cell GroupAtoms::cell() const {
  const double* h = domain->h;
  return {{h[0], 0, 0, h[5], h[1], 0, h[4], h[3], h[2]},
          {domain->xperiodic != 0, domain->yperiodic != 0, domain->zperiodic != 0}};
}

int GroupAtoms::local_count() const { return atom->nlocal; }

bool GroupAtoms::in_group(int local, int groupbit) const {
  return (atom->mask[local] & groupbit) != 0;
}

void GroupAtoms::wrapped(int local, double x[3]) const {
  // LAMMPS' remap() takes one box length at a time, without end for atoms that are far away
  const double* const h = domain->h;
  const double* const inverse = domain->h_inv;
  double d[3];
  for (int k = 0; k < 3; ++k) {
    x[k] = atom->x[local][k];
    d[k] = x[k] - domain->boxlo[k];
  }
  const double fraction[3] = {inverse[0] * d[0] + inverse[5] * d[1] + inverse[4] * d[2],
                              inverse[1] * d[1] + inverse[3] * d[2], inverse[2] * d[2]};
  double wraps[3];
  for (int k = 0; k < 3; ++k) wraps[k] = domain->periodicity[k] ? std::floor(fraction[k]) : 0.0;
  x[0] -= h[0] * wraps[0] + h[5] * wraps[1] + h[4] * wraps[2];
  x[1] -= h[1] * wraps[1] + h[3] * wraps[2];
  x[2] -= h[2] * wraps[2];
}

void GroupAtoms::unwrapped(int local, double x[3]) const {
  domain->unmap(atom->x[local], atom->image[local], x);
}

}  // namespace mlmod
