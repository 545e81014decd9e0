#include "group_gather.h"

#include <mpi.h>

#include <algorithm>
#include <numeric>

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "gather_layout.h"

namespace mlmod {

namespace {

/// Copies one column of the records, in the order given, and steps over it.
template <class Number>
void take(std::vector<Number>& column, const std::vector<double>& records, std::size_t width,
          const std::vector<std::size_t>& order, std::size_t size, std::size_t& place) {
  column.resize(size * order.size());
  for (std::size_t row = 0; row < order.size(); ++row)
    for (std::size_t k = 0; k < size; ++k)
      column[size * row + k] = static_cast<Number>(records[width * order[row] + place + k]);
  place += size;
}

}  // namespace

void GroupGather::collect(int groupbit, const Needs& needs, double* const* stored,
                          const std::vector<AtomColumns>& beside) {
  beside_ = 0;
  for (const AtomColumns& columns : beside) beside_ += static_cast<std::size_t>(columns.width);
  width_ = 4 + 3 * needs.v + 3 * needs.f + needs.types + static_cast<std::size_t>(needs.stored) +
           beside_;
  owned_.clear();
  mine_.clear();
  for (int i = 0; i < local_count(); ++i)
    if (in_group(i, groupbit)) add(i, needs, stored ? stored[i] : nullptr, beside);
  const std::size_t first_own = exchange();
  const std::vector<std::size_t> places = order(!needs.local_order);
  unpack(needs, places);
  for (std::size_t row = 0; row < places.size(); ++row)
    if (places[row] >= first_own && places[row] - first_own < owned_.size())
      owned_[places[row] - first_own].row = static_cast<std::int64_t>(row);
}

void GroupGather::add(int local, const Needs& needs, const double* stored,
                      const std::vector<AtomColumns>& beside) {
  double x[3];
  if (needs.unwrapped)
    unwrapped(local, x);
  else
    wrapped(local, x);
  owned_.push_back({local, 0});
  mine_.push_back(static_cast<double>(atom->tag[local]));
  mine_.insert(mine_.end(), x, x + 3);
  if (needs.v) mine_.insert(mine_.end(), atom->v[local], atom->v[local] + 3);
  if (needs.f) mine_.insert(mine_.end(), atom->f[local], atom->f[local] + 3);
  if (needs.types) mine_.push_back(static_cast<double>(atom->type[local]));
  mine_.insert(mine_.end(), stored, stored + needs.stored);
  for (const AtomColumns& columns : beside)
    mine_.insert(mine_.end(), columns.of(local), columns.of(local) + columns.width);
}

/// Returns the place of this rank's first record.
std::size_t GroupGather::exchange() {
  const auto count = static_cast<std::int64_t>(owned_.size());
  std::vector<std::int64_t> atoms(comm->nprocs);
  MPI_Allgather(&count, 1, MPI_INT64_T, atoms.data(), 1, MPI_INT64_T, world);
  const GatherLayout layout = gather_layout(atoms, static_cast<std::int64_t>(width_));
  all_.resize(layout.total);
  MPI_Allgatherv(mine_.data(), layout.counts[comm->me], MPI_DOUBLE, all_.data(),
                 layout.counts.data(), layout.begins.data(), MPI_DOUBLE, world);
  return static_cast<std::size_t>(layout.begins[comm->me]) / width_;
}

std::vector<std::size_t> GroupGather::order(bool by_id) const {
  std::vector<std::size_t> places(all_.size() / width_);
  std::iota(places.begin(), places.end(), std::size_t{0});
  if (by_id)
    std::sort(places.begin(), places.end(),
              [&](std::size_t a, std::size_t b) { return all_[width_ * a] < all_[width_ * b]; });
  return places;
}

void GroupGather::unpack(const Needs& needs, const std::vector<std::size_t>& order) {
  std::size_t place = 0;
  const auto column = [&](auto& values, std::size_t size) {
    take(values, all_, width_, order, size, place);
  };
  column(configuration_.tags, 1);
  column(configuration_.x, 3);
  column(configuration_.v, needs.v ? 3 : 0);
  column(configuration_.f, needs.f ? 3 : 0);
  column(configuration_.types, needs.types ? 1 : 0);
  column(configuration_.stored, static_cast<std::size_t>(needs.stored));
  column(configuration_.beside, beside_);
  for (int k = 0; k < 3; ++k) configuration_.origin[k] = domain->boxlo[k];
  configuration_.cell = cell();
}

}  // namespace mlmod
