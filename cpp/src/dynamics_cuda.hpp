#pragma once

// The CUDA side of dynamics: cuda/dynamics.cu, or cuda/stub.cpp without nvcc. Arguments are
// checked, but for values on the GPU.

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

}  // namespace mlcore::cuda
