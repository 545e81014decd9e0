#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "mlcore/cell.hpp"

namespace mlmod {

/// What another fix of the simulation shows.
struct Shown {
  std::string mode;  ///< "force", "qoi", ... of fix mlcore; empty: a fix of another style
  std::optional<double> scalar;
  std::vector<double> vector;
  int spreads = 0;            ///< the last so many numbers of the vector are a committee's spread
  std::vector<double> array;  ///< (array size / columns, columns)
  int columns = 0;
  int per_atom = 0;        ///< numbers for each atom
  std::int64_t every = 1;  ///< steps between new values
};

/// Another fix that may change the forces.
struct ForceFix {
  std::string id, style;
  bool later = false;  ///< made after the fix that asks
};

/// What is known of the simulation when a fix is made, and how to speak to its user.
struct Surroundings {
  std::string fix_id;
  std::string units;
  mlcore::Cell cell;
  std::array<double, 3> origin{};  ///< lower corner of the box
  double boltzmann = 1;            ///< energy per temperature
  int types = 0;                   ///< number of atom types
  bool all_atoms = false;          ///< the fix acts on the group all
  int rank = 0, ranks = 1;
  std::function<void(const std::string&)> warn;  ///< printed once, by rank 0
  std::function<void(const std::string&)> log;   ///< printed once, by rank 0

  /// Present value of an equal-style variable. Throws when there is none of that name.
  std::function<double(const std::string&)> variable;

  /// What the fix of this id shows, with its present values or without; to be called on all ranks.
  /// Throws when there is none.
  std::function<Shown(const std::string& id, bool values)> fix;
  /// The other fixes that may change the forces.
  std::function<std::vector<ForceFix>()> force_fixes;
  /// Potential energy of all atoms; to be called on all ranks. Tells that it is wanted at `next`.
  std::function<double(std::int64_t next)> potential_energy;
};

}  // namespace mlmod
