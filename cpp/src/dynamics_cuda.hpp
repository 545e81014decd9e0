#pragma once

// The CUDA side of dynamics: cuda/dynamics.cu, or cuda/stub.cpp without nvcc. Arguments are
// checked, but for values on the GPU.

#include <array>
#include <vector>

#include "mlcore/dynamics.hpp"

namespace mlcore::cuda {

constexpr int kMostStages = 17;

/// Weights of the drifts and kicks of one step, in units of dt.
struct VerletStages {
  int count;
  double drift[kMostStages], kick[kMostStages + 1];
};

void verlet(const Context& context, const ParticleSystem& system, const VerletOptions& options,
            const VerletStages& stages, View<const double, 2> masses, View<double, 4> positions,
            View<double, 4> velocities, View<double, 3> energies, std::int64_t first,
            std::int64_t last);

/// Forces (empty: not wanted) and energies (empty: likewise) of a system; x is not checked.
void system_forces(const Context& context, const ParticleSystem& system, View<const double, 3> x,
                   View<double, 3> F, View<double, 1> energies);
void system_force_gradient(const Context& context, const ParticleSystem& system,
                           View<const double, 3> x, View<const double, 3> g,
                           View<double, 3> product);

struct PairPlan {
  PairForce force;
  std::array<int, 3> reach;  // images beyond the wrapped one that may lie within the cutoff
  double energy_at_cutoff;
};

/// A checked field; its views lie in CPU memory.
struct ForcePlan {
  ForceField field;
  Cell cell;  // completed
  std::array<double, 9> inverse_rows;
  std::vector<PairPlan> pairs;
};

double force_field(const Context& context, const ForcePlan& plan, const Cell& cell,
                   View<const double, 2> x, View<double, 2> F);

/// @param limit  longest step a particle may take
void brownian(const Context& context, const MobilityModel& model, const Cell& cell,
              const ForcePlan& plan, const BrownianOptions& options, double limit,
              View<double, 4> frames, std::int64_t first, std::int64_t last);

}  // namespace mlcore::cuda
