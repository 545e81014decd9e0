#pragma once

#include <string>
#include <vector>

namespace mlmod {

/// Contents of a bundle folder of kind "mobility".
struct Bundle {
  std::string folder;
  std::string kernel;  ///< "none" or "rpy"
  double radius = 1, viscosity = 1;
  double self_mobility = 0;
  double cutoff = 0;
  std::string length_unit, energy_unit, time_unit;
  std::vector<double> par, dpar, perp, dperp;  ///< on uniform knots from 0 to cutoff
};

/// Reads and checks DIR/manifest.json, the hashes of the files it lists and
/// DIR/weights.safetensors.
/// Throws std::runtime_error naming the file and the field.
Bundle read_bundle(const std::string& folder);

}  // namespace mlmod
