#include "group_gather.h"

#include <mpi.h>

#include <algorithm>
#include <numeric>

#include "atom.h"
#include "comm.h"
#include "domain.h"

namespace mlmod {

// LAMMPS' restricted triclinic box: h = (xx, yy, zz, yz, xz, xy) of the vectors as columns.
mlcore::Cell GroupGather::cell() const {
  const double* h = domain->h;
  return {{h[0], 0, 0, h[5], h[1], 0, h[4], h[3], h[2]},
          {domain->xperiodic != 0, domain->yperiodic != 0, domain->zperiodic != 0}};
}

int GroupGather::local_count() const { return atom->nlocal; }

bool GroupGather::in_group(int local, int groupbit) const {
  return (atom->mask[local] & groupbit) != 0;
}

void GroupGather::begin() {
  own_.clear();
  mine_.clear();
}

void GroupGather::add(int local, const double* force) {
  double x[3] = {atom->x[local][0], atom->x[local][1], atom->x[local][2]};
  LAMMPS_NS::imageint image = atom->image[local];
  domain->remap(x, image);
  own_.push_back({local, 0});
  mine_.push_back(static_cast<double>(atom->tag[local]));
  mine_.insert(mine_.end(), x, x + 3);
  mine_.insert(mine_.end(), force, force + 3);
}

void GroupGather::exchange() {
  const int count = static_cast<int>(mine_.size());
  std::vector<int> counts(comm->nprocs), begins(comm->nprocs, 0);
  MPI_Allgather(&count, 1, MPI_INT, counts.data(), 1, MPI_INT, world);
  std::partial_sum(counts.begin(), counts.end() - 1, begins.begin() + 1);
  all_.resize(static_cast<std::size_t>(begins.back() + counts.back()));
  MPI_Allgatherv(mine_.data(), count, MPI_DOUBLE, all_.data(), counts.data(), begins.data(),
                 MPI_DOUBLE, world);

  const std::size_t n = all_.size() / kWidth;
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return all_[kWidth * a] < all_[kWidth * b]; });
  configuration_.tags.resize(n);
  configuration_.x.resize(3 * n);
  configuration_.f.resize(3 * n);
  configuration_.cell = cell();
  const std::size_t first_own = static_cast<std::size_t>(begins[comm->me]) / kWidth;
  for (std::size_t row = 0; row < n; ++row) {
    const double* record = all_.data() + kWidth * order[row];
    configuration_.tags[row] = static_cast<std::uint32_t>(record[0]);
    std::copy(record + 1, record + 4, configuration_.x.begin() + 3 * row);
    std::copy(record + 4, record + 7, configuration_.f.begin() + 3 * row);
    if (order[row] >= first_own && order[row] - first_own < own_.size())
      own_[order[row] - first_own].row = static_cast<std::int64_t>(row);
  }
}

}  // namespace mlmod
