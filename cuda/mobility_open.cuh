#pragma once

// Mobilities in open space without a table, on the GPU; mirrors cpp/src/mobility_open.cpp.

#include "mlcore/mobility.hpp"

namespace mlcore::cuda {

constexpr unsigned long long kNone = ~0ull;

/// Where a kernel writes down what is wrong with its input.
struct Faults {
  unsigned long long position, force, coincidence, height;  // lowest index, kNone: none
};
constexpr Faults kNoFaults{kNone, kNone, kNone, kNone};

/// Powers of larger positions overflow; see check_positions in mobility_open.hpp.
template <class Real>
constexpr Real kLargestPosition = static_cast<Real>(sizeof(Real) == 4 ? 1e15 : 1e100);

/// Waits for the stream and throws what its kernels found; n: particles in a configuration.
void finish(const Faults* faults, const MobilityModel& model, std::int64_t n, void* stream);

/// Fills M, or adds to it. All views are on the GPU.
template <class Real>
void open_matrix(const Context& context, const MobilityModel& model, View<const Real, 3> x,
                 View<Real, 3> M, bool add, int device);

/// Fills V, or adds to it.
template <class Real>
void open_apply(const Context& context, const MobilityModel& model, View<const Real, 3> x,
                View<const Real, 3> F, View<Real, 3> V, bool add, int device);

/// Adds the divergence of the kernel to D.
template <class Real>
void add_open_divergence(const Context& context, const MobilityModel& model, View<const Real, 3> x,
                         View<Real, 3> D, int device);

}  // namespace mlcore::cuda
