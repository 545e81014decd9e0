#pragma once

#include <vector>

#include "modes/configuration.h"
#include "pointers.h"

namespace mlmod {

/// Brings all atoms of a group to every rank, in the order of their ids.
class GroupGather : protected LAMMPS_NS::Pointers {
 public:
  struct Own {
    int local;         ///< index of an owned atom
    std::int64_t row;  ///< its place in the configuration
  };

  explicit GroupGather(LAMMPS_NS::LAMMPS* lmp) : Pointers(lmp) {}

  /// Collective. `force(i)` points at the three components of owned atom i.
  template <class Force>
  void collect(int groupbit, Force&& force) {
    begin();
    for (int i = 0; i < local_count(); ++i)
      if (in_group(i, groupbit)) add(i, force(i));
    exchange();
  }

  mlcore::Cell cell() const;
  const Configuration& configuration() const { return configuration_; }
  const std::vector<Own>& own() const { return own_; }

 private:
  static constexpr int kWidth = 7;  ///< id, x, f

  int local_count() const;
  bool in_group(int local, int groupbit) const;
  void begin();
  void add(int local, const double* force);
  void exchange();

  Configuration configuration_;
  std::vector<Own> own_;
  std::vector<double> mine_, all_;
};

}  // namespace mlmod
