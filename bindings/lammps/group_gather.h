#pragma once

#include <vector>

#include "group_atoms.h"

namespace mlmod {

/// Brings all atoms of a group to every rank, in the order of their ids.
class GroupGather : public GroupAtoms {
 public:
  using GroupAtoms::GroupAtoms;

  /// Collective. `stored[i]` holds the numbers kept with owned atom i, `beside` those that other
  /// fixes keep. Throws std::runtime_error on all ranks when there are more atoms than MPI counts.
  void collect(int groupbit, const Needs& needs, double* const* stored,
               const std::vector<AtomColumns>& beside = {});

  const Configuration& configuration() const { return configuration_; }

 private:
  void add(int local, const Needs& needs, const double* stored,
           const std::vector<AtomColumns>& beside);
  std::size_t exchange();
  std::vector<std::size_t> order(bool by_id) const;
  void unpack(const Needs& needs, const std::vector<std::size_t>& order);

  Configuration configuration_;
  std::size_t beside_ = 0;  ///< numbers per atom of other fixes
  std::size_t width_ = 0;   ///< numbers per atom: id, x, and what the mode asks for
  std::vector<double> mine_, all_;
};

}  // namespace mlmod
