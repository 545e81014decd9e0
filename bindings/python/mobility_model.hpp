#pragma once

#include <optional>

#include "arrays.hpp"
#include "mlcore/mobility.hpp"

namespace mlcore::python {

/// A MobilityModel and the NumPy arrays its table and radii look into. Python sees it as
/// `mlcore._core.MobilityModel`; other operations take it from there.
struct OwnedMobilityModel {
  MobilityModel model;
  Array<double> par, dpar, perp, dperp, radii;
};

}  // namespace mlcore::python
