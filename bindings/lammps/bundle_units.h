#pragma once

#include <array>
#include <string>

namespace mlmod {

/// Units of length, energy and time as a bundle's manifest names them, against LAMMPS' unit style.
/// Throws std::runtime_error when one of them is another of LAMMPS' styles; other names are free.
void check_units(const std::string& folder, const std::array<std::string, 3>& units,
                 const std::string& style);

}  // namespace mlmod
