#pragma once

// The obvious slow version: the oracle of the tests and of `mlcore.reference`.

#include "mlcore/dynamics.hpp"

namespace mlcore::reference {

/// force_field, every pair and image by the formula.
MLCORE_API double force_field(const ForceField& field, const Cell& cell, View<const double, 2> x,
                              View<double, 2> F);

/// One replica, brownian step by step on the reference mobility, noise and random numbers.
/// frames (T, n, 3), the first is the start. options.max_displacement and psd are not looked at.
MLCORE_API void brownian(const MobilityModel& model, const Cell& cell, const ForceField& field,
                         const BrownianOptions& options, View<double, 3> frames);

}  // namespace mlcore::reference
