#pragma once

#include <array>
#include <cstdint>

#include "mlcore/cell.hpp"
#include "mlcore/context.hpp"
#include "mlcore/mobility.hpp"
#include "mlcore/noise.hpp"
#include "mlcore/view.hpp"

namespace mlcore {

/// Energy of a pair at the distance r below `cutoff`, shifted to zero there; the force is cut off,
/// not smoothed. In periodic boxes every image within the cutoff counts.
struct PairForce {
  enum class Kind : int {
    yukawa = 0,         ///< strength exp(-r / length) / r
    lennard_jones = 1,  ///< 4 strength ((length / r)^12 - (length / r)^6)
  };
  Kind kind = Kind::yukawa;
  double strength = 0;
  double length = 1;
  double cutoff = 0;
};

/// Sum of external and pair forces.
struct ForceField {
  View<const double, 2> constant;  ///< (n, 3) force on each particle; empty: none
  double stiffness = 0;            ///< harmonic trap: -stiffness (x - centre), unwrapped x
  View<const double, 2> centres;   ///< (1, 3) one centre, or (n, 3) one each; empty: the origin
  View<const PairForce, 1> pairs;  ///< summed
};

/// Forces F (n, 3) at x (n, 3); returns the potential energy (a constant force has -F . x).
/// @throws InvalidArgument  a shape or parameter is wrong, x is not finite
MLCORE_API double force_field(const Context& context, const ForceField& field, const Cell& cell,
                              View<const double, 2> x, View<double, 2> F);

enum class Scheme : int {
  /// x += dt (M F + kT div M) + sqrt(2 kT dt) L xi, everything at the start of the step
  /// (Ermak and McCammon, J. Chem. Phys. 69, 1352 (1978)).
  euler_maruyama = 0,
  /// Half a step to x', then x += dt M' F' + sqrt(2 kT dt) M' L^-T xi with the same xi: the drift
  /// kT div M comes out by itself (Fixman, J. Chem. Phys. 69, 1527 (1978)).
  midpoint = 1,
};

struct BrownianOptions {
  double dt = 0;           ///< > 0
  double kT = 1;           ///< >= 0
  std::int64_t every = 1;  ///< steps between frames, >= 1
  bool drift = true;       ///< false drops kT div M (euler_maruyama only): wrong on purpose
  Scheme scheme = Scheme::euler_maruyama;
  std::uint64_t seed = 0;
  std::uint32_t stream = 0;  ///< replica r uses stream + r
  Indefinite psd = Indefinite::error;
  /// Longest step a particle may take, else the run has blown up; 0: the longest pair cutoff, or
  /// no limit without pair forces.
  double max_displacement = 0;
};

/// Overdamped Brownian motion: fills frames first + 1 .. last from frame `first`.
///
/// Step k (counted from frame 0, which is step 0) uses random_normal(seed, stream + replica, k,
/// tags 0..n-1), so a trajectory may be made in pieces and does not depend on the thread count.
/// Replicas run in parallel.
///
/// @param frames  R trajectories of T frames: (R, T, n, 3), unwrapped coordinates
/// @throws InvalidArgument      a parameter or shape is wrong
/// @throws NotPositiveDefinite  the mobility has no square root somewhere on the way
/// @throws Error                a position became NaN or a step too long, naming replica, step and
///                              particle
MLCORE_API void brownian(const Context& context, const MobilityModel& model, const Cell& cell,
                         const ForceField& field, const BrownianOptions& options,
                         View<double, 4> frames, std::int64_t first, std::int64_t last);

}  // namespace mlcore
