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

/// Forces and potential energy of a system at x (n, d), every pair and image by the formula.
MLCORE_API double system_forces(const ParticleSystem& system, View<const double, 2> x,
                                View<double, 2> F);

/// One replica, velocity Verlet step by step (options.integrator is not looked at): masses (n,),
/// positions and velocities (T, n, d), the first is the start; energies (T, 2). Specular walls are
/// followed bounce by bounce.
MLCORE_API void verlet(const ParticleSystem& system, const VerletOptions& options,
                       View<const double, 1> masses, View<double, 3> positions,
                       View<double, 3> velocities, View<double, 2> energies);

}  // namespace mlcore::reference
