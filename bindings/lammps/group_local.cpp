#include "group_local.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "atom.h"
#include "comm.h"
#include "mlcore/neighbors.hpp"
#include "neighbor.h"

namespace mlmod {

namespace {

constexpr mlcore::Context kOneThread{.threads = 1};

}  // namespace

void GroupLocal::reneighbor(int groupbit, double cutoff) {
  check_reach(cutoff);
  find_members(groupbit, atom->nlocal + atom->nghost);
  find_candidates(cutoff + neighbor->skin);
}

void GroupLocal::check_reach(double cutoff) const {
  const double needed = cutoff + neighbor->skin, there = comm->get_comm_cutoff();
  if (there >= needed * (1 - 1e-12)) return;
  throw std::runtime_error("the model's cutoff " + std::to_string(cutoff) + " plus the skin " +
                           std::to_string(neighbor->skin) + " is beyond the ghost atoms, which " +
                           "reach to " + std::to_string(there) + ": comm_modify cutoff " +
                           std::to_string(needed));
}

void GroupLocal::find_members(int groupbit, int count) {
  owned_.clear();
  members_.clear();
  for (int i = 0; i < count; ++i) {
    if (!in_group(i, groupbit)) continue;
    if (i < atom->nlocal) owned_.push_back({i, static_cast<std::int64_t>(members_.size())});
    members_.push_back(i);
  }
  atoms_.owned = static_cast<std::int64_t>(owned_.size());
  atoms_.tags.resize(members_.size());
  atoms_.x.resize(3 * members_.size());
  for (std::size_t m = 0; m < members_.size(); ++m)
    atoms_.tags[m] = static_cast<std::uint32_t>(atom->tag[members_[m]]);
}

// Ghosts are images already, so the search sees an open system. LAMMPS' own lists would leave out
// pairs that the force field excludes, and need a pair style with a cutoff at least as large.
void GroupLocal::find_candidates(double reach) {
  const std::int64_t n = atoms_.members();
  for (std::int64_t m = 0; m < n; ++m)
    std::copy_n(atom->x[members_[m]], 3, atoms_.x.begin() + 3 * m);
  atoms_.first.assign(static_cast<std::size_t>(atoms_.owned + 1), 0);
  atoms_.neighbors.clear();
  if (atoms_.owned == 0) return;
  mlcore::NeighborCutoff cutoff;
  cutoff.cutoff = reach;
  mlcore::NeighborOptions options;
  options.sorted = options.vectors = false;
  const mlcore::NeighborSearch search(kOneThread, {atoms_.x.data(), {n, 3}}, mlcore::Cell::open(),
                                      cutoff, options);
  const auto offsets = search.offsets();
  for (std::int64_t i = 0; i <= atoms_.owned; ++i) atoms_.first[i] = offsets(i);
  atoms_.neighbors.resize(static_cast<std::size_t>(search.count()));
  mlcore::NeighborArrays<std::int32_t> arrays;
  arrays.j = {atoms_.neighbors.data(), {search.count()}};
  search.fill(kOneThread, arrays);
  atoms_.neighbors.resize(static_cast<std::size_t>(atoms_.first.back()));
}

void GroupLocal::collect(int groupbit, const Needs& needs, double* const* stored,
                         const std::vector<double>& ghosts) {
  if (!(needs.cutoff > 0)) find_members(groupbit, atom->nlocal);
  for (std::size_t m = 0; m < members_.size(); ++m) {
    if (needs.cutoff > 0)
      std::copy_n(atom->x[members_[m]], 3, atoms_.x.begin() + 3 * static_cast<std::ptrdiff_t>(m));
    else
      wrapped(members_[m], atoms_.x.data() + 3 * m);
  }
  atoms_.cell = cell();
  atoms_.home.resize(needs.home ? 3 * owned_.size() : 0);
  for (const OwnedRow& own : owned_)
    if (needs.home) wrapped(own.local, atoms_.home.data() + 3 * own.row);
  copy_columns(needs, stored, ghosts);
}

void GroupLocal::copy_columns(const Needs& needs, double* const* stored,
                              const std::vector<double>& ghosts) {
  const std::size_t n = members_.size();
  atoms_.v.resize(needs.v ? 3 * n : 0);
  atoms_.f.resize(needs.f ? 3 * n : 0);
  atoms_.types.resize(needs.types ? n : 0);
  for (std::size_t m = 0; m < n; ++m) {
    const int i = members_[m];
    const bool ghost = i >= atom->nlocal;
    const double* received = ghosts.data() + (ghost ? 6 * static_cast<std::size_t>(i) : 0);
    if (needs.v) std::copy_n(ghost ? received : atom->v[i], 3, atoms_.v.data() + 3 * m);
    if (needs.f) std::copy_n(ghost ? received + 3 : atom->f[i], 3, atoms_.f.data() + 3 * m);
    if (needs.types) atoms_.types[m] = atom->type[i];
  }
  const auto width = static_cast<std::size_t>(needs.stored);
  atoms_.stored.resize(width * owned_.size());
  for (const OwnedRow& own : owned_)
    std::copy_n(stored ? stored[own.local] : nullptr, width,
                atoms_.stored.data() + width * static_cast<std::size_t>(own.row));
}

}  // namespace mlmod
