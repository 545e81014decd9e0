#pragma once

#include <vector>

#include "group_atoms.h"

namespace mlmod {

/// The group's atoms on this rank and, for modes with a cutoff, ghosts and candidates.
class GroupLocal : public GroupAtoms {
 public:
  using GroupAtoms::GroupAtoms;

  /// Makes members and candidates anew; LAMMPS has just reneighbored.
  /// Throws std::runtime_error when ghosts do not reach as far as cutoff + skin.
  void reneighbor(int groupbit, double cutoff);

  /// Present values of the members. `ghost(i)` gives velocity and force of ghost atom i, see
  /// FixModel; without a cutoff the members are found anew.
  void collect(int groupbit, const Needs& needs, double* const* stored,
               const std::vector<double>& ghosts);

  const LocalAtoms& atoms() const { return atoms_; }
  const std::vector<int>& members() const { return members_; }

 private:
  void find_members(int groupbit, int count);
  void find_candidates(double reach);
  void check_reach(double cutoff) const;
  void copy_columns(const Needs& needs, double* const* stored, const std::vector<double>& ghosts);

  LocalAtoms atoms_;
  std::vector<int> members_;  ///< local index of each member
};

}  // namespace mlmod
