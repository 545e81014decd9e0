#pragma once

// Parts of the derivatives of mobilities that several files share.

#include <array>
#include <vector>

#include "mobility_particles.hpp"

namespace mlcore::detail {

/// Sum over the particles of what multiplies M_ii: xx xy xz yy yz zz, off-diagonals counted twice.
using SelfWeight = std::array<double, 6>;

/// Parameters' derivatives of one configuration.
struct ParameterSums {
  double value = 0;  // of the analytic kernel
  SelfWeight self{};
  std::vector<double> radius;
};

/// What the wave part adds to the derivatives of sum G . M F.
struct WaveGradients {
  double value = 0;   // sum G . (wave part) F
  double radius = 0;  // its derivative in the radius
};

/// Adds the derivative in the positions to X.
WaveGradients add_wave_gradients(const Context& context, const MobilityModel& model,
                                 const MobilityPlan& plan, const Particles& particles,
                                 View<const double, 2> F, View<const double, 2> G,
                                 View<double, 2> X);

/// Adds the change of the velocities along the motion H.
void add_wave_tangents(const Context& context, const MobilityPlan& plan, const Particles& particles,
                       View<const double, 2> F, View<const double, 2> H, View<double, 2> dV);

/// Adds the change of the derivative in the positions along the motion H.
void add_wave_hessian(const Context& context, const MobilityPlan& plan, const Particles& particles,
                      View<const double, 2> F, View<const double, 2> G, View<const double, 2> H,
                      View<double, 2> dX);

}  // namespace mlcore::detail
