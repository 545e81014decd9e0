#pragma once

#include <array>
#include <functional>
#include <string>

#include "mlcore/cell.hpp"

namespace mlmod {

/// What is known of the simulation when a fix is made, and how to speak to its user.
struct Surroundings {
  std::string fix_id;
  std::string units;
  mlcore::Cell cell;
  std::array<double, 3> origin{};  ///< lower corner of the box
  double boltzmann = 1;            ///< energy per temperature
  int types = 0;                   ///< number of atom types
  int rank = 0, ranks = 1;
  std::function<void(const std::string&)> warn;  ///< printed once, by rank 0
  std::function<void(const std::string&)> log;   ///< printed once, by rank 0

  /// Present value of an equal-style variable. Throws when there is none of that name.
  std::function<double(const std::string&)> variable;
};

}  // namespace mlmod
