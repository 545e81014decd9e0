#include "group_atoms.h"

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
  for (int k = 0; k < 3; ++k) x[k] = atom->x[local][k];
  LAMMPS_NS::imageint image = atom->image[local];
  domain->remap(x, image);
}

void GroupAtoms::unwrapped(int local, double x[3]) const {
  domain->unmap(atom->x[local], atom->image[local], x);
}

}  // namespace mlmod
